#pragma once

#include "ufm_fast/model/evaluate.hpp"

namespace ufm_fast {

/// Writes the states of all rows at p (M, states), which second-order products need (see Loss; for cross-entropy they
/// are the probabilities). One product. Whoever can afford an array of this size saves one product in seven.
template <class T>
void row_states(const Problem<T>& problem, Same<PointView<const T>> p, Same<MatrixView<T>> states,
                const Execution& execution = {}) {
  assert_fits<T>(problem, p);
  const int workers = row_workers(problem, execution);
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      state_rows(problem, begin, scores, p.H.block(begin, count), b, states.block(begin, count));
    });
  });
}

/// The Hessian at p times each of the directions v: with G the gradient matrix, dG its derivative along v and
/// dZ = H V_W^T + V_H W^T,
///
///     out_W = dG^T H + G^T V_H + lambda_W V_W,   out_H = dG W + G V_W + ridges V_H,
///     out_b = sum of dG + lambda_b v_b.
///
/// Returns whether all of these are finite. Six products a direction and, unless `states` are given (row_states
/// at the same point; MatrixView() otherwise), one more for all of them; what depends on p alone is computed
/// once. Memory: per thread three tiles and one classifier a direction, and, for small d, two more classifiers a
/// direction.
template <class T>
bool hessian_products(const Problem<T>& problem, Same<PointView<const T>> p,
                      const std::vector<Same<PointView<const T>>>& v, Same<MatrixView<const T>> states,
                      const std::vector<Same<PointView<T>>>& out, const Execution& execution = {}) {
  assert_fits<T>(problem, p);
  if (v.size() != out.size()) detail::refuse_problem("out must be as many points as there are directions");
  for (const PointView<const T>& direction : v) assert_fits<T>(problem, direction);
  for (const PointView<T>& image : out) assert_fits<T>(problem, image);
  const int workers = row_workers(problem, execution);
  const Index K = problem.K, numbers = problem.loss->states();
  const RightFactor<T> scores(Op::transpose, p.W, execution), features(Op::none, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  std::vector<LogitBias<T>> moved_b;
  std::vector<RightFactor<T>> moved_scores, moved_features;
  std::vector<detail::ClassifierGradient<T>> sums;
  std::vector<double> checks(workers, 0.0);
  for (std::size_t i = 0; i < v.size(); ++i) {
    moved_b.emplace_back(problem, v[i].b);
    moved_scores.emplace_back(Op::transpose, v[i].W, execution);
    moved_features.emplace_back(Op::none, v[i].W, execution);
    sums.emplace_back(problem, v[i], out[i], workers, execution);
  }
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Index height = tallest_tile(problem, first, last);
    const Workspace<T> tiles(height * (numbers + 2 * K));
    for (detail::ClassifierGradient<T>& sum : sums) sum.start(worker);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<const T> H = p.H.block(begin, count);
      const MatrixView<T> S(tiles.data(), count, numbers), G(tiles.data() + height * numbers, count, K);
      const MatrixView<T> dG(tiles.data() + height * (numbers + K), count, K);
      if (states.data == nullptr) state_rows(problem, begin, scores, H, b, S);
      const MatrixView<const T> at_p = states.data == nullptr ? MatrixView<const T>(S) : states.block(begin, count);
      problem.loss->gradient_rows(problem.data(b.data()), begin, at_p, G);
      for (std::size_t i = 0; i < v.size(); ++i) {
        auto& part = sums[i].part(worker);
        const MatrixView<const T> V = v[i].H.block(begin, count);
        moved_scores[i].multiply(H, false, dG);
        stop.check(worker);
        scores.multiply(V, true, dG);
        problem.loss->second_order_rows(problem.data(moved_b[i].data()), begin, at_p, dG, part.b.data());
        stop.check(worker);
        part.W.add(dG, H);
        stop.check(worker);
        part.W.add(G, V);
        stop.check(worker);
        const MatrixView<T> out_H = out[i].H.block(begin, count);
        detail::ridge_of_features(problem, begin, V, out_H);
        features.multiply(dG, true, out_H);
        stop.check(worker);
        moved_features[i].multiply(G, true, out_H);
        checks[worker] += detail::infinite_if_not_finite(out_H);
        stop.check(worker);
      }
    });
  });
  for (detail::ClassifierGradient<T>& sum : sums) checks[0] += sum.finish();
  return detail::total(checks) == 0;
}

/// The same for one direction.
template <class T>
bool hessian_product(const Problem<T>& problem, Same<PointView<const T>> p, Same<PointView<const T>> v,
                     Same<PointView<T>> out, const Execution& execution = {}) {
  return hessian_products(problem, p, {v}, {}, {out}, execution);
}

}  // namespace ufm_fast
