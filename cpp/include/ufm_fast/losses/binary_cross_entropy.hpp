#pragma once

#include <cmath>

#include "ufm_fast/losses/policy_loss.hpp"

namespace ufm_fast {

/// Binary cross-entropy, one class against all others: l = sum_c softplus(z_c) - t_c z_c, t = (1 - smoothing) T +
/// smoothing / 2, for targets T in [0, 1]. With p the logistic function of z, l' = p - t and l'' = diag(p (1 - p)). The
/// state is the lesser of p and 1 - p, with a minus sign where that is 1 - p (`elementwise::logistic`).
template <class T>
struct BinaryCrossEntropy {
  using Scalar = T;
  static constexpr bool shift_invariant = false, of_distributions = false, wants_largest_logit = false;
  static constexpr bool gradient_tells_state = true;

  Index K;
  T smoothing;

  template <class Target>
  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, const Target& target, const T*) const {
    affine.apply(z, K);
    const double linear = linear_part(z, target);
    const T logarithms = elementwise::logistic(z, K);
    residual(z, target);
    return {linear + double(logarithms), T(1)};
  }

  template <class Target>
  void state(T* z, Affine<T> affine, const Target&, const T*) const {
    affine.apply(z, K);
    elementwise::logistic(z, K);
  }

  void residual(T* state, Index label) const {
    const T at_label = state[label], t = smoothing / T(2);
    for (Index c = 0; c < K; ++c) state[c] = difference(state[c], t, T(1) - t);
    state[label] = difference(at_label, T(1) - t, t);
  }
  void residual(T* state, const DenseTarget<T>& target) const {
    for (Index c = 0; c < K; ++c) state[c] = difference(state[c], smoothed(target, c), smoothed_rest(target, c));
  }

  template <class Target>
  void second_order(const T* state, T* dz, const Target&) const {
    const auto share = ConstVector<T>(state, K).abs();
    Vector<T>(dz, K) *= share * (T(1) - share);
  }

  void state_of_residual(const T* r, T factor, Index first, Index last, Index label, T* out) const {
    const T t = smoothing / T(2);
    for (Index c = first; c < last; ++c) {
      const T x = factor * r[c - first];
      out[c - first] = c == label ? state_at(x, T(1) - t, t) : state_at(x, t, T(1) - t);
    }
  }
  void state_of_residual(const T* r, T factor, Index first, Index last, const DenseTarget<T>& target, T* out) const {
    for (Index c = first; c < last; ++c) {
      out[c - first] = state_at(factor * r[c - first], smoothed(target, c), smoothed_rest(target, c));
    }
  }

  void diagonal_curvature(T* state, Index first, Index last, Index) const {
    Vector<T> share(state, last - first);
    share = share.abs() * (T(1) - share.abs());
  }

  void prepare(T* target, Index count, Index, Index m) const {
    constexpr const char* wanted = "of binary cross-entropy must lie in [0, 1]";
    if (count == 0) return;
    const ConstVector<T> entries(target, count);
    if (entries.minCoeff() < T(0)) refuse_target(wanted, m, "holds", double(entries.minCoeff()));
    if (entries.maxCoeff() > T(1)) refuse_target(wanted, m, "holds", double(entries.maxCoeff()));
  }

  void smooth(T* target) const {
    Vector<T> t(target, K);
    t = (T(1) - smoothing) * t + smoothing / T(2);
  }

 private:
  /// t and 1 - t
  T smoothed(const DenseTarget<T>& target, Index c) const {
    return (T(1) - smoothing) * target.entries[c] + smoothing / T(2);
  }
  T smoothed_rest(const DenseTarget<T>& target, Index c) const {
    return (T(1) - smoothing) * (T(1) - target.entries[c]) + smoothing / T(2);
  }

  /// p - t, given the state, t and 1 - t.
  static T difference(T state, T t, T rest) { return state < T(0) ? state + rest : state - t; }

  /// The state, given p - t, t and 1 - t.
  static T state_at(T difference, T t, T rest) {
    constexpr T least = elementwise::detail::least_power<T>;
    const T p = difference + t, other = rest - difference;
    return p <= T(0.5) ? std::max(p, least) : -std::max(other, least);
  }

  /// sum of max(z, 0) - t z, without cancellation; z is finite or the sum is not.
  double linear_part(const T* z, Index label) const {
    const T t = smoothing / T(2), at_label = z[label];
    const ConstVector<T> before(z, label), after(z + label + 1, K - label - 1);
    const T above = before.max(T(0)).sum() + after.max(T(0)).sum(),
            below = before.min(T(0)).sum() + after.min(T(0)).sum();
    return double((T(1) - t) * above - t * below + linear_part_of(at_label, T(1) - t, t));
  }
  double linear_part(const T* z, const DenseTarget<T>& target) const {
    T sum = 0;
    for (Index c = 0; c < K; ++c) sum += linear_part_of(z[c], smoothed(target, c), smoothed_rest(target, c));
    return double(sum);
  }
  static T linear_part_of(T z, T t, T rest) { return z > T(0) ? rest * z : -t * z; }
};

}  // namespace ufm_fast
