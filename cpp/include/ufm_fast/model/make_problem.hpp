#pragma once

#include "ufm_fast/losses/policy_loss.hpp"
#include "ufm_fast/model/problem.hpp"

namespace ufm_fast {

/// The weight decays of a model, and whether it has a bias.
struct Decays {
  double lambda_W = 0, lambda_H = 0, lambda_b = 0;
  bool bias = true;
};

/// How much each of the M rows of data counts: M numbers, or none where all are the default.
struct RowCounts {
  std::vector<double> samples = {};  ///< n, how many samples the row stands for: positive; 1 by default
  std::vector<double> weights = {};  ///< of each of these samples in the loss; 1 by default
  std::vector<double> ridges = {};   ///< of the row's feature in the decay; n by default
};

namespace detail {

/// Such numbers written out.
inline std::vector<double> counts_of_rows(const std::vector<double>& given, const std::vector<double>& otherwise,
                                          const char* name) {
  if (given.empty()) return otherwise;
  if (given.size() != otherwise.size()) {
    refuse_problem(std::string(name) + " must be M = " + std::to_string(otherwise.size()) + " numbers or none, not " +
                   std::to_string(given.size()));
  }
  require_finite(given, name);
  return given;
}

}  // namespace detail

/// The model of M rows of data that stand for N = sum of n_m samples,
///
///     f(W, H, b) = sum_m n_m/N weights_m l(W h_m + b; target m)
///                  + lambda_W/2 |W|^2 + lambda_H/2 sum_m ridges_m |h_m|^2 + lambda_b/2 |b|^2,
///
/// checked: an std::invalid_argument names what is wrong.
template <class T>
Problem<T> make_problem(const LossPointer<T>& loss, Index d, Targets<Same<T>> targets, const Decays& decays,
                        const RowCounts& rows = {}) {
  Problem<T> problem;
  problem.loss = loss;
  problem.d = d;
  problem.set_targets(std::move(targets));
  problem.K = loss->K();
  problem.lambda_W = T(decays.lambda_W);
  problem.lambda_b = T(decays.lambda_b);
  problem.bias = decays.bias;
  detail::require_decay(decays.lambda_H, "lambda_H");
  const std::vector<double> ones(static_cast<std::size_t>(problem.M), 1.0);
  const std::vector<double> samples = detail::counts_of_rows(rows.samples, ones, "samples");
  const std::vector<double> weights = detail::counts_of_rows(rows.weights, ones, "weights");
  const std::vector<double> ridges = detail::counts_of_rows(rows.ridges, samples, "ridges");
  for (const double ridge : ridges) detail::require_decay(ridge, "ridges");
  double N = 0;
  for (const double n : samples) {
    if (!(n > 0)) detail::refuse_problem("samples must be positive, not " + std::to_string(n));
    N += n;
  }
  problem.scales.assign(ones.begin(), ones.end());
  for (std::size_t m = 0; m < samples.size(); ++m) {
    problem.weights.push_back(T(samples[m] * weights[m] / N));
    problem.ridges.push_back(T(decays.lambda_H * ridges[m]));
  }
  problem.validate();
  return problem;
}

}  // namespace ufm_fast
