#pragma once

#include "ufm_fast/model/evaluate.hpp"

namespace ufm_fast {

// Evaluation where the scores Z = H W^T (M, K) are known, as after a search for the best bias.

/// The data term at explicit scores Z (M, K), logits scales[m] Z_m + b: its value; G = its gradient with respect to Z
/// (M, K); and its gradient with respect to b, zero without bias. No products.
template <class T>
double data_term(const Problem<T>& problem, MatrixView<const T> Z, const T* b, MatrixView<T> G, T* grad_b,
                 const Execution& execution) {
  assert_fits<T>(problem, Z);
  const int workers = row_workers(problem, execution);
  const LogitBias<T> logit_bias(problem, b);
  std::vector<double> values(workers, 0.0);
  const Index biases = problem.biases();
  std::vector<double> sums(static_cast<std::size_t>(workers * biases), 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<T> tile = G.block(begin, count);
      copy<T>(Z.block(begin, count), tile);
      values[worker] += residual_rows(problem, begin, logit_bias, tile, sums.data() + worker * biases);
    });
  });
  for (int worker = 1; worker < workers; ++worker) {
    for (Index k = 0; k < biases; ++k) sums[k] += sums[worker * biases + k];
  }
  detail::write_bias_gradient(problem, sums.data(), grad_b);
  return detail::total(values);
}

/// f and its gradient at p, whose scores are Z, and G = the gradient of the data term with respect to Z (M, K): two
/// products. Returns infinity if the gradient overflows. Memory: as for `loss_and_gradient`, but for the logits.
template <class T>
double gradient_at_scores(const Problem<T>& problem, PointView<const T> p, MatrixView<const T> Z, MatrixView<T> G,
                          PointView<T> gradient, const Execution& execution) {
  assert_fits<T>(problem, Z);
  assert_fits<T>(problem, p);
  assert_fits<T>(problem, gradient);
  const LogitBias<T> b(problem, p.b);
  return detail::gradient_from_tiles(problem, p, gradient, row_workers(problem, execution), execution,
                                     [&](int, Index begin, MatrixView<const T> H, double* bias_sum, double& value) {
                                       const MatrixView<T> tile = G.block(begin, H.rows);
                                       copy<T>(Z.block(begin, H.rows), tile);
                                       value += residual_rows(problem, begin, b, tile, bias_sum);
                                       return tile;
                                     });
}

}  // namespace ufm_fast
