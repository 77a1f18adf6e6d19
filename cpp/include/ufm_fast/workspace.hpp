#pragma once

#include <Eigen/Core>
#include <memory>

#include "matrix.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace ufm_fast {

/// An uninitialised, aligned array of numbers: the worker that writes it first places its pages. Large ones ask for
/// large pages, which are cheaper to place and to look up.
template <class T>
class Workspace {
 public:
  explicit Workspace(Index size) : data_(Eigen::internal::aligned_new<T>(static_cast<std::size_t>(size)), Free{size}) {
#ifdef __linux__
    constexpr std::size_t page = 4096, large = std::size_t{1} << 22;
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
    if (bytes >= large) {
      const std::size_t ahead = (page - reinterpret_cast<std::uintptr_t>(data()) % page) % page;
      madvise(reinterpret_cast<char*>(data()) + ahead, (bytes - ahead) / page * page, MADV_HUGEPAGE);
    }
#endif
  }
  T* data() const { return data_.get(); }

 private:
  struct Free {
    Index size;
    void operator()(T* p) const { Eigen::internal::aligned_delete(p, static_cast<std::size_t>(size)); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace ufm_fast
