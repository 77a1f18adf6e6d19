#pragma once

#include <memory>
#include <vector>

#include "ufm_fast/losses/loss.hpp"

namespace ufm_fast {

/// An unconstrained feature model (Gu & Shen, arXiv 2407.10702):
///
///     f(W, H, b) = sum_m weights[m] l(scales[m] W h_m + b; target m)
///                  + lambda_W/2 |W|^2 + sum_m ridges[m]/2 |h_m|^2 + lambda_b/2 |b|^2
///
/// W is (K, d), H is (M, d) with the feature h_m in row m, b is (K,), or as the loss has it. One row a sample (weights
/// 1/N, ridges lambda_H) and one row a class (weights n_k/N, ridges n_k lambda_H) are the same code; scales 1/sqrt(n_k)
/// with constant ridges give the isometric class coordinates. Without bias, b is not read and counts as zero.
template <class T>
struct Problem {
  Index K, d, M;
  std::shared_ptr<const Targets<T>> targets;  ///< as Loss::prepare leaves them
  std::vector<T> weights, scales, ridges;     ///< M numbers each
  std::shared_ptr<const Loss<T>> loss;
  T lambda_W, lambda_b;
  bool bias;

  /// The rows of data, their logits getting this b.
  DataRows<T> data(const T* b) const { return {*targets, weights.data(), scales.data(), b}; }

  Index biases() const { return loss->biases(); }
};

/// Where a point (or a direction, or a gradient) lives. W and H are contiguous.
template <class T>
struct PointView {
  MatrixView<T> W;  ///< (K, d)
  MatrixView<T> H;  ///< (M, d)
  T* b;             ///< (biases,)

  template <class U, class = std::enable_if_t<std::is_same_v<U, const T>>>
  operator PointView<U>() const {
    return {W, H, b};
  }
};

/// Asserts, where assertions are on, that the parts of a problem fit each other. Every driver begins with this.
template <class T>
void assert_fits([[maybe_unused]] const Problem<T>& problem) {
  eigen_assert(problem.K >= 1 && problem.d >= 1 && problem.M >= 1 && "K, d and M are positive");
  eigen_assert(problem.loss && problem.loss->K() == problem.K && "the loss is of K logits");
  eigen_assert(problem.targets && problem.targets->K() == problem.loss->classes() &&
               "the targets are of the loss's classes");
  eigen_assert((problem.bias || !problem.loss->needs_bias()) && "there is a bias where the loss needs one");
  eigen_assert(problem.targets->rows() == problem.M && "each of the M rows has a target");
  eigen_assert(static_cast<Index>(problem.weights.size()) == problem.M && "each of the M rows has a weight");
  eigen_assert(static_cast<Index>(problem.scales.size()) == problem.M && "each of the M rows has a scale");
  eigen_assert(static_cast<Index>(problem.ridges.size()) == problem.M && "each of the M rows has a ridge");
}

/// The same, and that a matrix has a row for each row of data and K columns.
template <class T>
void assert_fits(const Problem<T>& problem, [[maybe_unused]] MatrixView<const T> X) {
  assert_fits(problem);
  eigen_assert(X.rows == problem.M && X.cols == problem.K && "the matrix is (M, K)");
}

/// The same, and that a point is one of this problem.
template <class T>
void assert_fits(const Problem<T>& problem, [[maybe_unused]] PointView<const T> p) {
  assert_fits(problem);
  eigen_assert(p.W.rows == problem.K && p.W.cols == problem.d && p.W.stride == problem.d && "W is (K, d), contiguous");
  eigen_assert(p.H.rows == problem.M && p.H.cols == problem.d && p.H.stride == problem.d && "H is (M, d), contiguous");
}

}  // namespace ufm_fast
