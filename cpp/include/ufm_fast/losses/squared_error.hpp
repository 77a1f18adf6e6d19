#pragma once

#include "ufm_fast/losses/policy_loss.hpp"

namespace ufm_fast {

/// Half the squared error: l = |z - t|^2 / 2, for any targets t. The state is the residual z - t.
template <class T>
struct SquaredError {
  using Scalar = T;
  static constexpr bool shift_invariant = false, of_distributions = false, wants_largest_logit = false;
  static constexpr bool gradient_tells_state = true;

  Index K;

  template <class Target>
  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, const Target& target, const T*) const {
    state(z, affine, target, nullptr);
    return {0.5 * squared_norm(z, K), T(1)};
  }

  void state(T* z, Affine<T> affine, Index label, const T*) const {
    affine.apply(z, K);
    z[label] -= T(1);
  }
  void state(T* z, Affine<T> affine, const DenseTarget<T>& target, const T*) const {
    affine.apply(z, K);
    Vector<T>(z, K) -= ConstVector<T>(target.entries, K);
  }

  template <class Target>
  void residual(T*, const Target&) const {}

  template <class Target>
  void second_order(const T*, T*, const Target&) const {}

  template <class Target>
  void state_of_residual(const T* r, T factor, Index first, Index last, const Target&, T* out) const {
    Vector<T>(out, last - first) = factor * ConstVector<T>(r, last - first);
  }

  void diagonal_curvature(T* state, Index first, Index last, Index) const { Vector<T>(state, last - first).setOnes(); }

  void prepare(T*, Index, Index, Index) const {}

  void smooth(T*) const {}
};

}  // namespace ufm_fast
