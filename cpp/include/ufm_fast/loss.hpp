#pragma once

#include <cmath>
#include <variant>

#include "elementwise.hpp"
#include "matrix.hpp"

namespace ufm_fast {

using elementwise::Affine;

/// A sample's loss, and the factor that turns what value_and_residual left in z into the residual l'.
template <class T>
struct LossAndFactor {
  double loss;
  T factor;
};

// A loss is a policy on one sample: its K scores z, how they become logits, and its label. Every driver is built on
// these, and on whether a common shift of the logits leaves the loss as it is (`shift_invariant`):
//
//   value_and_residual(z, affine, label, largest) -> l and a factor; factor z is then l' at the logits
//   keep(z, affine, label, largest)               z becomes what the second-order product needs ("kept")
//   second_order(kept, dz, label)                 dz becomes l'' dz
//   residual(kept, label)                         kept becomes l'
//
// `largest` points to the largest logit, or is null where that is not known.
// Where the residual is tiny it keeps its relative accuracy: its label entry is minus the sum of the others.

/// Cross-entropy with label smoothing: l = logsumexp(z) - <t, z>, t = (1 - smoothing) e_label + smoothing / K.
/// Kept: the softmax of the logits.
template <class T>
struct CrossEntropy {
  static constexpr bool shift_invariant = true;

  Index K;
  T smoothing;

  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, Index label, const T* largest) const {
    const Exponentials e = exponentials(z, affine, label, largest);
    subtract_target(z, label, e.others, e.total);
    return {e.loss, T(1) / e.total};
  }

  void keep(T* z, Affine<T> affine, Index label, const T* largest) const {
    const Exponentials e = exponentials(z, affine, label, largest);
    z[label] = e.label;
    Vector<T>(z, K) *= T(1) / e.total;
  }

  /// (diag(p) - p p^T) dz. It does not change when dz shifts, so dz is taken relative to its entry at the likely class,
  /// where p may be within rounding of one.
  void second_order(const T* kept, T* dz, Index label) const {
    const Index likely = likely_class(kept, label);
    const T shift = dz[likely];
    const T mean = elementwise::shifted_dot(kept, dz, K, shift);
    Vector<T> d(dz, K);
    d = ConstVector<T>(kept, K) * (d - (shift + mean));
    dz[likely] = -kept[likely] * mean;
  }

  void residual(T* kept, Index label) const {
    kept[label] = T(0);
    const T others = Vector<T>(kept, K).sum();
    subtract_target(kept, label, others, T(1));
  }

 private:
  struct Exponentials {
    double loss;
    T others;  ///< sum of exp(z_j - max z) over j != label
    T label;   ///< exp(z_label - max z)
    T total;   ///< their sum
  };

  /// The class of probability 1/2 or more, if there is one, else the label.
  Index likely_class(const T* p, Index label) const {
    if (p[label] >= T(0.5) || ConstVector<T>(p, K).maxCoeff() < T(0.5)) return label;
    return std::max_element(p, p + K) - p;
  }

  /// z becomes exp(logits - largest logit), but zero at the label.
  Exponentials exponentials(T* z, Affine<T> affine, Index label, const T* known_largest) const {
    Exponentials e;
    const T largest = known_largest != nullptr ? *known_largest : elementwise::largest_logit(z, K, affine);
    const T at_label = affine.at(z, label);
    e.loss = smoothing > T(0) ? double(smoothing) / double(K) * double(below(at_label, z, affine)) : 0.0;
    e.label = std::exp(at_label - largest);
    const Index next = label + 1;
    e.others = elementwise::exp_sum(z, label, affine, largest) +
               elementwise::exp_sum(z + next, K - next, affine.from(next), largest);
    z[label] = T(0);
    e.total = e.others + e.label;
    e.loss += at_label == largest ? std::log1p(double(e.others))
                                  : double(largest) - double(at_label) + std::log(double(e.total));
    return e;
  }

  /// sum of reference - logits
  T below(T reference, const T* z, Affine<T> affine) const {
    const ConstVector<T> scores(z, K);
    if (affine.b == nullptr) return (reference - affine.scale * scores).sum();
    return (reference - (affine.scale * scores + ConstVector<T>(affine.b, K))).sum();
  }

  /// From unnormalised probabilities, zero at the label, whose sum over all labels is `total`, to the residual times
  /// that.
  void subtract_target(T* z, Index label, T others, T total) const {
    z[label] = -others;
    if (smoothing > T(0)) {
      Vector<T>(z, K) -= smoothing / T(K) * total;
      z[label] += smoothing * total;
    }
  }
};

/// Half the squared error: l = |z - e_label|^2 / 2. Kept: the residual z - e_label.
template <class T>
struct SquaredError {
  static constexpr bool shift_invariant = false;

  Index K;

  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, Index label, const T*) const {
    keep(z, affine, label, nullptr);
    return {0.5 * squared_norm(z, K), T(1)};
  }
  void keep(T* z, Affine<T> affine, Index label, const T*) const {
    affine.apply(z, K);
    z[label] -= T(1);
  }
  void second_order(const T*, T*, Index) const {}
  void residual(T*, Index) const {}
};

template <class T>
using Loss = std::variant<CrossEntropy<T>, SquaredError<T>>;

}  // namespace ufm_fast
