#pragma once

#include <limits>
#include <vector>

#include "ufm_fast/model/problem.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

/// Holds sums over a dual point Y (M, K), each without the entries at the rows' labels or anchors. The loss has
/// distributions for dual points: row by row these are Q = t + Y / (weights scales), where t is the target that the
/// logits are compared with.
struct DualSums {
  // one number a row
  std::vector<double> rows, absolute_rows;  ///< sums of Y and of |Y|
  std::vector<double> least;                ///< least entry of Q
  std::vector<double> least_above_margin;   ///< least entry of Q - margin t
  std::vector<double> wrong;                ///< sum of Q: the probability of all classes but the anchor
  std::vector<double> entropy;              ///< sum of -Q log Q, where Q is at least the least normal number
  std::vector<double> target_logarithms;    ///< sum of t (1 - log Q), where Q is at least the least normal number
  std::vector<double> own_target;           ///< t at the anchor itself
  // one number a class
  std::vector<double> received, absolute_received;  ///< sums of the columns of Y / scales and of |Y| / scales

  DualSums(Index M, Index K) {
    for (auto* sums : {&rows, &absolute_rows, &wrong, &entropy, &target_logarithms, &own_target}) {
      sums->assign(static_cast<std::size_t>(M), 0.0);
    }
    for (auto* sums : {&least, &least_above_margin}) {
      sums->assign(static_cast<std::size_t>(M), std::numeric_limits<double>::infinity());
    }
    for (auto* sums : {&received, &absolute_received}) sums->assign(static_cast<std::size_t>(K), 0.0);
  }
};

namespace detail {

/// The dual sums of a worker's rows; `received` and `absolute_received` are gathered in blocks of rows.
class DualRows {
 public:
  static constexpr Index block = 32;

  DualRows(const Problem<double>& problem, MatrixView<const double> Y, double margin, DualSums& sums)
      : problem_(problem), Y_(Y), margin_(margin), sums_(sums), stride_((problem.K + 7) / 8 * 8), space_(6 * stride_) {}

  void add_block(Index first, Index last, Vector<double> received, Vector<double> absolute_received) {
    Vector<double> recent = part(0), absolute_recent = part(1);
    recent.setZero();
    absolute_recent.setZero();
    for (Index m = first; m < last; ++m) {
      Vector<double> target = part(5);
      problem_.loss->write_target(*problem_.targets, m, target.data());
      const Index anchor = problem_.targets->anchor(m);
      sums_.own_target[m] = target[anchor];
      add(m, 0, anchor);
      add(m, anchor + 1, problem_.K - anchor - 1);
    }
    received += recent;
    absolute_received += absolute_recent;
  }

 private:
  const Problem<double>& problem_;
  MatrixView<const double> Y_;
  double margin_;
  DualSums& sums_;
  Index stride_;  ///< between parts of the space, which start aligned: the order in which Eigen adds up depends on it
  Workspace<double> space_;

  Vector<double> part(Index i) const { return {space_.data() + i * stride_, problem_.K}; }

  /// Entries [start, start + size) of row m.
  void add(Index m, Index start, Index size) {
    if (size == 0) return;
    Vector<double> y(part(2).data(), size), Q(part(3).data(), size), log_Q(part(4).data(), size);
    const ConstVector<double> t(part(5).data() + start, size);
    const double factor = 1 / (problem_.weights[m] * problem_.scales[m]), root = 1 / problem_.scales[m];
    y = ConstVector<double>(Y_.row(m) + start, size);
    Q = factor * y + t;
    log_Q = Q.max(std::numeric_limits<double>::min()).log();
    sums_.rows[m] += y.sum();
    sums_.absolute_rows[m] += y.abs().sum();
    part(0).segment(start, size) += root * y;
    part(1).segment(start, size) += root * y.abs();
    sums_.least[m] = std::min(sums_.least[m], Q.minCoeff());
    sums_.wrong[m] += Q.sum();
    sums_.entropy[m] -= (Q * log_Q).sum();
    y = t;
    sums_.least_above_margin[m] = std::min(sums_.least_above_margin[m], (Q - margin_ * y).minCoeff());
    sums_.target_logarithms[m] += (y * (1 - log_Q)).sum();
  }
};

}  // namespace detail

/// One pass over Y. A sum of K terms is accurate to K/8 + 20 units of 2^-52 of the sum of their sizes: rows are added
/// up in two chains of packets, of two numbers at least, and columns in blocks of 32.
inline DualSums dual_sums(const Problem<double>& problem, MatrixView<const double> Y, double margin,
                          const Execution& execution) {
  assert_fits<double>(problem, Y);
  if (!problem.loss->of_distributions()) detail::refuse_problem("problem must have a loss of distributions");
  constexpr Index block = detail::DualRows::block;
  const Index K = problem.K;
  const int workers = row_workers(problem, execution);
  DualSums sums(problem.M, K);
  std::vector<std::vector<double>> received(workers), absolute_received(workers);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    detail::DualRows rows(problem, Y, margin, sums);
    std::vector<double> columns(static_cast<std::size_t>(K), 0.0), absolute_columns(columns);
    for (Index begin = first; begin < last; begin += block) {
      rows.add_block(begin, std::min(last, begin + block), {columns.data(), K}, {absolute_columns.data(), K});
    }
    received[worker] = std::move(columns);
    absolute_received[worker] = std::move(absolute_columns);
  });
  for (int worker = 0; worker < workers; ++worker) {
    Vector<double>(sums.received.data(), K) += ConstVector<double>(received[worker].data(), K);
    Vector<double>(sums.absolute_received.data(), K) += ConstVector<double>(absolute_received[worker].data(), K);
  }
  return sums;
}

}  // namespace ufm_fast
