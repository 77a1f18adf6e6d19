#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "ufm_fast/base/parallel.hpp"
#include "ufm_fast/blas/blas.hpp"
#include "ufm_fast/blas/transpose.hpp"

namespace ufm_fast {

/// Columns [first, last) of a matrix.
template <class T>
MatrixView<T> columns(MatrixView<T> a, Index first, Index last) {
  return {a.data + first, a.rows, last - first, a.stride};
}

/// C = alpha op(A) op(B) + beta C, the rows of C split over threads; each does some at a time, to be asked in between
/// whether to stop.
template <class T>
void parallel_gemm(Op op_a, Op op_b, T alpha, MatrixView<const T> a, MatrixView<const T> b, T beta, MatrixView<T> c,
                   const Execution& execution) {
  constexpr double most = 2e9;  // multiplications between questions: some tenths of a second
  const int workers = worker_count((c.rows + 15) / 16, execution.threads);
  const double row = static_cast<double>(c.cols) * static_cast<double>(op_a == Op::none ? a.cols : a.rows);
  const Index step = std::max<Index>(256, static_cast<Index>(most / std::max(1.0, row)) / 16 * 16);
  parallel_ranges(c.rows, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for (Index i = first; i < last; i += step) {
      stop.check(worker);
      const Index rows = std::min(step, last - i);
      const MatrixView<const T> part = op_a == Op::none ? a.block(i, rows) : columns(a, i, i + rows);
      gemm<T>(op_a, op_b, alpha, part, b, beta, c.block(i, rows));
    }
  });
}

/// C = X^T X: blocks on and above the diagonal, each then copied to its mirror image. The bits do not depend on the
/// number of threads.
template <class T>
void parallel_gram(MatrixView<const T> x, MatrixView<T> c, const Execution& execution) {
  constexpr Index edge = 256;
  std::vector<std::pair<Index, Index>> blocks;
  for (Index i = 0; i < c.rows; i += edge) {
    for (Index j = i; j < c.rows; j += edge) blocks.emplace_back(i, j);
  }
  const Index count = static_cast<Index>(blocks.size());
  const int workers = worker_count(count, execution.threads);
  parallel_ranges(count, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for (Index block = first; block < last; ++block) {
      stop.check(worker);
      const auto [i, j] = blocks[block];
      const Index rows = std::min(edge, c.rows - i), cols = std::min(edge, c.rows - j);
      const MatrixView<const T> left = columns(x, i, i + rows), right = columns(x, j, j + cols);
      const MatrixView<T> upper(c.row(i) + j, rows, cols, c.stride), lower(c.row(j) + i, cols, rows, c.stride);
      if (i < j) {
        gemm<T>(Op::transpose, Op::none, 1, left, right, 0, upper);
        transpose<T>(upper, lower);
      } else {
        gram<T>(left, 0, upper);
        for (Index k = 0; k < cols; ++k) {
          for (Index l = 0; l < k; ++l) lower.row(k)[l] = upper.row(l)[k];
        }
      }
    }
  });
}

}  // namespace ufm_fast
