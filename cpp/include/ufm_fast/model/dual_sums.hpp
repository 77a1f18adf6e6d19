#pragma once

#include <limits>
#include <vector>

#include "ufm_fast/model/problem.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

/// Sums over the off-diagonal entries of a dual point Y (K, K) of cross-entropy with a sample a class, one a row or one
/// a column. Q = smoothing / K + Y / (weights scales) are the probabilities of the wrong classes.
struct DualSums {
  std::vector<double> rows, absolute_rows;  ///< of Y_k and |Y_k|
  std::vector<double> received, doubt;      ///< columns of Y / scales and |Y| / scales
  std::vector<double> least, wrong;         ///< least entry of Q_k and the sum of all
  std::vector<double> entropy, logarithms;  ///< sums of -Q log Q and log Q, with Q at least the least normal number

  explicit DualSums(Index K) {
    for (auto* sums : {&rows, &absolute_rows, &received, &doubt, &wrong, &entropy, &logarithms}) {
      sums->assign(static_cast<std::size_t>(K), 0.0);
    }
    least.assign(static_cast<std::size_t>(K), std::numeric_limits<double>::infinity());
  }
};

/// One pass over Y. A sum of K terms is accurate to K/8 + 20 units of 2^-52 of the sum of their sizes: rows are added
/// up in two chains of packets, of two numbers at least, and columns in blocks of 32.
inline DualSums dual_sums(const Problem<double>& problem, Matrix<const double> Y, const Execution& execution) {
  constexpr Index block = 32;
  const Index K = problem.K;
  const int workers = row_workers(problem, execution);
  DualSums sums(K);
  const double base = std::get<CrossEntropy<double>>(problem.loss).smoothing / double(K);
  std::vector<std::vector<double>> received(workers), doubt(workers);
  parallel_ranges(K, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    const Workspace<double> copy(K), q(K), logs(K), recent(2 * K);
    std::vector<double> total_received(static_cast<std::size_t>(K), 0.0), total_doubt(total_received);
    Vector<double> recent_received(recent.data(), K), recent_doubt(recent.data() + K, K);
    for (Index begin = first; begin < last; begin += block) {
      recent_received.setZero();
      recent_doubt.setZero();
      for (Index k = begin; k < std::min(last, begin + block); ++k) {
        const double factor = 1 / (problem.weights[k] * problem.scales[k]), root = 1 / problem.scales[k];
        for (const auto& [start, size] : {std::pair<Index, Index>{0, k}, {k + 1, K - k - 1}}) {
          if (size == 0) continue;
          Vector<double> y(copy.data(), size), Q(q.data(), size), log_Q(logs.data(), size);
          y = ConstVector<double>(Y.row(k) + start, size);  // the order in which Eigen adds up depends on the address
          Q = factor * y + base;
          log_Q = Q.max(std::numeric_limits<double>::min()).log();
          sums.rows[k] += y.sum();
          sums.absolute_rows[k] += y.abs().sum();
          recent_received.segment(start, size) += root * y;
          recent_doubt.segment(start, size) += root * y.abs();
          sums.least[k] = std::min(sums.least[k], Q.minCoeff());
          sums.wrong[k] += Q.sum();
          sums.entropy[k] -= (Q * log_Q).sum();
          sums.logarithms[k] += log_Q.sum();
        }
      }
      Vector<double>(total_received.data(), K) += recent_received;
      Vector<double>(total_doubt.data(), K) += recent_doubt;
    }
    received[worker] = std::move(total_received);
    doubt[worker] = std::move(total_doubt);
  });
  for (int worker = 0; worker < workers; ++worker) {
    for (Index k = 0; k < K; ++k) {
      sums.received[k] += received[worker][k];
      sums.doubt[k] += doubt[worker][k];
    }
  }
  return sums;
}

}  // namespace ufm_fast
