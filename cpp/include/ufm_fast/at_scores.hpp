#pragma once

#include "evaluate.hpp"

namespace ufm_fast {

// Evaluation where the scores Z = H W^T (M, K) are known, as after a search for the best bias.

/// The data term at explicit scores Z (M, K), logits scales[m] Z_m + b: its value; G = its gradient with respect to Z
/// (M, K), which may be Z itself; and its gradient with respect to b (K,), zero without bias. No products.
template <class T>
double data_term(const Problem<T>& problem, Matrix<const T> Z, const T* b, Matrix<T> G, T* grad_b,
                 const Execution& execution) {
  const int workers = row_workers(problem, execution);
  std::vector<double> values(workers, 0.0);
  std::vector<double> sums(static_cast<std::size_t>(workers * problem.K), 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<T> tile = G.block(begin, count);
      for (Index i = 0; i < count; ++i) {
        Vector<T>(tile.row(i), problem.K) = ConstVector<T>(Z.row(begin + i), problem.K);
      }
      values[worker] += residual_rows(problem, begin, b, tile, sums.data() + worker * problem.K);
    });
  });
  for (int worker = 1; worker < workers; ++worker) {
    for (Index k = 0; k < problem.K; ++k) sums[k] += sums[worker * problem.K + k];
  }
  detail::write_bias_gradient(problem, sums.data(), grad_b);
  return detail::total(values);
}

/// f and its gradient at p, whose scores are Z, and G = the gradient of the data term with respect to Z (M, K): two
/// products. Returns infinity if the gradient overflows. Memory: as for `loss_and_gradient`, but for the logits.
template <class T>
double gradient_at_scores(const Problem<T>& problem, PointView<const T> p, Matrix<const T> Z, Matrix<T> G,
                          PointView<T> gradient, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  const Operand<T> features(Op::none, p.W, execution);
  std::vector<double> values(workers, 0.0);
  detail::ClassifierGradient<T> sum(problem, p, gradient, workers, execution);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    auto& part = sum.start(worker);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<const T> H = p.H.block(begin, count);
      const Matrix<T> tile = G.block(begin, count), grad_H = gradient.H.block(begin, count);
      std::copy_n(Z.row(begin), count * problem.K, tile.data);
      values[worker] += residual_rows(problem, begin, p.b, tile, part.b.data());
      part.W.add(tile, H);
      stop.check(worker);
      values[worker] += detail::ridge_of_features(problem, begin, H, grad_H);
      features.multiply(tile, true, grad_H);
      values[worker] += detail::infinite_if_not_finite(grad_H);
    });
  });
  return sum.finish() + detail::total(values);
}

}  // namespace ufm_fast
