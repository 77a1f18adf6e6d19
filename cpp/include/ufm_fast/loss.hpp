#pragma once

#include <cmath>
#include <variant>

#include "matrix.hpp"

namespace ufm_fast {

// A loss is a policy on one sample: K contiguous logits z and the sample's label. Every driver is built on these four:
//
//   keep(z, label)              -> l(z, label); z becomes what the second-order product needs ("kept")
//   residual(kept, label)          kept becomes l'(z)
//   value_and_residual(z, label) -> l(z, label); z becomes l'(z)
//   second_order(kept, dz, label)  dz becomes l''(z) dz
//
// Where the residual is tiny it keeps its relative accuracy: its label entry is minus the sum of the others.

/// Cross-entropy with label smoothing: l = logsumexp(z) - <t, z>, t = (1 - smoothing) e_label + smoothing / K.
/// Kept: the softmax of z.
template <class T>
struct CrossEntropy {
  Index K;
  T smoothing;

  double keep(T* z, Index label) const {
    Softmax s = exponentials(z, label);
    Vector<T>(z, K) *= T(1) / s.total;
    z[label] = s.label / s.total;
    return s.loss;
  }

  void residual(T* kept, Index label) const {
    kept[label] = T(0);
    const T others = Vector<T>(kept, K).sum();
    finish_residual(kept, label, others);
  }

  double value_and_residual(T* z, Index label) const {
    Softmax s = exponentials(z, label);
    Vector<T>(z, K) *= T(1) / s.total;
    finish_residual(z, label, s.others / s.total);
    return s.loss;
  }

  /// (diag(p) - p p^T) dz. It does not change when dz shifts, so dz is taken relative to its label entry, where p may
  /// be within rounding of one.
  void second_order(const T* kept, T* dz, Index label) const {
    const ConstVector<T> p(kept, K);
    Vector<T> d(dz, K);
    const T shift = dz[label];
    const T mean = (p * (d - shift)).sum();
    d = p * (d - (shift + mean));
    d[label] = -kept[label] * mean;
  }

 private:
  struct Softmax {
    double loss;
    T others;  ///< sum of exp(z_j - max z) over j != label
    T label;   ///< exp(z_label - max z)
    T total;
  };

  /// z becomes exp(z - max z), with zero at the label.
  Softmax exponentials(T* z, Index label) const {
    Vector<T> v(z, K);
    const T largest = v.maxCoeff();
    const T at_label = z[label];
    double loss = 0;
    if (smoothing > T(0)) loss = double(smoothing) / double(K) * double((at_label - v).sum());
    v = (v - largest).exp();
    Softmax s;
    s.label = z[label];
    z[label] = T(0);
    s.others = v.sum();
    s.total = s.others + s.label;
    const bool correct = at_label == largest;
    s.loss = loss +
             (correct ? std::log1p(double(s.others)) : double(largest) - double(at_label) + std::log(double(s.total)));
    return s;
  }

  void finish_residual(T* r, Index label, T others) const {
    r[label] = -others;
    if (smoothing > T(0)) {
      Vector<T>(r, K) -= smoothing / T(K);
      r[label] += smoothing;
    }
  }
};

/// Half the squared error: l = |z - e_label|^2 / 2. Kept: the residual z - e_label.
template <class T>
struct SquaredError {
  Index K;

  double keep(T* z, Index label) const {
    z[label] -= T(1);
    return 0.5 * squared_norm(z, K);
  }
  void residual(T*, Index) const {}
  double value_and_residual(T* z, Index label) const { return keep(z, label); }
  void second_order(const T*, T*, Index) const {}
};

template <class T>
using Loss = std::variant<CrossEntropy<T>, SquaredError<T>>;

}  // namespace ufm_fast
