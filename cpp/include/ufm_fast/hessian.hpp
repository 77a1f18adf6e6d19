#pragma once

#include "evaluate.hpp"

namespace ufm_fast {

namespace detail {

/// Rows of score directions D become, in place, the derivative of the gradient matrix, given what is kept of the rows;
/// the bias part of the derivative is added to `sum`.
template <class T>
void second_order_rows(const Problem<T>& problem, Index first, Matrix<const T> kept, const LogitBias<T>& direction_b,
                       Matrix<T> D, double* sum) {
  std::visit(
      [&](const auto& loss) {
        for_each_weighed_block(
            problem, first, D,
            [&](Index m, Matrix<T> rows, T*) {
              for (Index i = 0; i < rows.rows; ++i) {
                affine_of(problem, m + i, direction_b).apply(rows.row(i), problem.K);
                loss.second_order(kept.row(m + i - first), rows.row(i), problem.labels[m + i]);
              }
            },
            sum);
      },
      problem.loss);
}

/// From what is kept of rows to rows of the gradient matrix.
template <class T>
void gradient_rows(const Problem<T>& problem, Index first, Matrix<const T> kept, Matrix<T> G) {
  std::visit(
      [&](const auto& loss) {
        for (Index i = 0; i < G.rows; ++i) {
          const Index m = first + i;
          Vector<T> g(G.row(i), problem.K);
          g = ConstVector<T>(kept.row(i), problem.K);
          loss.residual(G.row(i), problem.labels[m]);
          g *= problem.weights[m] * problem.scales[m];
        }
      },
      problem.loss);
}

/// Z becomes what is kept of the rows with the features H.
template <class T>
void keep_rows(const Problem<T>& problem, Index first, const Operand<T>& scores, Matrix<const T> H,
               const LogitBias<T>& b, Matrix<T> Z) {
  const std::vector<T> largest = multiply_scores(problem, first, scores, H, b, Z);
  std::visit(
      [&](const auto& loss) {
        for (Index i = 0; i < Z.rows; ++i) {
          loss.keep(Z.row(i), affine_of(problem, first + i, b), problem.labels[first + i],
                    largest.empty() ? nullptr : &largest[i]);
        }
      },
      problem.loss);
}

}  // namespace detail

/// Fills kept (M, K) with what Hessian products at p need of every sample (the probabilities, or the squared error's
/// residual). One product. An array of this size is the caller's choice: it saves one product in seven.
template <class T>
void keep(const Problem<T>& problem, PointView<const T> p, Matrix<T> kept, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  const Operand<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      detail::keep_rows(problem, begin, scores, p.H.block(begin, count), b, kept.block(begin, count));
    });
  });
}

/// The Hessian at p times each of the directions v: with G the gradient matrix, dG its derivative along v and
/// dZ = H V_W^T + V_H W^T,
///
///     out_W = dG^T H + G^T V_H + lambda_W V_W,   out_H = dG W + G V_W + ridges V_H,
///     out_b = sum of dG + lambda_b v_b.
///
/// Returns whether all of these are finite. Six products a direction and, unless `kept` is given (filled by keep() at
/// the same point; kept.data = nullptr otherwise), one more for all of them; what depends on p alone is computed once.
/// Memory: per thread three tiles and one classifier a direction, and, for small d, two more classifiers a direction.
template <class T>
bool hessian_products(const Problem<T>& problem, PointView<const T> p, const std::vector<PointView<const T>>& v,
                      Matrix<const T> kept, const std::vector<PointView<T>>& out, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  const Index K = problem.K;
  const Operand<T> scores(Op::transpose, p.W, execution), features(Op::none, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  std::vector<LogitBias<T>> moved_b;
  std::vector<Operand<T>> moved_scores, moved_features;
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
    const Workspace<T> tiles(3 * height * K);
    for (detail::ClassifierGradient<T>& sum : sums) sum.start(worker);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<const T> H = p.H.block(begin, count);
      const Matrix<T> P(tiles.data(), count, K), G(tiles.data() + height * K, count, K);
      const Matrix<T> dG(tiles.data() + 2 * height * K, count, K);
      if (kept.data == nullptr) detail::keep_rows(problem, begin, scores, H, b, P);
      const Matrix<const T> at_p = kept.data == nullptr ? Matrix<const T>(P) : kept.block(begin, count);
      detail::gradient_rows(problem, begin, at_p, G);
      for (std::size_t i = 0; i < v.size(); ++i) {
        auto& part = sums[i].part(worker);
        const Matrix<const T> V = v[i].H.block(begin, count);
        moved_scores[i].multiply(H, false, dG);
        stop.check(worker);
        scores.multiply(V, true, dG);
        detail::second_order_rows(problem, begin, at_p, moved_b[i], dG, part.b.data());
        stop.check(worker);
        part.W.add(dG, H);
        stop.check(worker);
        part.W.add(G, V);
        stop.check(worker);
        const Matrix<T> out_H = out[i].H.block(begin, count);
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

}  // namespace ufm_fast
