#pragma once

#include <vector>

#include "ufm_fast/blas/products.hpp"

namespace ufm_fast {

// Products of matrices with few rows and very many columns: sets of vectors, one a row.

namespace detail {

inline int column_workers(Index size, const Execution& execution) {
  return worker_count((size + (Index{1} << 14) - 1) >> 14, execution.threads);
}

}  // namespace detail

/// X Y^T (x, y) for X (x, n) and Y (y, n): all inner products. The same thread count gives the same bits.
template <class T>
std::vector<T> inner_products(MatrixView<const T> X, MatrixView<const T> Y, const Execution& execution) {
  const int workers = detail::column_workers(X.cols, execution);
  const Index size = X.rows * Y.rows;
  std::vector<T> parts(static_cast<std::size_t>(workers * size));
  parallel_ranges(X.cols, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    gemm<T>(Op::none, Op::transpose, 1, columns(X, first, last), columns(Y, first, last), 0,
            MatrixView<T>(parts.data() + worker * size, X.rows, Y.rows));
  });
  for (int worker = 1; worker < workers; ++worker) {
    Vector<T>(parts.data(), size) += ConstVector<T>(parts.data() + worker * size, size);
  }
  parts.resize(static_cast<std::size_t>(size));
  return parts;
}

/// out (c, n) = alpha C X + beta out for C (c, x) and X (x, n).
template <class T>
void combine(T alpha, MatrixView<const T> C, MatrixView<const T> X, T beta, MatrixView<T> out,
             const Execution& execution) {
  const int workers = detail::column_workers(X.cols, execution);
  parallel_ranges(X.cols, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
    gemm<T>(Op::none, Op::none, alpha, C, columns(X, first, last), beta, columns(out, first, last));
  });
}

/// The first rows of X become C X, for C (c, x) with c <= x. Memory: c rows of 2048 numbers per thread.
template <class T>
void combine_in_place(MatrixView<const T> C, MatrixView<T> X, const Execution& execution) {
  const int workers = detail::column_workers(X.cols, execution);
  parallel_ranges(X.cols, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
    constexpr Index width = 2048;
    std::vector<T> buffer(static_cast<std::size_t>(C.rows * width));
    for (Index begin = first; begin < last; begin += width) {
      const Index end = std::min(last, begin + width);
      const MatrixView<T> result(buffer.data(), C.rows, end - begin);
      const MatrixView<T> part = columns(X, begin, end);
      gemm<T>(Op::none, Op::none, 1, C, part, 0, result);
      for (Index i = 0; i < C.rows; ++i) Vector<T>(part.row(i), end - begin) = Vector<T>(result.row(i), end - begin);
    }
  });
}

namespace detail {

/// Numbers of each vector that a pass over several vectors takes at a time.
constexpr Index stretch = 1024;

}  // namespace detail

/// X_i . Y_j (x, y) of two lists of vectors of n numbers, in one pass over all.
template <class T>
std::vector<double> inner_products(const std::vector<const T*>& X, const std::vector<const T*>& Y, Index n,
                                   const Execution& execution) {
  const int workers = detail::column_workers(n, execution);
  const std::size_t size = X.size() * Y.size();
  std::vector<std::vector<double>> parts(workers, std::vector<double>(size, 0.0));
  parallel_ranges(n, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    std::vector<double> sums(size, 0.0);
    for (Index begin = first; begin < last; begin += detail::stretch) {
      const Index count = std::min(detail::stretch, last - begin);
      for (std::size_t i = 0; i < X.size(); ++i) {
        const ConstVector<T> x(X[i] + begin, count);
        for (std::size_t j = 0; j < Y.size(); ++j) {
          sums[i * Y.size() + j] += double((x * ConstVector<T>(Y[j] + begin, count)).sum());
        }
      }
    }
    parts[worker] = std::move(sums);
  });
  for (int worker = 1; worker < workers; ++worker) {
    for (std::size_t i = 0; i < size; ++i) parts[0][i] += parts[worker][i];
  }
  return parts[0];
}

/// out = sum_i coefficients_i X_i of vectors of n numbers, in one pass over all; out may be one of them.
template <class T>
void combine(const std::vector<T>& coefficients, const std::vector<const T*>& X, Index n, T* out,
             const Execution& execution) {
  parallel_ranges(n, detail::column_workers(n, execution), execution.poll,
                  [&](int, Index first, Index last, Interruption&) {
                    Eigen::Array<T, detail::stretch, 1> buffer;
                    for (Index begin = first; begin < last; begin += detail::stretch) {
                      const Index count = std::min(detail::stretch, last - begin);
                      Vector<T> sum(buffer.data(), count);
                      sum.setZero();
                      for (std::size_t i = 0; i < X.size(); ++i) {
                        sum += coefficients[i] * ConstVector<T>(X[i] + begin, count);
                      }
                      Vector<T>(out + begin, count) = sum;
                    }
                  });
}

}  // namespace ufm_fast
