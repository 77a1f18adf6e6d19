#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "ufm_fast/losses/policy_loss.hpp"

namespace ufm_fast {

/// One group of exchangeable classes: `blocks` blocks of `size` classes each, where a block's classes have one logit.
struct ExchangeableGroup {
  double blocks, size;
  double miss;  ///< tau sqrt(ridge) / (scale weight) of one class, positive

  double classes() const { return blocks * size; }
};

/// Cross-entropy of all classes of K groups, for rows that treat the classes of a group alike: one logit a group. In
/// the row of a class of group k the classes of its block have the logit a_k + u (1 - 1/B), with B the number of blocks
/// of the group, and those of the other blocks a_k - u/B. The loss is the least over u >= 0 of
///
///     cross-entropy + miss_k (1 - 1/B) u;
///
/// so the probability of the own block exceeds that of another block by max(0, 1 - smoothing - miss_k) =: r. The logits
/// of groups are a = scale z + shift. With p_k the probability of the whole group k, W = 1 - p_k that of the other
/// groups, q the distribution over these, and t the target with the smoothing divided among groups by their numbers of
/// classes,
///
///     l' = D (p - t),   l'' = D [W (diag(q) - q q^T) + c (q - e_k) (q - e_k)^T] D,
///     1/c = 1/W + (e + r (B - 1)) / (e (e + r B)),   e = smoothing + miss_k - W  (r = 0: e = 1 - W).
///
/// The state is p. Targets must be labels.
template <class T>
struct GroupedCrossEntropy {
  using Scalar = T;
  static constexpr bool of_distributions = true, wants_largest_logit = false, gradient_tells_state = true;
  static constexpr bool shift_invariant = false;  ///< but along 1 / scale

  Index K;  ///< number of groups
  T smoothing;
  std::vector<ExchangeableGroup> groups;
  std::vector<T> scale, shift;
  std::vector<T> share;   ///< of a group in all classes
  std::vector<T> mass;    ///< shift, and the logarithm of the group's number of classes
  double mean_logarithm;  ///< over all classes, of the number of classes in their group

  GroupedCrossEntropy(T smoothing_, std::vector<ExchangeableGroup> groups_, std::vector<T> scale_,
                      std::vector<T> shift_)
      : K(static_cast<Index>(groups_.size())),
        smoothing(smoothing_),
        groups(std::move(groups_)),
        scale(std::move(scale_)),
        shift(std::move(shift_)) {
    double total = 0;
    for (const ExchangeableGroup& group : groups) total += group.classes();
    mean_logarithm = 0;
    for (Index k = 0; k < K; ++k) {
      const double classes = groups[k].classes();
      share.push_back(T(classes / total));
      mass.push_back(T(double(shift[k]) + std::log(classes)));
      mean_logarithm += classes / total * std::log(classes);
    }
  }

  template <class Target>
  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, const Target& target, const T*) const {
    const Index label = anchor_of(target);
    apply(z, affine);
    const double below = smoothing > T(0) ? mean_below(z, label) : 0.0;
    const Row row = probabilities(z, label);
    z[label] = T(0);
    if (smoothing > T(0)) Vector<T>(z, K) -= smoothing * ConstVector<T>(share.data(), K);
    z[label] = smoothing * (T(1) - share[label]) - T(row.wrong);
    multiply_by_scale(z, 0, K);
    return {row.loss + double(smoothing) * (below + row.rise), T(1)};
  }

  template <class Target>
  void state(T* z, Affine<T> affine, const Target& target, const T*) const {
    apply(z, affine);
    const Row row = probabilities(z, anchor_of(target));
    z[anchor_of(target)] = T(1 - row.wrong);
  }

  template <class Target>
  void residual(T* state, const Target& target) const {
    const Index label = anchor_of(target);
    state[label] = T(0);
    const T wrong = sum_of<T>(state, K);
    if (smoothing > T(0)) Vector<T>(state, K) -= smoothing * ConstVector<T>(share.data(), K);
    state[label] = smoothing * (T(1) - share[label]) - wrong;
    multiply_by_scale(state, 0, K);
  }

  template <class Target>
  void second_order(const T* state, T* dz, const Target& target) const {
    const Index label = anchor_of(target);
    multiply_by_scale(dz, 0, K);
    Vector<T> d(dz, K);
    const ConstVector<T> p(state, K);
    const T at_label = dz[label];
    d -= at_label;
    const double wrong = others_of(state, label);
    const double mean = wrong > 0 ? double((p * d).sum()) / wrong : 0.0;
    const double along = curvature_along(label, wrong) * mean;
    d = p * (d + T(wrong > 0 ? along / wrong - mean : 0.0));
    dz[label] = -T(along);
    multiply_by_scale(dz, 0, K);
  }

  template <class Target>
  void state_of_residual(const T* r, T factor, Index first, Index last, const Target& target, T* out) const {
    const Index count = last - first, label = anchor_of(target);
    Vector<T>(out, count) = ConstVector<T>(r, count) * factor / ConstVector<T>(scale.data() + first, count) +
                            smoothing * ConstVector<T>(share.data() + first, count);
    if (first <= label && label < last) out[label - first] += T(1) - smoothing;
  }

  /// p (1 - p): that at fixed u, which is no less.
  void diagonal_curvature(T* state, Index first, Index last, Index) const {
    Vector<T> p(state, last - first);
    p *= T(1) - p;
    multiply_by_scale(state, first, last);
    multiply_by_scale(state, first, last);
  }

  void prepare(T*, Index, Index, Index m) const {
    refuse_target("of grouped cross-entropy must be labels", m, "is no label");
  }

  void smooth(T* target) const {
    Vector<T> t(target, K);
    t = (T(1) - smoothing) * t + smoothing * ConstVector<T>(share.data(), K);
  }

 private:
  static constexpr int newton_steps = 60;
  static constexpr double accuracy = 1e-16;

  struct Row {
    double loss;   ///< without what the smoothing adds
    double wrong;  ///< probability of the other groups
    double rise;   ///< of the own block's logit above that of its group: u (1 - 1/B)
  };

  void apply(T* z, Affine<T> affine) const {
    affine.apply(z, K);
    Vector<T>(z, K) = Vector<T>(z, K) * ConstVector<T>(scale.data(), K) + ConstVector<T>(mass.data(), K);
  }

  void multiply_by_scale(T* x, Index first, Index last) const {
    Vector<T>(x, last - first) *= ConstVector<T>(scale.data() + first, last - first);
  }

  /// How far the logits of all classes are on average below that of the label's group.
  double mean_below(const T* z, Index label) const {
    const double sum = double((ConstVector<T>(share.data(), K) * (z[label] - ConstVector<T>(z, K))).sum());
    return sum + mean_logarithm - std::log(groups[label].classes());
  }

  /// Sum of the entries but the label's.
  double others_of(const T* x, Index label) const {
    const Index next = label + 1;
    return double(sum_of<T>(x, label)) + double(sum_of<T>(x + next, K - next));
  }

  /// The entries of z but the label's become probabilities.
  Row probabilities(T* z, Index label) const {
    const Index next = label + 1;
    const ExchangeableGroup& group = groups[label];
    constexpr Affine<T> as_they_are{T(1), nullptr};
    const T largest = std::max(elementwise::largest_logit(z, label, as_they_are),
                               elementwise::largest_logit(z + next, K - next, as_they_are));
    double others = 0;
    if (K > 1) {
      others = double(elementwise::exp_sum(z, label, as_they_are, largest)) +
               double(elementwise::exp_sum(z + next, K - next, as_they_are, largest));
    }
    const double log_others = others > 0 ? double(largest) + std::log(others) : -HUGE_VAL;
    const double block = double(z[label]) - std::log(group.blocks);  // logarithm of the mass of one block at u = 0
    const double u = rise_over_others(label, log_others - block);
    const double spread = std::log1p((group.blocks - 1) * std::exp(-u)), rise = u * (1 - 1 / group.blocks);
    const double ahead = block + rise + spread - log_others;  // of the group over the others, in logarithms
    const double small = std::exp(-std::abs(ahead));
    const double wrong = ahead > 0 ? small / (1 + small) : 1 / (1 + small);
    if (K > 1) Vector<T>(z, K) *= T(wrong / others);
    const double missed = ahead > 0 ? std::log1p(small) : std::log1p(small) - ahead;
    return {missed + spread + std::log(group.size) + group.miss * rise, wrong, rise};
  }

  /// u, given the logarithm of the others' mass over that of one block at u = 0. The root of a concave function,
  ///
  ///     u - log((1 + r (B - 1) + r exp(log_odds + u/B)) / (1 - r)),
  ///
  /// by Newton's method from the left.
  double rise_over_others(Index k, double log_odds) const {
    const double B = groups[k].blocks, r = excess(k);
    if (!(B > 1 && r > 0)) return 0;
    const double rest = std::log(double(smoothing) + groups[k].miss);
    const double own = std::log1p(r * (B - 1)) - rest, odds = std::log(r) + log_odds - rest;
    double u = std::max(own, odds * B / (B - 1));
    for (int step = 0; step < newton_steps; ++step) {
      const double other = odds + u / B, larger = std::max(own, other);
      const double sum = larger + std::log1p(std::exp(-std::abs(own - other)));
      const double change = (sum - u) / (1 - std::exp(other - sum) / B);
      u += change;
      if (!(change > accuracy * u)) break;
    }
    return u;
  }

  /// By how much the own block's probability exceeds another block's.
  double excess(Index k) const { return std::max(0.0, 1 - double(smoothing) - groups[k].miss); }

  /// c of the class's docstring.
  double curvature_along(Index k, double wrong) const {
    const double B = groups[k].blocks, r = B > 1 ? excess(k) : 0.0;
    if (!(wrong > 0)) return 0;
    const double e =
        std::max(r > 0 ? double(smoothing) + groups[k].miss - wrong : 1 - wrong, std::numeric_limits<double>::min());
    return 1 / (1 / wrong + (e + r * (B - 1)) / (e * (e + r * B)));
  }
};

}  // namespace ufm_fast
