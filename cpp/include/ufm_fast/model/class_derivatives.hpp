#pragma once

#include "ufm_fast/model/class_block.hpp"
#include "ufm_fast/model/evaluate.hpp"

namespace ufm_fast {

/// Second pass: the gradient with respect to W and b of these classes, and their part of that with respect to H, each
/// with the decays of the block's problem (so give the ridges of H to one block only). Returns the decays' terms, or
/// infinity if the gradient overflows. Three products; memory as loss_and_gradient.
template <class T>
double class_gradient(const ClassBlock<T>& block, const ClassSums<T>& sums, PointView<const T> p, PointView<T> gradient,
                      const Execution& execution) {
  const Problem<T>& problem = block.problem;
  const int workers = row_workers(problem, execution);
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  std::vector<std::optional<Workspace<T>>> tiles(workers);
  const Index height = tallest_tile(problem, 0, (problem.M + workers - 1) / workers);
  return detail::gradient_from_tiles(problem, p, gradient, workers, execution,
                                     [&](int worker, Index begin, MatrixView<const T> H, double* bias_sum, double&) {
                                       if (!tiles[worker]) tiles[worker].emplace(height * problem.K);
                                       const MatrixView<T> G(tiles[worker]->data(), H.rows, problem.K);
                                       scores.multiply(H, false, G);
                                       detail::probabilities_of_others(block, sums.logsumexps, b, begin, G);
                                       for (Index i = 0; i < G.rows; ++i)
                                         detail::residuals_of_probabilities(block, sums, begin + i, G.row(i));
                                       detail::weigh_rows(problem, begin, G, bias_sum);
                                       return G;
                                     });
}

/// First pass of a Hessian product along v, with dz = scale (<v_W, h> + <W, v_h>) + v_b: moves[m] = the sum of
/// probability times dz over these classes but the label, label_moves[m] = dz_y if the label is one of them and 0
/// otherwise. Three products.
template <class T>
void class_moves(const ClassBlock<T>& block, const T* logsumexps, PointView<const T> p, PointView<const T> v, T* moves,
                 T* label_moves, const Execution& execution) {
  const Problem<T>& problem = block.problem;
  const RightFactor<T> scores(Op::transpose, p.W, execution), moved(Op::transpose, v.W, execution);
  const LogitBias<T> b(problem, p.b);
  const T* v_b = problem.bias ? v.b : nullptr;
  detail::for_each_class_tile(block, p, execution, [&](Index begin, auto H, MatrixView<T> Z, MatrixView<T> dZ) {
    scores.multiply(H, false, Z);
    detail::probabilities_of_others(block, logsumexps, b, begin, Z);
    moved.multiply(H, false, dZ);
    scores.multiply(v.H.block(begin, Z.rows), true, dZ);
    for (Index i = 0; i < Z.rows; ++i) {
      const Index m = begin + i;
      problem.data(v_b).logits_of(m).apply(dZ.row(i), problem.K);
      moves[m] = (ConstVector<T>(Z.row(i), problem.K) * ConstVector<T>(dZ.row(i), problem.K)).sum();
      label_moves[m] = block.has_label(m) ? dZ.row(i)[block.labels[m]] : T(0);
    }
  });
}

/// Second pass: the Hessian times v, with the decays of the block's problem. `means`: the sum of probability times dz
/// over all classes; `label_curvatures`: the label's entry of (diag(p) - p p^T) dz, (M,) each. Returns whether all of
/// it is finite. Seven products; memory as hessian_products.
template <class T>
bool class_product(const ClassBlock<T>& block, const ClassSums<T>& sums, PointView<const T> p, PointView<const T> v,
                   const T* means, const T* label_curvatures, PointView<T> out, const Execution& execution) {
  const Problem<T>& problem = block.problem;
  assert_fits<T>(problem, p);
  const int workers = row_workers(problem, execution);
  const Index K = problem.K;
  const RightFactor<T> scores(Op::transpose, p.W, execution), features(Op::none, p.W, execution);
  const RightFactor<T> moved_scores(Op::transpose, v.W, execution), moved_features(Op::none, v.W, execution);
  const LogitBias<T> b(problem, p.b);
  const T* v_b = problem.bias ? v.b : nullptr;
  std::vector<double> checks(workers, 0.0);
  detail::ClassifierGradient<T> sum(problem, v, out, workers, execution);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Workspace<T> tiles(2 * tallest_tile(problem, first, last) * K);
    std::vector<double> ignored(static_cast<std::size_t>(problem.biases()), 0.0);
    auto& part = sum.start(worker);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<const T> H = p.H.block(begin, count), V = v.H.block(begin, count);
      const MatrixView<T> G(tiles.data(), count, K), dG(tiles.data() + count * K, count, K);
      scores.multiply(H, false, G);
      detail::probabilities_of_others(block, sums.logsumexps, b, begin, G);
      moved_scores.multiply(H, false, dG);
      scores.multiply(V, true, dG);
      stop.check(worker);
      for (Index i = 0; i < count; ++i) {
        const Index m = begin + i;
        problem.data(v_b).logits_of(m).apply(dG.row(i), K);
        Vector<T> d(dG.row(i), K);
        d = ConstVector<T>(G.row(i), K) * (d - means[m]);
        if (block.has_label(m)) d[block.labels[m]] = label_curvatures[m];
        detail::residuals_of_probabilities(block, sums, m, G.row(i));
      }
      detail::weigh_rows(problem, begin, dG, part.b.data());
      detail::weigh_rows(problem, begin, G, ignored.data());
      part.W.add(dG, H);
      part.W.add(G, V);
      stop.check(worker);
      const MatrixView<T> out_H = out.H.block(begin, count);
      detail::ridge_of_features(problem, begin, V, out_H);
      features.multiply(dG, true, out_H);
      moved_features.multiply(G, true, out_H);
      checks[worker] += detail::infinite_if_not_finite(out_H);
    });
  });
  checks[0] += sum.finish();
  return detail::total(checks) == 0;
}

}  // namespace ufm_fast
