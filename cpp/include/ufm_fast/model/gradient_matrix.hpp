#pragma once

#include "ufm_fast/model/evaluate.hpp"

namespace ufm_fast {

// The gradient matrix G (M, K): row m is the gradient of the data term with respect to W h_m. Its largest singular
// value against tau decides between global minimum and strict saddle.

/// G itself, where the caller wants an array of that size (one row a class). One product.
template <class T>
void gradient_matrix(const Problem<T>& problem, Same<PointView<const T>> p, Same<MatrixView<T>> G,
                     const Execution& execution = {}) {
  assert_fits<T>(problem, p);
  const int workers = row_workers(problem, execution);
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    std::vector<double> ignored(static_cast<std::size_t>(problem.biases()), 0.0);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<T> tile = G.block(begin, count);
      const auto largest = multiply_scores(problem, begin, scores, p.H.block(begin, count), b, tile);
      residual_rows(problem, begin, b, tile, ignored.data(), largest);
    });
  });
}

namespace detail {

/// Calls body(worker, begin, tile of G) for every tile of the gradient matrix; no more than a tile per thread exists.
template <class T, class Body>
void for_each_gradient_tile(const Problem<T>& problem, PointView<const T> p, int workers, const Execution& execution,
                            Body&& body) {
  assert_fits<T>(problem, p);
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Workspace<T> tile(tallest_tile(problem, first, last) * problem.K);
    std::vector<double> ignored(static_cast<std::size_t>(problem.biases()), 0.0);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<T> G(tile.data(), count, problem.K);
      const auto largest = multiply_scores(problem, begin, scores, p.H.block(begin, count), b, G);
      residual_rows(problem, begin, b, G, ignored.data(), largest);
      body(worker, begin, G);
    });
  });
}

}  // namespace detail

/// The Gram matrix G^T G (K, K), whose largest eigenvalue is |G|_2 squared. Memory: one tile and one K x K array per
/// thread.
template <class T>
void gradient_gram(const Problem<T>& problem, Same<PointView<const T>> p, Same<MatrixView<T>> gram,
                   const Execution& execution = {}) {
  const int workers = row_workers(problem, execution);
  const Index size = problem.K * problem.K;
  std::vector<Workspace<T>> parts;
  for (int worker = 0; worker < workers; ++worker) {
    parts.emplace_back(size);
    Vector<T>(parts.back().data(), size).setZero();
  }
  detail::for_each_gradient_tile(problem, p, workers, execution, [&](int worker, Index, MatrixView<T> G) {
    gemm<T>(Op::transpose, Op::none, 1, G, G, 1, MatrixView<T>(parts[worker].data(), problem.K, problem.K));
  });
  Vector<T> sum(gram.data, size);
  sum = ConstVector<T>(parts[0].data(), size);
  for (int worker = 1; worker < workers; ++worker) sum += ConstVector<T>(parts[worker].data(), size);
}

/// out (M, q) = G X for X (K, q). Memory: one tile per thread.
template <class T>
void gradient_product(const Problem<T>& problem, Same<PointView<const T>> p, Same<MatrixView<const T>> X,
                      Same<MatrixView<T>> out, const Execution& execution = {}) {
  const int workers = row_workers(problem, execution);
  detail::for_each_gradient_tile(problem, p, workers, execution, [&](int, Index begin, MatrixView<T> G) {
    gemm<T>(Op::none, Op::none, 1, G, X, 0, out.block(begin, G.rows));
  });
}

}  // namespace ufm_fast
