#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "ufm_fast/base/parallel.hpp"
#include "ufm_fast/base/workspace.hpp"
#include "ufm_fast/blas/blas.hpp"

namespace ufm_fast {

/// The sum of X^T X over matrices X with d columns, in double; each product is taken in the type of X, at the speed of
/// that type's SYRK and GEMM. Only the diagonal and what lies above it are kept up. Memory: d x d doubles, and in `add`
/// d x d numbers of T or, where that is more, 2 block x block a thread. The same number of threads gives the same bits.
class ScatterSum {
 public:
  static constexpr Index block = 512;                // columns of a product, at most
  static constexpr Index least_rows_of_slice = 128;  // rows that are worth a task of their own

  explicit ScatterSum(Index d) : d_(d), sum_(static_cast<std::size_t>(d * d), 0.0) {}

  /// Whether products of rows with this sum of squares stay in the range of T.
  template <class T>
  static bool in_range(double squares) {
    return sizeof(T) == sizeof(double) || squares == 0 || (squares > 0x1p-60 && squares < 0x1p100);
  }

  /// Adds X^T X, where the squares of X sum to `squares`. An X whose products would leave the range of T is first
  /// divided by a power of two, in place.
  template <class T>
  void add_scaled(MatrixView<T> X, double squares, const Execution& execution) {
    const int exponent = in_range<T>(squares) ? 0 : std::ilogb(squares) / 2;
    if (exponent != 0) Vector<T>(X.data, X.rows * d_) *= static_cast<T>(std::ldexp(1.0, -exponent));
    add<T>(X, std::ldexp(1.0, 2 * exponent), execution);
  }

  /// Adds factor X^T X: by pairs of blocks of columns and, so that none of these tasks is more than a thread's share,
  /// by slices of rows.
  template <class T>
  void add(MatrixView<const T> X, double factor, const Execution& execution) {
    const int threads = X.rows * d_ * d_ <= small_product ? 1 : execution.threads;
    const Index blocks = (d_ + block - 1) / block, pairs = blocks * (blocks + 1) / 2;
    const Index largest = blocks > 1 ? 2 : 1, all = blocks * blocks;  // work, in blocks on the diagonal
    const Index slices =
        std::max<Index>(1, std::min<Index>((largest * threads + all - 1) / all, X.rows / least_rows_of_slice));
    const Workspace<T> products(slices * d_ * d_);
    const int workers = worker_count(slices * pairs, threads);
    std::atomic<Index> next{workers};
    parallel_ranges(workers, workers, execution.poll, [&](int worker, Index, Index, Interruption& stop) {
      for (Index task = worker; task < slices * pairs; task = next++) {
        stop.check(worker);
        const Index slice = task % slices, first = X.rows * slice / slices;
        const MatrixView<const T> rows = X.block(first, X.rows * (slice + 1) / slices - first);
        multiply_blocks<T>(rows, blocks, task / slices, products.data() + slice * d_ * d_);
      }
    });
    add_products(products.data(), slices, factor, workers, execution);
  }

  /// Adds factor times the sum of `count` products (d, d).
  template <class T>
  void add_products(const T* products, Index count, double factor, int workers, const Execution& execution) {
    parallel_ranges(workers, workers, execution.poll, [&](int worker, Index, Index, Interruption&) {
      for (Index row = worker; row < d_; row += workers) {
        Vector<double> sum(&sum_[row * d_ + row], d_ - row);
        for (Index k = 0; k < count; ++k) {
          sum += factor * ConstVector<T>(products + (k * d_ + row) * d_ + row, d_ - row).template cast<double>();
        }
      }
    });
  }

  void add(const ScatterSum& other) {
    Vector<double>(sum_.data(), d_ * d_) += ConstVector<double>(other.sum_.data(), d_ * d_);
  }

  /// The sum (d, d), whose lower half is zero.
  std::vector<double>& numbers() { return sum_; }

  /// out (d, d) = the sum, both its halves.
  void read(MatrixView<double> out) const {
    for (Index i = 0; i < d_; ++i) {
      for (Index j = 0; j < d_; ++j) out.row(i)[j] = sum_[std::min(i, j) * d_ + std::max(i, j)];
    }
  }

 private:
  Index d_;
  std::vector<double> sum_;

  /// One pair of `blocks` blocks of columns of X: writes the part of X^T X that belongs to it to `product` (d, d).
  template <class T>
  void multiply_blocks(MatrixView<const T> X, Index blocks, Index pair, T* product) const {
    const Index off_diagonal = blocks * (blocks - 1) / 2, width = (d_ + blocks - 1) / blocks;
    Index i = 0, j = pair;  // pairs of different blocks, which take twice the work, come first
    if (pair < off_diagonal) {
      for (; j >= blocks - 1 - i; ++i) j -= blocks - 1 - i;
      j += i + 1;
    } else {
      i = j = pair - off_diagonal;
    }
    const Index top = i * width, left = j * width;
    const Index rows = std::min(width, d_ - top), cols = std::min(width, d_ - left);
    const MatrixView<const T> x(X.data + top, X.rows, rows, X.stride), y(X.data + left, X.rows, cols, X.stride);
    const MatrixView<T> out(product + top * d_ + left, rows, cols, d_);
    if (i == j) {
      gram<T>(x, 0, out);
    } else {
      gemm<T>(Op::transpose, Op::none, 1, x, y, 0, out);
    }
  }
};

}  // namespace ufm_fast
