#pragma once

#include "evaluate.hpp"

namespace ufm_fast {

/// Fills kept (M, K) with what Hessian products at p need of every sample (the probabilities, or the squared error's
/// residual). One product. An array of this size is the caller's choice: it saves one product in seven.
template <class T>
void keep(const Problem<T>& problem, PointView<const T> p, Matrix<T> kept, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<T> tile = kept.block(begin, count);
      gemm<T>(Op::none, Op::transpose, 1, p.H.block(begin, count), p.W, 0, tile);
      std::visit(
          [&](const auto& loss) {
            for (Index i = 0; i < count; ++i) {
              loss.keep(tile.row(i), affine_of(problem, begin + i, p.b), problem.labels[begin + i]);
            }
          },
          problem.loss);
    });
  });
}

namespace detail {

/// Rows of scores P (or of kept quantities, where `is_kept`) and of score directions D become, in place, the gradient
/// matrix and its derivative; the bias part of the derivative is added to `sum`.
template <class T>
void second_order_rows(const Problem<T>& problem, Index first, const T* b, const T* direction_b, bool is_kept,
                       Matrix<T> P, Matrix<T> D, double* sum) {
  const Index K = problem.K;
  std::visit(
      [&](const auto& loss) {
        for (Index i = 0; i < P.rows; ++i) {
          const Index m = first + i, label = problem.labels[m];
          if (!is_kept) loss.keep(P.row(i), affine_of(problem, m, b), label);
          const Affine<T> affine = affine_of(problem, m, direction_b);
          elementwise::affine_max(D.row(i), K, affine.scale, affine.b);
          loss.second_order(P.row(i), D.row(i), label);
          elementwise::weigh(D.row(i), K, problem.weights[m], problem.scales[m], sum);
          loss.residual(P.row(i), label);
          Vector<T>(P.row(i), K) *= problem.weights[m] * problem.scales[m];
        }
      },
      problem.loss);
}

}  // namespace detail

/// The Hessian at p times the direction v: with G the gradient matrix, dG its derivative along v and dZ = H V_W^T + V_H
/// W^T,
///
///     out_W = dG^T H + G^T V_H + lambda_W V_W,   out_H = dG W + G V_W + ridges V_H,   out_b = sum of dG + lambda_b
///     v_b.
///
/// Seven products, or six where `kept` (filled by keep() at the same point) is given; pass kept.data = nullptr
/// otherwise. Memory: per thread two tiles and, from the second thread on, one classifier.
template <class T>
void hessian_product(const Problem<T>& problem, PointView<const T> p, PointView<const T> v, Matrix<const T> kept,
                     PointView<T> out, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  const bool is_kept = kept.data != nullptr;
  const Index K = problem.K;
  detail::ClassifierSum<T> sum(problem, out.W, out.b, workers);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Index height = tallest_tile(problem, first, last);
    const Workspace<T> tiles(2 * height * K);
    const auto part = sum.start(worker, v);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<const T> H = p.H.block(begin, count), V = v.H.block(begin, count);
      const Matrix<T> G(tiles.data(), count, K), dG(tiles.data() + height * K, count, K);
      if (is_kept) {
        for (Index i = 0; i < count; ++i) Vector<T>(G.row(i), K) = ConstVector<T>(kept.row(begin + i), K);
      } else {
        gemm<T>(Op::none, Op::transpose, 1, H, p.W, 0, G);
      }
      gemm<T>(Op::none, Op::transpose, 1, H, v.W, 0, dG);
      gemm<T>(Op::none, Op::transpose, 1, V, p.W, 1, dG);
      detail::second_order_rows(problem, begin, p.b, v.b, is_kept, G, dG, part.b);
      gemm<T>(Op::transpose, Op::none, 1, dG, H, 1, part.W);
      gemm<T>(Op::transpose, Op::none, 1, G, V, 1, part.W);
      const Matrix<T> out_H = out.H.block(begin, count);
      detail::scaled_rows(problem, begin, V, out_H);
      gemm<T>(Op::none, Op::none, 1, dG, p.W, 1, out_H);
      gemm<T>(Op::none, Op::none, 1, G, v.W, 1, out_H);
    });
  });
  sum.finish(execution);
}

}  // namespace ufm_fast
