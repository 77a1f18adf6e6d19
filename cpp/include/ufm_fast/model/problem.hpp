#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ufm_fast/losses/loss.hpp"

namespace ufm_fast {

/// Where a point (or a direction, or a gradient) lives. W and H are contiguous.
template <class T>
struct PointView {
  MatrixView<T> W = {};  ///< (K, d)
  MatrixView<T> H = {};  ///< (M, d)
  T* b = nullptr;        ///< (biases,); may be null without bias

  template <class U, class = std::enable_if_t<std::is_same_v<U, const T>>>
  operator PointView<U>() const {
    return {W, H, b};
  }
};

namespace detail {

[[noreturn]] inline void refuse_problem(const std::string& what) { throw std::invalid_argument(what); }

/// Refuses numbers of which one is not finite.
template <class T>
void require_finite(const std::vector<T>& numbers, const char* name) {
  const Index i = first_not_finite(numbers.data(), static_cast<Index>(numbers.size()));
  if (i < 0) return;
  refuse_problem(std::string(name) + " must be finite, but number " + std::to_string(i) + " is " +
                 std::to_string(numbers[i]));
}

inline void require_decay(double decay, const char* name) {
  if (decay >= 0 && std::isfinite(decay)) return;
  refuse_problem(std::string(name) + " must be finite and at least 0, not " + std::to_string(decay));
}

}  // namespace detail

/// An unconstrained feature model (Gu & Shen, arXiv 2407.10702):
///
///     f(W, H, b) = sum_m weights[m] l(scales[m] W h_m + b; target m)
///                  + lambda_W/2 |W|^2 + sum_m ridges[m]/2 |h_m|^2 + lambda_b/2 |b|^2
///
/// W is (K, d), H is (M, d) with the feature h_m in row m, b is (K,), or as the loss has it. One row a sample (weights
/// 1/N, ridges lambda_H) and one row a class (weights n_k/N, ridges n_k lambda_H) are the same code; scales 1/sqrt(n_k)
/// with constant ridges give the isometric class coordinates. Without bias, b is not read and counts as zero.
///
/// Fill it by hand, the targets last by set_targets, and call validate; or use make_problem.
template <class T>
struct Problem {
  Index K = 0, d = 0, M = 0;
  std::shared_ptr<const Targets<T>> targets;  ///< as Loss::prepare leaves them
  std::vector<T> weights, scales, ridges;     ///< M numbers each
  std::shared_ptr<const Loss<T>> loss;
  T lambda_W = 0, lambda_b = 0;
  bool bias = true;

  /// The rows of data, their logits getting this b.
  DataRows<T> data(const T* b) const { return {*targets, weights.data(), scales.data(), b}; }

  Index biases() const { return loss->biases(); }

  /// The length of a packed point: W, H and, where there is a bias, b, in C order.
  Index size() const { return (K + M) * d + (bias ? biases() : 0); }

  /// The packed point that begins at x. Its b is null without bias.
  template <class U>
  PointView<U> point(U* x) const {
    return {{x, K, d}, {x + K * d, M, d}, bias ? x + (K + M) * d : nullptr};
  }

  /// The same; an std::invalid_argument where x has another length than a packed point.
  PointView<const T> point(const std::vector<T>& x) const { return point(checked(x.data(), x.size())); }
  PointView<T> point(std::vector<T>& x) const { return point(checked(x.data(), x.size())); }

  /// Takes the targets of M rows, made exact by the loss. An std::invalid_argument where they are none of this loss.
  void set_targets(Targets<T> rows) {
    if (!loss || rows.K() != loss->classes()) {
      detail::refuse_problem("targets must be over the " + std::to_string(loss ? loss->classes() : 0) +
                             " classes of the loss, not " + std::to_string(rows.K()));
    }
    loss->prepare(rows);
    M = rows.rows();
    targets = std::make_shared<const Targets<T>>(std::move(rows));
  }

  /// Checks all that can be checked: that the parts fit each other, that packed points can exist, and that numbers are
  /// finite and decays not negative. An std::invalid_argument names what does not hold. Labels and the shape of other
  /// targets have been checked where these were made; that the loss takes them, in set_targets. O(M).
  void validate() const {
    assert_fits(*this);
    if (d < 1) detail::refuse_problem("d must be positive, not " + std::to_string(d));
    constexpr Index most = std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T));
    if (K > most / d || M > most / d - K || biases() > most - (K + M) * d) {
      detail::refuse_problem("dimensions must give points of less than 2^63 bytes, not K = " + std::to_string(K) +
                             ", d = " + std::to_string(d) + " and M = " + std::to_string(M));
    }
    detail::require_finite(weights, "weights");
    detail::require_finite(scales, "scales");
    for (const T ridge : ridges) detail::require_decay(double(ridge), "ridges");
    detail::require_decay(double(lambda_W), "lambda_W");
    detail::require_decay(double(lambda_b), "lambda_b");
  }

 private:
  template <class U>
  U* checked(U* x, std::size_t length) const {
    if (static_cast<Index>(length) == size()) return x;
    detail::refuse_problem("a packed point must have " + std::to_string(size()) + " numbers, not " +
                           std::to_string(length));
  }
};

/// Checks that the parts of a problem fit each other: an std::invalid_argument names one that does not. Every driver
/// begins with this, in O(1); Problem::validate looks at the numbers too.
template <class T>
void assert_fits(const Problem<T>& problem) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) detail::refuse_problem(what);
  };
  const auto count = [&](const std::vector<T>& numbers, const char* name) {
    if (static_cast<Index>(numbers.size()) == problem.M) return;
    detail::refuse_problem(std::string(name) + " must be M = " + std::to_string(problem.M) + " numbers, not " +
                           std::to_string(numbers.size()));
  };
  require(problem.K >= 1 && problem.d >= 0 && problem.M >= 1, "K and M must be positive, and d not negative");
  require(problem.loss && problem.loss->K() == problem.K, "loss must be of K logits");
  require(problem.targets && problem.targets->K() == problem.loss->classes(), "targets must be of the loss's classes");
  require(problem.targets->rows() == problem.M, "targets must be M rows");
  require(problem.bias || !problem.loss->needs_bias(), "bias must be true: the loss needs one");
  count(problem.weights, "weights");
  count(problem.scales, "scales");
  count(problem.ridges, "ridges");
}

/// The same, and that a matrix has a row for each row of data and K columns.
template <class T>
void assert_fits(const Problem<T>& problem, Same<MatrixView<const T>> X) {
  assert_fits(problem);
  if (X.rows != problem.M || X.cols != problem.K) detail::refuse_problem("a matrix must be (M, K)");
}

/// The same, and that a point is one of this problem.
template <class T>
void assert_fits(const Problem<T>& problem, Same<PointView<const T>> p) {
  assert_fits(problem);
  const auto is = [&](MatrixView<const T> X, Index rows) {
    const bool somewhere = X.data != nullptr || rows * problem.d == 0;
    return somewhere && X.rows == rows && X.cols == problem.d && X.stride == problem.d;
  };
  if (!is(p.W, problem.K)) detail::refuse_problem("W must be (K, d), contiguous");
  if (!is(p.H, problem.M)) detail::refuse_problem("H must be (M, d), contiguous");
  if (problem.bias && p.b == nullptr) detail::refuse_problem("b must not be null in a problem with bias");
}

}  // namespace ufm_fast
