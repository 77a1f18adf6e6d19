#pragma once

#include "ufm_fast/base/parallel.hpp"
#include "ufm_fast/simd/packets.hpp"

namespace ufm_fast {

/// to = from^T. They must not overlap.
template <class T>
void transpose(MatrixView<const T> from, MatrixView<T> to) {
  constexpr Index side = simd::lanes<T>;
  const Index full_rows = from.rows / side * side, full_cols = from.cols / side * side;
  for (Index i = 0; i < full_rows; i += side) {
    for (Index j = 0; j < full_cols; j += side) {
      simd::transpose_square(from.row(i) + j, from.stride, to.row(j) + i, to.stride);
    }
  }
  for (Index i = 0; i < from.rows; ++i) {
    for (Index j = i < full_rows ? full_cols : 0; j < from.cols; ++j) to.row(j)[i] = from.row(i)[j];
  }
}

/// The same for very many rows, split over threads.
template <class T>
void parallel_transpose(MatrixView<const T> from, MatrixView<T> to, const Execution& execution) {
  const int workers = worker_count((from.rows + 1023) / 1024, execution.threads);
  parallel_ranges(from.rows, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
    transpose<T>(from.block(first, last - first), {to.data + first, to.rows, last - first, to.stride});
  });
}

}  // namespace ufm_fast
