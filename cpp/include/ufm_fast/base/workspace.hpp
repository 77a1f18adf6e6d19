#pragma once

#include <memory>

#include "ufm_fast/base/matrix_view.hpp"
#include "ufm_fast/base/spare_memory.hpp"

namespace ufm_fast {

/// An aligned array of numbers. It is not initialised: the system places its pages near the thread that writes them
/// first.
template <class T>
class Workspace {
 public:
  explicit Workspace(Index size) : data_(static_cast<T*>(memory::allocate(bytes(size))), Free{bytes(size)}) {}
  T* data() const { return data_.get(); }

 private:
  struct Free {
    std::size_t bytes;
    void operator()(T* p) const { memory::release(p, bytes); }
  };
  std::unique_ptr<T, Free> data_;

  static std::size_t bytes(Index size) {
    Eigen::internal::check_size_for_overflow<T>(static_cast<std::size_t>(size));
    return static_cast<std::size_t>(size) * sizeof(T);
  }
};

}  // namespace ufm_fast
