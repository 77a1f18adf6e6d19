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
/// W is (K, d), H is (M, d) with the feature h_m in row m, b is (K,). One row a sample (weights 1/N, ridges lambda_H)
/// and one row a class (weights n_k/N, ridges n_k lambda_H) are the same code; scales 1/sqrt(n_k) with constant ridges
/// give the isometric class coordinates. Without bias, b is not read and counts as zero.
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
};

/// Where a point (or a direction, or a gradient) lives. W and H are contiguous.
template <class T>
struct PointView {
  MatrixView<T> W;  ///< (K, d)
  MatrixView<T> H;  ///< (M, d)
  T* b;             ///< (K,)

  template <class U, class = std::enable_if_t<std::is_same_v<U, const T>>>
  operator PointView<U>() const {
    return {W, H, b};
  }
};

}  // namespace ufm_fast
