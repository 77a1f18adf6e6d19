#pragma once

#include <cstdio>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "ufm_fast/losses/loss.hpp"

namespace ufm_fast {

/// The loss of a row, the factor that turns what value_and_residual left in z into l', and the logarithm of the sum of
/// the exponentials of the logits, where the loss is made of it.
template <class T>
struct LossAndFactor {
  double loss;
  T factor;
  double logsumexp = std::numeric_limits<double>::quiet_NaN();
};

/// Says that the targets, which must be as `wanted`, are not so in row m, which has what was `found`.
[[noreturn]] inline void refuse_target(const std::string& wanted, Index m, const std::string& found) {
  throw std::invalid_argument("targets " + wanted + ", but row " + std::to_string(m) + " " + found);
}

/// The same, where what was found is a number, after a verb.
[[noreturn]] inline void refuse_target(const std::string& wanted, Index m, const std::string& verb, double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", number);
  refuse_target(wanted, m, verb + " " + text);
}

// A policy describes a loss by functions of one row; PolicyLoss makes a Loss of it. It has
//
//   using Scalar = T
//   bool shift_invariant, of_distributions, wants_largest_logit
//   static constexpr bool gradient_tells_state
//                                     what the functions of Loss of these names return
//   Index K                           the number of logits
//   value_and_residual(z, affine, target, largest) -> LossAndFactor
//                                     turns the scores z into l' at their logits, up to the factor
//   state(z, affine, target, largest) turns the scores z into the state
//   residual(state, target)           turns the state into l'
//   second_order(state, dz, target)   turns dz into l'' dz
//   state_of_residual(r, factor, first, last, target, out)
//                                     writes entries [first, last) of the state, given those of l' = factor r; only
//                                     where the gradient tells the state
//   diagonal_curvature(state, first, last, anchor)
//                                     turns entries [first, last) of the state into those of the diagonal of l'', or
//                                     into bounds on these from above
//   prepare(numbers, count, anchor, m)
//                                     given the numbers of row m that are stored, all K or those that may not be zero,
//                                     makes them exact by changing the one at the anchor (-1: that is not stored);
//                                     calls refuse_target if they are no target of this loss
//   smooth(target)                    turns a row of target numbers into what the logits are compared with
//
// Scores that overflow do not reach a policy: it may take the exponential of what is far below the largest logit, or is
// no number, for zero, and would not show them. Where there is a loss, scores in double are not searched: by Cauchy and
// Schwarz, where <w_k, h_m> overflows so does |w_k|^2 or |h_m|^2, and the penalty is not finite.
//
// Here z, state and dz are arrays of K numbers, and out is one of last - first numbers. A target is a label (an Index)
// or a DenseTarget<T>; a function takes both as one template or as two overloads. `largest` points to the largest logit
// and is null where that is not known. Where l' is tiny it should keep its relative accuracy: if its entries sum to
// zero, the one at the anchor should be computed as minus the sum of the others.
template <class Policy>
class PolicyLoss final : public Loss<typename Policy::Scalar> {
 public:
  using T = typename Policy::Scalar;

  explicit PolicyLoss(Policy policy) : policy_(std::move(policy)) {}

  Index K() const override { return policy_.K; }
  bool shift_invariant() const override { return policy_.shift_invariant; }
  bool of_distributions() const override { return policy_.of_distributions; }
  bool wants_largest_logit() const override { return policy_.wants_largest_logit; }
  bool gradient_tells_state() const override { return Policy::gradient_tells_state; }

  void prepare(Targets<T>& targets) const override {
    if (targets.are_labels()) return;
    std::vector<T> row(static_cast<std::size_t>(policy_.K));
    for (Index m = 0; m < targets.rows(); ++m) {
      const auto [entries, count] = targets.stored_row(m);
      std::copy_n(entries, count, row.data());
      const Index anchor = targets.stored_anchor(m);
      policy_.prepare(row.data(), count, anchor, m);
      if (anchor >= 0) targets.set_anchor_target(m, row[anchor]);
    }
  }

  void write_target(const Targets<T>& targets, Index m, T* out) const override {
    targets.write_row(m, out);
    policy_.smooth(out);
  }

  double residual_rows(const DataRows<T>& data, Index first, MatrixView<T> Z, const T* largest, double* sum,
                       RowValues<T> rows) const override {
    TargetReader<T> targets(data.targets);
    double value = 0;
    for_each_weighed_block(
        data, first, Z,
        [&](Index begin, Index count, T* weights) {
          for (Index i = begin; i < begin + count; ++i) {
            const Index m = first + i;
            if (std::is_same_v<T, float> && !all_finite(Z.row(i), policy_.K)) {
              value = std::numeric_limits<double>::infinity();
              continue;
            }
            const auto [l, factor, logsumexp] = targets.read(m, [&](const auto& target) {
              return policy_.value_and_residual(Z.row(i), data.logits_of(m), target,
                                                largest == nullptr ? nullptr : largest + i);
            });
            value += double(data.weights[m]) * l;
            if (rows.losses != nullptr) rows.losses[m] = T(l);
            if (rows.logsumexps != nullptr) rows.logsumexps[m] = T(logsumexp);
            weights[i - begin] *= factor;
          }
        },
        sum);
    return value;
  }

  void state_rows(const DataRows<T>& data, Index first, MatrixView<T> Z, const T* largest) const override {
    TargetReader<T> targets(data.targets);
    for (Index i = 0; i < Z.rows; ++i) {
      if (!all_finite(Z.row(i), policy_.K)) {
        Vector<T>(Z.row(i), policy_.K).setConstant(std::numeric_limits<T>::quiet_NaN());
        continue;
      }
      targets.read(first + i, [&](const auto& target) {
        policy_.state(Z.row(i), data.logits_of(first + i), target, largest == nullptr ? nullptr : largest + i);
      });
    }
  }

  void gradient_rows(const DataRows<T>& data, Index first, MatrixView<const T> S, MatrixView<T> G) const override {
    TargetReader<T> targets(data.targets);
    for (Index i = 0; i < G.rows; ++i) {
      const Index m = first + i;
      Vector<T> g(G.row(i), policy_.K);
      g = ConstVector<T>(S.row(i), policy_.K);
      targets.read(m, [&](const auto& target) { policy_.residual(G.row(i), target); });
      g *= data.weights[m] * data.scales[m];
    }
  }

  void second_order_rows(const DataRows<T>& data, Index first, MatrixView<const T> S, MatrixView<T> D,
                         double* sum) const override {
    TargetReader<T> targets(data.targets);
    for_each_weighed_block(
        data, first, D,
        [&](Index begin, Index count, T*) {
          for (Index i = begin; i < begin + count; ++i) {
            data.logits_of(first + i).apply(D.row(i), policy_.K);
            targets.read(first + i, [&](const auto& target) { policy_.second_order(S.row(i), D.row(i), target); });
          }
        },
        sum);
  }

  void states_of_gradient(const DataRows<T>& data, Index first, Index column, MatrixView<const T> G,
                          MatrixView<T> S) const override {
    if constexpr (Policy::gradient_tells_state) {
      TargetReader<T> targets(data.targets);
      for (Index i = 0; i < G.rows; ++i) {
        const T factor = T(1) / (data.weights[first + i] * data.scales[first + i]);
        targets.read(first + i, [&](const auto& target) {
          policy_.state_of_residual(G.row(i), factor, column, column + G.cols, target, S.row(i));
        });
      }
    } else {
      throw std::logic_error("the gradient of this loss does not tell the states of the rows");
    }
  }

  void diagonal_curvatures(const DataRows<T>& data, Index first, Index column, MatrixView<T> S) const override {
    eigen_assert((Policy::gradient_tells_state || S.cols == policy_.K) && "the block has all columns");
    for (Index i = 0; i < S.rows; ++i) {
      policy_.diagonal_curvature(S.row(i), column, column + S.cols, data.targets.anchor(first + i));
    }
  }

 private:
  Policy policy_;

  /// Calls body(begin, count, weights) for blocks of few rows of X, with a copy of their weights that the body may
  /// change. Then multiplies the rows by these weights, adds them to `sum`, and multiplies them by the scales.
  template <class Body>
  static void for_each_weighed_block(const DataRows<T>& data, Index first, MatrixView<T> X, Body&& body, double* sum) {
    for (Index begin = 0; begin < X.rows; begin += elementwise::weighed_rows) {
      const Index count = std::min(elementwise::weighed_rows, X.rows - begin);
      T weights[elementwise::weighed_rows];
      std::copy_n(data.weights + first + begin, count, weights);
      body(begin, count, weights);
      elementwise::weigh(X.block(begin, count), weights, data.scales + first + begin, sum);
    }
  }
};

template <class T>
using LossPointer = std::shared_ptr<const Loss<T>>;

/// The loss that a policy describes.
template <class Policy>
LossPointer<typename Policy::Scalar> loss_of(Policy policy) {
  return std::make_shared<const PolicyLoss<Policy>>(std::move(policy));
}

}  // namespace ufm_fast
