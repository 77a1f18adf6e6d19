#pragma once

#include <cmath>

#include "ufm_fast/losses/policy_loss.hpp"

namespace ufm_fast {

/// Cross-entropy with label smoothing: l = logsumexp(z) - <t, z>, t = (1 - smoothing) T + smoothing / K, for targets T
/// that are distributions over the classes. The state is the softmax p of the logits, and l' = p - t.
template <class T>
struct CrossEntropy {
  using Scalar = T;
  static constexpr bool shift_invariant = true, of_distributions = true, wants_largest_logit = true;
  static constexpr bool gradient_tells_state = true;

  Index K;
  T smoothing;

  template <class Target>
  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, const Target& target, const T* largest) const {
    const T at_anchor = affine.at(z, anchor_of(target));
    const double below = mean_below(at_anchor, z, affine, target);
    const Exponentials e = exponentials(z, affine, anchor_of(target), largest);
    subtract_target(z, target, e.others, e.total);
    const double distance = double(e.largest) - double(at_anchor);  // NaN where the largest logit overflows
    const double above =
        at_anchor == e.largest ? distance + std::log1p(double(e.others)) : distance + std::log(double(e.total));
    return {below + above, T(1) / e.total, double(at_anchor) + above};
  }

  template <class Target>
  void state(T* z, Affine<T> affine, const Target& target, const T* largest) const {
    const Exponentials e = exponentials(z, affine, anchor_of(target), largest);
    z[anchor_of(target)] = e.anchor;
    Vector<T>(z, K) *= T(1) / e.total;
  }

  template <class Target>
  void residual(T* state, const Target& target) const {
    state[anchor_of(target)] = T(0);
    const T others = sum_of(state, K);
    subtract_target(state, target, others, T(1));
  }

  /// (diag(p) - p p^T) dz. It does not change when dz shifts, so dz is taken relative to its entry at the likely class,
  /// where p may be within rounding of one.
  template <class Target>
  void second_order(const T* state, T* dz, const Target& target) const {
    const Index likely = likely_class(state, anchor_of(target));
    const T shift = dz[likely];
    const T mean = elementwise::shifted_dot(state, dz, K, shift);
    Vector<T> d(dz, K);
    d = ConstVector<T>(state, K) * (d - (shift + mean));
    dz[likely] = -state[likely] * mean;
  }

  void state_of_residual(const T* r, T factor, Index first, Index last, Index label, T* out) const {
    Vector<T>(out, last - first) = ConstVector<T>(r, last - first) * factor + smoothing / T(K);
    if (first <= label && label < last) out[label - first] += T(1) - smoothing;
  }
  void state_of_residual(const T* r, T factor, Index first, Index last, const DenseTarget<T>& target, T* out) const {
    Vector<T>(out, last - first) =
        ConstVector<T>(r, last - first) * factor + smoothed(target.entries + first, last - first);
  }

  /// p (1 - p)
  void diagonal_curvature(T* state, Index first, Index last, Index) const {
    Vector<T> p(state, last - first);
    p *= T(1) - p;
  }

  void prepare(T* target, Index count, Index anchor, Index m) const {
    constexpr double tolerance = 1e-6;
    constexpr const char* wanted = "of cross-entropy must be nonnegative and sum to one in every row";
    const ConstVector<T> entries(target, count);
    const auto total = [&] { return (entries.template cast<double>() * 1.0).sum(); };  // see sum_of
    const double sum = total();
    if (count > 0 && entries.minCoeff() < T(0)) refuse_target(wanted, m, "holds", double(entries.minCoeff()));
    if (std::abs(sum - 1) > tolerance) refuse_target(wanted, m, "sums to", sum);
    target[anchor] = T(0);
    target[anchor] = T(1 - total());
  }

  void smooth(T* target) const { Vector<T>(target, K) = smoothed(target, K); }

 private:
  struct Exponentials {
    T largest;  ///< logit
    T others;   ///< sum of exp(z_j - largest) over all j but the anchor
    T anchor;   ///< exp(z_anchor - largest)
    T total;    ///< their sum
  };

  /// t, for `size` entries of T: an expression.
  auto smoothed(const T* entries, Index size) const {
    return (T(1) - smoothing) * ConstVector<T>(entries, size) + smoothing / T(K);
  }

  /// The class of probability 1/2 or more, if there is one, else the anchor.
  Index likely_class(const T* p, Index anchor) const {
    if (p[anchor] >= T(0.5) || ConstVector<T>(p, K).maxCoeff() < T(0.5)) return anchor;
    return std::max_element(p, p + K) - p;
  }

  /// z becomes exp(logits - largest logit), but zero at the anchor.
  Exponentials exponentials(T* z, Affine<T> affine, Index anchor, const T* known_largest) const {
    Exponentials e;
    e.largest = known_largest != nullptr ? *known_largest : elementwise::largest_logit(z, K, affine);
    e.anchor = std::exp(affine.at(z, anchor) - e.largest);
    const Index next = anchor + 1;
    e.others = elementwise::exp_sum(z, anchor, affine, e.largest) +
               elementwise::exp_sum(z + next, K - next, affine.from(next), e.largest);
    z[anchor] = T(0);
    e.total = e.others + e.anchor;
    return e;
  }

  /// z_anchor - <t, z>, as a sum of t_j (z_anchor - z_j): t_anchor is what the others leave of one.
  double mean_below(T at_anchor, const T* z, Affine<T> affine, Index) const {
    if (!(smoothing > T(0))) return 0;
    const ConstVector<T> scores(z, K);
    const T sum = affine.b == nullptr ? (at_anchor - affine.scale * scores).sum()
                                      : (at_anchor - (affine.scale * scores + ConstVector<T>(affine.b, K))).sum();
    return double(smoothing) / double(K) * double(sum);
  }
  double mean_below(T at_anchor, const T* z, Affine<T> affine, const DenseTarget<T>& target) const {
    const ConstVector<T> scores(z, K);
    const auto t = smoothed(target.entries, K);
    if (affine.b == nullptr) return double((t * (at_anchor - affine.scale * scores)).sum());
    return double((t * (at_anchor - (affine.scale * scores + ConstVector<T>(affine.b, K)))).sum());
  }

  /// From unnormalised probabilities whose sum is `total`, and `others` without the anchor, where z is zero, to l'
  /// times the total. The anchor's entry is minus the sum of the others.
  void subtract_target(T* z, Index label, T others, T total) const {
    z[label] = -others;
    if (smoothing > T(0)) {
      Vector<T>(z, K) -= smoothing / T(K) * total;
      z[label] += smoothing * total;
    }
  }
  void subtract_target(T* z, const DenseTarget<T>& target, T, T total) const {
    Vector<T> x(z, K);
    x -= total * smoothed(target.entries, K);
    z[target.anchor] = T(0);
    z[target.anchor] = -sum_of(z, K);
  }
};

}  // namespace ufm_fast
