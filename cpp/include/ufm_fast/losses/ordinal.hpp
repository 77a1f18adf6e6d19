#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ufm_fast/losses/loss.hpp"
#include "ufm_fast/losses/ordinal_link.hpp"

namespace ufm_fast {

/// Ordinal regression by a cumulative link (Ma, Obuchi & Tanaka, arXiv 2506.05801): a row of level q = 0, 1, ... has
/// one logit z and the loss -log(g(t_{q+1} - z) - g(t_q - z)), with thresholds t and the distribution function g of the
/// Link. Targets are labels, the levels.
///
/// The thresholds are either given, and a bias is one number; or they are learned: then t_1, t_2, ... are the bias,
/// which is not added to the scores, and the outer thresholds are infinite. The loss is infinite where thresholds do
/// not ascend.
///
/// The state of a row are its derivatives. All is computed in double.
template <class T, class Link>
class Ordinal final : public Loss<T> {
 public:
  /// levels + 1 ascending thresholds, of which the outer ones may be infinite; or none: they are learned.
  Ordinal(Index levels, std::vector<double> thresholds) : levels_(levels), thresholds_(std::move(thresholds)) {
    if (levels < 2) throw std::invalid_argument("an ordinal loss needs two levels at least");
    if (learns_thresholds()) return;
    if (static_cast<Index>(thresholds_.size()) != levels + 1) {
      throw std::invalid_argument("thresholds must be " + std::to_string(levels + 1) + " numbers, not " +
                                  std::to_string(thresholds_.size()));
    }
    for (Index q = 0; q < levels; ++q) {
      const bool finite = (q == 0 || std::isfinite(thresholds_[q])) && thresholds_[q + 1] > thresholds_[q];
      if (!finite) throw std::invalid_argument("thresholds must ascend, and be finite but for the first and the last");
    }
  }

  Index K() const override { return 1; }
  Index classes() const override { return levels_; }
  Index biases() const override { return learns_thresholds() ? levels_ - 1 : 1; }
  Index states() const override { return learns_thresholds() ? 5 : 2; }
  bool needs_bias() const override { return learns_thresholds(); }
  bool shift_invariant() const override { return false; }
  bool of_distributions() const override { return false; }
  bool wants_largest_logit() const override { return false; }
  bool gradient_tells_state() const override { return false; }

  void prepare(Targets<T>& targets) const override {
    if (!targets.are_labels()) throw std::invalid_argument("targets of an ordinal loss must be labels");
  }

  void write_target(const Targets<T>& targets, Index m, T* out) const override { targets.write_row(m, out); }

  double residual_rows(const DataRows<T>& data, Index first, MatrixView<T> Z, const T*, double* sum,
                       RowValues<T> rows) const override {
    double value = 0;
    for (Index i = 0; i < Z.rows; ++i) {
      const Index m = first + i, level = data.targets.anchor(m);
      const IntervalTerms terms = terms_at(data, m, *Z.row(i));
      const double weight = double(data.weights[m]);
      value += weight * terms.loss;
      if (rows.losses != nullptr) rows.losses[m] = T(terms.loss);
      if (rows.logsumexps != nullptr) rows.logsumexps[m] = std::numeric_limits<T>::quiet_NaN();
      *Z.row(i) = T(weight * double(data.scales[m]) * terms.slope);
      add_to_bias(sum, level, weight * terms.slope, -weight * terms.of_hi, weight * terms.of_lo);
    }
    return value;
  }

  void state_rows(const DataRows<T>& data, Index first, MatrixView<T> Z, const T*) const override {
    for (Index i = 0; i < Z.rows; ++i) {
      const IntervalTerms terms = terms_at(data, first + i, *Z.row(i));
      T* const state = Z.row(i);
      state[curvature] = T(terms.at_hi + terms.at_lo);
      state[slope] = T(terms.slope);
      if (!learns_thresholds()) continue;
      state[at_hi] = T(terms.at_hi);
      state[at_lo] = T(terms.at_lo);
      state[between] = T(terms.between);
    }
  }

  void gradient_rows(const DataRows<T>& data, Index first, MatrixView<const T> S, MatrixView<T> G) const override {
    for (Index i = 0; i < G.rows; ++i) *G.row(i) = data.weights[first + i] * data.scales[first + i] * S.row(i)[slope];
  }

  void second_order_rows(const DataRows<T>& data, Index first, MatrixView<const T> S, MatrixView<T> D,
                         double* sum) const override {
    for (Index i = 0; i < D.rows; ++i) {
      const Index m = first + i, level = data.targets.anchor(m);
      const T* const state = S.row(i);
      const double weight = double(data.weights[m]), scale = double(data.scales[m]), dz = scale * double(*D.row(i));
      double in_z = 0, in_hi = 0, in_lo = 0;
      if (learns_thresholds()) {
        const double dhi = level + 1 < levels_ ? double(data.b[level]) : 0.0;
        const double dlo = level > 0 ? double(data.b[level - 1]) : 0.0;
        const double above = double(state[at_hi]) * (dz - dhi), below = double(state[at_lo]) * (dz - dlo);
        const double wider = double(state[between]) * (dhi - dlo);
        in_z = above + below;
        in_hi = wider - above;
        in_lo = -wider - below;
      } else {
        in_z = double(state[curvature]) * (dz + (data.b == nullptr ? 0.0 : double(*data.b)));
      }
      *D.row(i) = T(weight * scale * in_z);
      add_to_bias(sum, level, weight * in_z, weight * in_hi, weight * in_lo);
    }
  }

  void states_of_gradient(const DataRows<T>&, Index, Index, MatrixView<const T>, MatrixView<T>) const override {
    throw std::logic_error("the gradient of an ordinal loss does not tell its second derivatives");
  }

  /// Nothing to do: a state begins with l''.
  void diagonal_curvatures(const DataRows<T>&, Index, Index, MatrixView<T>) const override {}

 private:
  static constexpr Index curvature = 0, slope = 1, at_hi = 2, at_lo = 3, between = 4;  ///< where they are in a state

  Index levels_;
  std::vector<double> thresholds_;

  bool learns_thresholds() const { return thresholds_.empty(); }

  IntervalTerms terms_at(const DataRows<T>& data, Index m, T score) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const Index level = data.targets.anchor(m);
    const double z = double(data.scales[m]) * double(score);
    if (!learns_thresholds()) {
      return Link::terms(z + (data.b == nullptr ? 0.0 : double(*data.b)), thresholds_[level], thresholds_[level + 1]);
    }
    const double lo = level > 0 ? double(data.b[level - 1]) : -infinity;
    return Link::terms(z, lo, level + 1 < levels_ ? double(data.b[level]) : infinity);
  }

  /// Adds derivatives with respect to z and the thresholds of a level to those with respect to the bias.
  void add_to_bias(double* sum, Index level, double in_z, double in_hi, double in_lo) const {
    if (!learns_thresholds()) {
      *sum += in_z;
      return;
    }
    if (level + 1 < levels_) sum[level] += in_hi;
    if (level > 0) sum[level - 1] += in_lo;
  }
};

/// The ordinal loss with the link "logit" or "probit". Of given thresholds there are levels + 1, or levels - 1 where
/// the outer ones are infinite.
template <class T>
std::shared_ptr<const Loss<T>> make_ordinal(Index levels, std::vector<double> thresholds, const std::string& link) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (static_cast<Index>(thresholds.size()) == levels - 1) {
    thresholds.insert(thresholds.begin(), -infinity);
    thresholds.push_back(infinity);
  }
  if (link == "logit") return std::make_shared<const Ordinal<T, LogitLink>>(levels, std::move(thresholds));
  if (link == "probit") return std::make_shared<const Ordinal<T, ProbitLink>>(levels, std::move(thresholds));
  throw std::invalid_argument("link must be 'logit' or 'probit', not '" + link + "'");
}

}  // namespace ufm_fast
