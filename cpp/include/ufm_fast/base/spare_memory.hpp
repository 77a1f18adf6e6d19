#pragma once

#include <cstddef>
#include <deque>
#include <iterator>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "ufm_fast/base/visible.hpp"

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

inline void* aligned(std::size_t bytes) { return ::operator new(bytes, std::align_val_t(64)); }  // for any packets
inline void give_back_aligned(void* data) { ::operator delete(data, std::align_val_t(64)); }

#ifdef __linux__
/// A large block comes from the system itself and not from malloc, which can give memory back to the system only where
/// nothing above it is still in use.
inline void* fresh(std::size_t bytes) {
  if (bytes < large) return aligned(bytes);
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  constexpr std::size_t enough = std::size_t{1} << 22;  // for large pages, which are cheaper to place and to look up
  if (bytes >= enough) madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

inline void give_back(Block block) {
  if (block.bytes < large) {
    give_back_aligned(block.data);
  } else {
    munmap(block.data, block.bytes);
  }
}
#else
inline void* fresh(std::size_t bytes) { return aligned(bytes); }
inline void give_back(Block block) { give_back_aligned(block.data); }
#endif

/// The freed blocks of the process.
class Spare {
 public:
  UFM_FAST_VISIBLE static Spare& instance() {
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
      return give_back(block);
    }
    bytes_ += block.bytes;
    while (bytes_ > most_spare || blocks_.size() > most_blocks) {
      bytes_ -= blocks_.front().bytes;
      give_back(blocks_.front());
      blocks_.pop_front();
    }
  }

 private:
  std::mutex mutex_;
  std::deque<Block> blocks_;
  std::size_t bytes_ = 0;
};

inline void* allocate(std::size_t bytes) {
  if (bytes >= large) {
    if (void* const spare = Spare::instance().take(bytes)) return spare;
  }
  return fresh(bytes);
}

inline void release(void* data, std::size_t bytes) {
  if (bytes >= large && bytes <= most_spare) {
    Spare::instance().keep({data, bytes});
  } else {
    give_back({data, bytes});
  }
}

}  // namespace ufm_fast::memory
