#pragma once

#include <utility>
#include <vector>

#include "ufm_fast/losses/cross_entropy.hpp"

namespace ufm_fast {

/// Cross-entropy of affine logits a = scale z + shift, less margin[k] at the label k, as logit adjustment (Menon et
/// al., arXiv 2007.07314), LDAM (Cao et al., arXiv 1906.07413), CDT (Ye et al., arXiv 2001.01385) and VS (Kini et al.,
/// arXiv 2103.01550) have them. The state is the softmax p of a, and with D = diag(scale)
///
///     l' = D (p - t),   l'' = D (diag(p) - p p^T) D.
///
/// Each of the three is K numbers or empty; a margin needs labels.
template <class T>
struct AffineCrossEntropy {
  using Scalar = T;
  static constexpr bool of_distributions = true, wants_largest_logit = false, gradient_tells_state = true;

  Index K;
  CrossEntropy<T> entropy;
  std::vector<T> scale, shift, margin;
  bool shift_invariant;  ///< but for that, the loss does not change along 1 / scale

  AffineCrossEntropy(CrossEntropy<T> entropy_, std::vector<T> scale_, std::vector<T> shift_, std::vector<T> margin_)
      : K(entropy_.K),
        entropy(entropy_),
        scale(std::move(scale_)),
        shift(std::move(shift_)),
        margin(std::move(margin_)),
        shift_invariant(scale.empty()) {}

  template <class Target>
  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, const Target& target, const T*) const {
    apply(z, affine, target);
    const LossAndFactor<T> found = entropy.value_and_residual(z, as_they_are, target, nullptr);
    multiply_by_scale(z, 0, K);
    return found;
  }

  template <class Target>
  void state(T* z, Affine<T> affine, const Target& target, const T*) const {
    apply(z, affine, target);
    entropy.state(z, as_they_are, target, nullptr);
  }

  template <class Target>
  void residual(T* state, const Target& target) const {
    entropy.residual(state, target);
    multiply_by_scale(state, 0, K);
  }

  template <class Target>
  void second_order(const T* state, T* dz, const Target& target) const {
    multiply_by_scale(dz, 0, K);
    entropy.second_order(state, dz, target);
    multiply_by_scale(dz, 0, K);
  }

  template <class Target>
  void state_of_residual(const T* r, T factor, Index first, Index last, const Target& target, T* out) const {
    Vector<T> x(out, last - first);
    x = ConstVector<T>(r, last - first);
    if (!scale.empty()) x /= ConstVector<T>(scale.data() + first, last - first);
    entropy.state_of_residual(out, factor, first, last, target, out);
  }

  void diagonal_curvature(T* state, Index first, Index last, Index anchor) const {
    entropy.diagonal_curvature(state, first, last, anchor);
    multiply_by_scale(state, first, last);
    multiply_by_scale(state, first, last);
  }

  void prepare(T* target, Index count, Index anchor, Index m) const {
    if (!margin.empty()) refuse_target("of cross-entropy with a margin must be labels", m, "is no label");
    entropy.prepare(target, count, anchor, m);
  }

  void smooth(T* target) const { entropy.smooth(target); }

 private:
  static constexpr Affine<T> as_they_are{T(1), nullptr};

  /// The scores become affine logits.
  template <class Target>
  void apply(T* z, Affine<T> affine, const Target& target) const {
    affine.apply(z, K);
    multiply_by_scale(z, 0, K);
    if (!shift.empty()) Vector<T>(z, K) += ConstVector<T>(shift.data(), K);
    if (!margin.empty()) z[anchor_of(target)] -= margin[anchor_of(target)];
  }

  /// Entries [first, last) of a row.
  void multiply_by_scale(T* x, Index first, Index last) const {
    if (!scale.empty()) Vector<T>(x, last - first) *= ConstVector<T>(scale.data() + first, last - first);
  }
};

}  // namespace ufm_fast
