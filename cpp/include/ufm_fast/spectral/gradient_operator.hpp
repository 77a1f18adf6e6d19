#pragma once

#include "ufm_fast/blas/vectors.hpp"
#include "ufm_fast/model/gradient_matrix.hpp"

namespace ufm_fast {

/// -G^T G of the gradient matrix G (M, K), whose lowest eigenpairs are the squared largest singular values and the
/// right singular vectors of G. G is made tile by tile in every product; where `keep` is true, once, as an (M, K)
/// array.
template <class T>
class GradientOperator {
 public:
  GradientOperator(const Problem<T>& problem, PointView<const T> p, bool keep, Matrix<const T> deflated,
                   const Execution& execution)
      : problem_(problem), p_(p), deflated_(deflated) {
    if (!keep) return;
    kept_ = std::make_unique<Workspace<T>>(problem.M * problem.K);
    gradient_matrix(problem, p, kept(), execution);
  }

  Index size() const { return problem_.K; }

  void apply(Matrix<const T> X, Matrix<T> Y, const Execution& execution) const {
    const int workers = row_workers(problem_, execution);
    const Index size = X.rows * problem_.K;
    std::vector<std::vector<T>> sums(workers, std::vector<T>(static_cast<std::size_t>(size), T(0)));
    for_each_tile(workers, execution, [&](int worker, Index, Matrix<const T> G) {
      const Workspace<T> scores(X.rows * G.rows);
      const Matrix<T> C(scores.data(), X.rows, G.rows);
      gemm<T>(Op::none, Op::transpose, 1, X, G, 0, C);
      gemm<T>(Op::none, Op::none, -1, C, G, 1, Matrix<T>(sums[worker].data(), X.rows, problem_.K));
    });
    for (Index i = 0; i < X.rows; ++i) {
      Vector<T> y(Y.row(i), problem_.K);
      y.setZero();
      for (const std::vector<T>& sum : sums) y += ConstVector<T>(sum.data() + i * problem_.K, problem_.K);
    }
  }

  void project(Matrix<T> X, const Execution& execution) const {
    if (deflated_.rows == 0) return;
    const std::vector<T> C = inner_products<T>(X, deflated_, execution);
    combine<T>(-1, Matrix<const T>(C.data(), X.rows, deflated_.rows), deflated_, 1, X, execution);
  }
  void precondition(Matrix<T>, const T*, const Execution&) const {}

 private:
  const Problem<T>& problem_;
  PointView<const T> p_;
  Matrix<const T> deflated_;
  std::unique_ptr<Workspace<T>> kept_;

  Matrix<T> kept() const { return {kept_->data(), problem_.M, problem_.K}; }

  template <class Body>
  void for_each_tile(int workers, const Execution& execution, Body&& body) const {
    if (!kept_) {
      detail::for_each_gradient_tile(problem_, p_, workers, execution,
                                     [&](int worker, Index begin, Matrix<T> G) { body(worker, begin, G); });
      return;
    }
    parallel_ranges(problem_.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
      ufm_fast::for_each_tile(problem_, first, last, worker, stop,
                              [&](Index begin, Index count) { body(worker, begin, kept().block(begin, count)); });
    });
  }
};

}  // namespace ufm_fast
