#pragma once

#include "ufm_fast/spectral/linear_operator.hpp"

namespace ufm_fast {

/// -S of a stored symmetric matrix S (n, n), whose lowest eigenpairs are the largest of S.
template <class T>
class NegatedSymmetric final : public LinearOperator<T> {
 public:
  explicit NegatedSymmetric(MatrixView<const T> matrix) : matrix_(matrix) {}

  Index size() const override { return matrix_.cols; }

  void apply(MatrixView<const T> X, MatrixView<T> Y, const Execution& execution) const override {
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

 private:
  static constexpr Index rows_per_worker = 256;
  MatrixView<const T> matrix_;
};

}  // namespace ufm_fast
