#pragma once

#include "ufm_fast/blas/vectors.hpp"
#include "ufm_fast/model/gradient_matrix.hpp"
#include "ufm_fast/spectral/linear_operator.hpp"

namespace ufm_fast {

/// -G^T G of the gradient matrix G (M, K), whose lowest eigenpairs are the squared largest singular values and the
/// right singular vectors of G. Every product computes G again, tile by tile; where `store` is true, G is computed once
/// and kept as an (M, K) array.
template <class T>
class GradientOperator final : public LinearOperator<T> {
 public:
  GradientOperator(const Problem<T>& problem, PointView<const T> p, bool store, MatrixView<const T> deflated,
                   const Execution& execution)
      : problem_(problem), p_(p), deflated_(deflated) {
    if (!store) return;
    stored_ = std::make_unique<Workspace<T>>(problem.M * problem.K);
    gradient_matrix(problem, p, stored(), execution);
  }

  Index size() const override { return problem_.K; }

  void apply(MatrixView<const T> X, MatrixView<T> Y, const Execution& execution) const override {
    const int workers = row_workers(problem_, execution);
    const Index size = X.rows * problem_.K;
    std::vector<std::vector<T>> sums(workers, std::vector<T>(static_cast<std::size_t>(size), T(0)));
    for_each_tile(workers, execution, [&](int worker, Index, MatrixView<const T> G) {
      const Workspace<T> scores(X.rows * G.rows);
      const MatrixView<T> C(scores.data(), X.rows, G.rows);
      gemm<T>(Op::none, Op::transpose, 1, X, G, 0, C);
      gemm<T>(Op::none, Op::none, -1, C, G, 1, MatrixView<T>(sums[worker].data(), X.rows, problem_.K));
    });
    for (Index i = 0; i < X.rows; ++i) {
      Vector<T> y(Y.row(i), problem_.K);
      y.setZero();
      for (const std::vector<T>& sum : sums) y += ConstVector<T>(sum.data() + i * problem_.K, problem_.K);
    }
  }

  void project(MatrixView<T> X, const Execution& execution) const override {
    if (deflated_.rows == 0) return;
    const std::vector<T> C = inner_products<T>(X, deflated_, execution);
    combine<T>(-1, MatrixView<const T>(C.data(), X.rows, deflated_.rows), deflated_, 1, X, execution);
  }

 private:
  const Problem<T>& problem_;
  PointView<const T> p_;
  MatrixView<const T> deflated_;
  std::unique_ptr<Workspace<T>> stored_;

  MatrixView<T> stored() const { return {stored_->data(), problem_.M, problem_.K}; }

  template <class Body>
  void for_each_tile(int workers, const Execution& execution, Body&& body) const {
    if (!stored_) {
      detail::for_each_gradient_tile(problem_, p_, workers, execution,
                                     [&](int worker, Index begin, MatrixView<T> G) { body(worker, begin, G); });
      return;
    }
    parallel_ranges(problem_.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
      ufm_fast::for_each_tile(problem_, first, last, worker, stop,
                              [&](Index begin, Index count) { body(worker, begin, stored().block(begin, count)); });
    });
  }
};

}  // namespace ufm_fast
