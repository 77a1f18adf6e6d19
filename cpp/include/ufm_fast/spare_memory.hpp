#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <deque>
#include <iterator>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace ufm_fast::memory {

// Large blocks of memory, aligned for packets. A freed block is kept for the next of the same size: a system clears the
// memory that it hands out, which takes up to an eighth of the time of the products that the memory is for.

inline constexpr std::size_t large = std::size_t{1} << 15;       // bytes of the smallest block that is kept
inline constexpr std::size_t most_spare = std::size_t{1} << 28;  // bytes kept at a time; the oldest go first
inline constexpr std::size_t most_blocks = 256;                  // kept at a time: they are looked through

struct Block {
  void* data;
  std::size_t bytes;
};

/// The freed blocks of the process.
class Spare {
 public:
  static Spare& instance() {
    static Spare* const spare = new Spare;  // never destroyed: blocks may be freed while the process ends
    return *spare;
  }

  /// A block of this size, or null.
  void* take(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
      if (block->bytes != bytes) continue;
      void* const data = block->data;
      bytes_ -= bytes;
      blocks_.erase(std::next(block).base());
      return data;
    }
    return nullptr;
  }

  void keep(Block block) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      blocks_.push_back(block);
    } catch (const std::bad_alloc&) {
      return Eigen::internal::aligned_free(block.data);
    }
    bytes_ += block.bytes;
    while (bytes_ > most_spare || blocks_.size() > most_blocks) {
      bytes_ -= blocks_.front().bytes;
      Eigen::internal::aligned_free(blocks_.front().data);
      blocks_.pop_front();
    }
  }

 private:
  std::mutex mutex_;
  std::deque<Block> blocks_;
  std::size_t bytes_ = 0;
};

/// Asks for large pages, which are cheaper to place and to look up.
inline void advise_large_pages([[maybe_unused]] Block block) {
#ifdef __linux__
  constexpr std::size_t page = 4096, enough = std::size_t{1} << 22;
  if (block.bytes < enough) return;
  const std::size_t ahead = (page - reinterpret_cast<std::uintptr_t>(block.data) % page) % page;
  madvise(static_cast<char*>(block.data) + ahead, (block.bytes - ahead) / page * page, MADV_HUGEPAGE);
#endif
}

inline void* allocate(std::size_t bytes) {
  if (bytes >= large) {
    if (void* const spare = Spare::instance().take(bytes)) return spare;
  }
  void* const data = Eigen::internal::aligned_malloc(bytes);
  advise_large_pages({data, bytes});
  return data;
}

inline void release(void* data, std::size_t bytes) {
  if (bytes >= large && bytes <= most_spare) {
    Spare::instance().keep({data, bytes});
  } else {
    Eigen::internal::aligned_free(data);
  }
}

}  // namespace ufm_fast::memory
