#pragma once

#include "ufm_fast/base/parallel.hpp"

namespace ufm_fast {

/// -S of a stored symmetric matrix S (n, n), whose lowest eigenpairs are the largest of S.
template <class T>
class NegatedSymmetric {
 public:
  explicit NegatedSymmetric(Matrix<const T> matrix) : matrix_(matrix) {}

  Index size() const { return matrix_.cols; }

  void apply(Matrix<const T> X, Matrix<T> Y, const Execution& execution) const {
    using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const int workers = worker_count((size() + rows_per_worker - 1) / rows_per_worker, execution.threads);
    parallel_ranges(size(), workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
      const Eigen::Map<const Rows> S(matrix_.row(first), last - first, size());
      for (Index i = 0; i < X.rows; ++i) {
        const Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>> x(X.row(i), size());
        Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>>(Y.row(i) + first, last - first).noalias() = -(S * x);
      }
    });
  }

  void project(Matrix<T>, const Execution&) const {}
  void precondition(Matrix<T>, const T*, const Execution&) const {}

 private:
  static constexpr Index rows_per_worker = 256;
  Matrix<const T> matrix_;
};

}  // namespace ufm_fast
