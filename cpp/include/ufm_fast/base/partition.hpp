#pragma once

#include <algorithm>

#include "ufm_fast/base/matrix_view.hpp"

namespace ufm_fast {

/// The numbers from 0 to `size` divided into the fewest pieces of at most `most`, of nearly equal length, in multiples
/// of `unit`.
class Partition {
 public:
  Partition(Index size, Index most, Index unit)
      : size_(size), unit_(unit), count_(std::max<Index>(1, (size + most - 1) / most)) {}
  Index count() const { return count_; }
  Index begin(Index i) const { return std::min(size_, (size_ + unit_ - 1) / unit_ * i / count_ * unit_); }
  Index length(Index i) const { return begin(i + 1) - begin(i); }

 private:
  Index size_, unit_, count_;
};

}  // namespace ufm_fast
