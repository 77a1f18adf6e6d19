#pragma once

#include <cmath>

#include "ufm_fast/losses/cross_entropy.hpp"

namespace ufm_fast {

/// The focal loss (Lin et al., arXiv 1708.02002): l = -(1 - p_k)^gamma log p_k for the label k and the softmax p of the
/// logits, gamma >= 0. Not convex for gamma > 0. As a function of u = log p_k, whose gradient is e_k - p, its first
/// derivative is -A and its second B, with q = 1 - p_k
///
///     A = q^gamma (1 + gamma p_k x),   B = gamma p_k q^(gamma - 1) (2 + u + (gamma - 1) p_k x),   x = -u / q >= 1,
///     l' = A (p - e_k),   l'' = B (e_k - p) (e_k - p)^T + A (diag(p) - p p^T).
///
/// The state is p. Everything is relative to q, the sum of the other probabilities, and so keeps its digits for p_k
/// -> 1.
template <class T>
struct Focal {
  using Scalar = T;
  static constexpr bool shift_invariant = true, of_distributions = false, wants_largest_logit = true;
  static constexpr bool gradient_tells_state = false;

  Index K;
  double gamma;

  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, Index label, const T* largest) const {
    const auto [l, factor, logsumexp] = entropy().value_and_residual(z, affine, label, largest);
    const Derivatives at = derivatives(std::exp(-l), -double(z[label] * factor), -l);
    return {std::pow(at.q, gamma) * l, T(double(factor) * at.A), logsumexp};
  }

  void state(T* z, Affine<T> affine, Index label, const T* largest) const {
    entropy().state(z, affine, label, largest);
  }

  void residual(T* state, Index label) const {
    const Derivatives at = derivatives(state, label);
    entropy().residual(state, label);
    Vector<T>(state, K) *= T(at.A);
  }

  void second_order(const T* state, T* dz, Index label) const {
    const Derivatives at = derivatives(state, label);
    const double along = -double(elementwise::shifted_dot(state, dz, K, dz[label]));  // dz_k less the mean under p
    entropy().second_order(state, dz, label);
    const T A = T(at.A), B = T(at.q > 0 ? at.qB * (along / at.q) : 0.0);
    const T at_label = A * dz[label] + B * T(at.q);
    Vector<T> d(dz, K);
    d = A * d - B * ConstVector<T>(state, K);
    dz[label] = at_label;
  }

  /// Of whole rows.
  void diagonal_curvature(T* state, Index, Index, Index label) const {
    const Derivatives at = derivatives(state, label);
    const T A = T(at.A), B = T(at.q > 0 ? at.qB / at.q : 0.0), p = state[label], q = T(at.q);
    Vector<T> others(state, K);
    others = A * others * (T(1) - others) + B * others * others;
    state[label] = A * p * q + B * q * q;
  }

  // No template: what is called with labels only need not exist for other targets.
  LossAndFactor<T> value_and_residual(T*, Affine<T>, const DenseTarget<T>&, const T*) const { no_label(); }
  void state(T*, Affine<T>, const DenseTarget<T>&, const T*) const { no_label(); }
  void residual(T*, const DenseTarget<T>&) const { no_label(); }
  void second_order(const T*, T*, const DenseTarget<T>&) const { no_label(); }

  void prepare(T*, Index, Index, Index m) const { refuse_target("of focal loss must be labels", m, "is no label"); }

  void smooth(T*) const {}

 private:
  struct Derivatives {
    double q, A, qB;
  };

  CrossEntropy<T> entropy() const { return {K, T(0)}; }

  [[noreturn]] static void no_label() {
    throw std::logic_error("targets of focal loss must be labels: `prepare` says so");
  }

  Derivatives derivatives(const T* state, Index label) const {
    const Index next = label + 1;
    const double p = double(state[label]);
    const double q = double(sum_of<T>(state, label) + sum_of<T>(state + next, K - next));
    return derivatives(p, q, q < 0.5 ? std::log1p(-q) : std::log(p));
  }

  /// From p_k, q and u.
  Derivatives derivatives(double p, double q, double u) const {
    const double pu = p > 0 ? p * u : 0.0, px = q > 0 ? -pu / q : 1.0, power = std::pow(q, gamma);
    return {q, power * (1 + gamma * px), gamma * power * (2 * p + pu + (gamma - 1) * p * px)};
  }
};

}  // namespace ufm_fast
