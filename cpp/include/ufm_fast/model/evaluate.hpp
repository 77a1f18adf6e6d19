#pragma once

#include <vector>

#include "ufm_fast/model/shared_tiles.hpp"

namespace ufm_fast {

namespace detail {

/// The gradient with respect to the classifier and the bias: lambda_W p.W and lambda_b p.b, and sums over the samples,
/// gathered by several workers. Every worker has sums of its own, the first if possible directly in the gradient; they
/// are added in order at the end, so that the same number of workers gives the same bits.
template <class T>
class ClassifierGradient {
 public:
  /// The sums of one worker.
  struct Part {
    ClassifierSum<T> W;
    std::vector<double> b;

    Part(const Problem<T>& problem, T* direct)
        : W(problem.K, problem.d, direct), b(static_cast<std::size_t>(problem.biases()), 0.0) {}
  };

  ClassifierGradient(const Problem<T>& problem, PointView<const T> p, PointView<T> out, int workers,
                     const Execution& execution)
      : problem_(problem), p_(p), out_(out), execution_(execution), parts_(workers) {
    std::vector<double> squares(std::max(1, execution.threads), 0.0);
    for_each_range_of_rows([&](int worker, Index first, MatrixView<T> rows) {
      squares[worker] = scale(p_.W.row(first), rows.rows * rows.cols, problem_.lambda_W, rows.data);
    });
    squares_ = total(squares);
  }

  Part& start(int worker) { return parts_[worker].emplace(problem_, worker == 0 ? out_.W.data : nullptr); }
  Part& part(int worker) { return *parts_[worker]; }

  /// lambda_W/2 |p.W|^2 + lambda_b/2 |p.b|^2
  double ridge() const { return ridge_of_classifier(problem_, squares_, p_.b); }

  /// Adds up what the workers have. Returns infinity if the gradient overflows, otherwise zero.
  double finish() {
    std::vector<const double*> sums;
    for (const std::optional<Part>& part : parts_) sums.push_back(part->b.data());
    const double overflow = finish_bias_gradient(problem_, p_.b, sums, out_.b);
    std::vector<double> checks(std::max(1, execution_.threads), 0.0);
    for_each_range_of_rows([&](int worker, Index first, MatrixView<T> rows) {
      for (const std::optional<Part>& part : parts_) part->W.add_to(first, rows);
      checks[worker] = infinite_if_not_finite(rows);
    });
    return total(checks) + overflow;
  }

 private:
  const Problem<T>& problem_;
  PointView<const T> p_;
  PointView<T> out_;
  const Execution& execution_;
  std::vector<std::optional<Part>> parts_;
  double squares_;

  /// Calls body(worker, first, rows of the gradient from there on).
  template <class Body>
  void for_each_range_of_rows(Body&& body) {
    const Index K = problem_.K;
    const int workers = K * problem_.d <= small_product ? 1 : worker_count(K, execution_.threads);
    parallel_ranges(K, workers, execution_.poll, [&](int worker, Index first, Index last, Interruption&) {
      body(worker, first, out_.W.block(first, last - first));
    });
  }
};

}  // namespace detail

/// f(W, H, b): one product of K d M multiplications. Memory: one tile of logits per thread and, for small d, W.
template <class T>
double loss(const Problem<T>& problem, Same<PointView<const T>> p, const Execution& execution = {}) {
  assert_fits<T>(problem, p);
  const int workers = row_workers(problem, execution);
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  std::vector<double> values(workers, 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Workspace<T> tile(tallest_tile(problem, first, last) * problem.K);
    std::vector<double> ignored(static_cast<std::size_t>(problem.biases()), 0.0);
    double value = detail::ridge_of_features(problem, first, p.H.block(first, last - first));
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<T> Z(tile.data(), count, problem.K);
      const auto largest = multiply_scores(problem, begin, scores, p.H.block(begin, count), b, Z);
      value += residual_rows(problem, begin, b, Z, ignored.data(), largest);
    });
    values[worker] = value;
  });
  return detail::ridge_of_classifier(problem, squared_norm(p.W.data, problem.K * problem.d), p.b) +
         detail::total(values);
}

namespace detail {

/// Computes f and its gradient from tiles of the gradient matrix; infinity if the gradient overflows. The function
/// gradient_tile(worker, begin, H, bias sum, value) returns the tile of the rows of data from `begin` on, whose
/// features are H, and adds their part of the data term to `value` and of the gradient with respect to b to the bias
/// sum.
template <class T, class GradientTile>
double gradient_from_tiles(const Problem<T>& problem, PointView<const T> p, PointView<T> gradient, int workers,
                           const Execution& execution, GradientTile&& gradient_tile) {
  const RightFactor<T> features(Op::none, p.W, execution);
  std::vector<double> values(workers, 0.0);
  ClassifierGradient<T> sum(problem, p, gradient, workers, execution);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    auto& part = sum.start(worker);
    double value = 0;
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const MatrixView<const T> H = p.H.block(begin, count);
      const MatrixView<T> G = gradient_tile(worker, begin, H, part.b.data(), value);
      stop.check(worker);
      part.W.add(G, H);
      stop.check(worker);
      const MatrixView<T> grad_H = gradient.H.block(begin, count);
      value += ridge_of_features(problem, begin, H, grad_H);
      features.multiply(G, true, grad_H);
      value += infinite_if_not_finite(grad_H);
    });
    values[worker] = value;
  });
  return sum.ridge() + total(values) + sum.finish();
}

}  // namespace detail

/// f and its gradient: three products,
///
///     Z = H W^T,   grad_H = G W + ridges H,   grad_W = G^T H + lambda_W W,   grad_b = sum of rows + lambda_b b,
///
/// where row m of G is the gradient with respect to W h_m. Without bias grad_b is zero, unless it is null. Returns
/// infinity if the gradient overflows. Memory: per thread one tile of logits and one classifier, and, for small d, two
/// more classifiers; where tiles are shared, one tile of 64 MiB (or 192 rows) and 32 MiB at most of packed classifier.
/// Fills `rows` on the way.
template <class T>
double loss_and_gradient(const Problem<T>& problem, Same<PointView<const T>> p, Same<PointView<T>> gradient,
                         const Execution& execution = {}, RowValues<T> rows = {}) {
  assert_fits(problem, p);
  assert_fits(problem, gradient);
  if (shares_tiles(problem)) return detail::SharedTiles<T>(problem, p, gradient, execution, rows).run();
  const int workers = row_workers(problem, execution);
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  std::vector<std::optional<Workspace<T>>> tiles(workers);
  const Index height = tallest_tile(problem, 0, (problem.M + workers - 1) / workers);
  return detail::gradient_from_tiles(
      problem, p, gradient, workers, execution,
      [&](int worker, Index begin, MatrixView<const T> H, double* bias_sum, double& value) {
        if (!tiles[worker]) tiles[worker].emplace(height * problem.K);
        const MatrixView<T> G(tiles[worker]->data(), H.rows, problem.K);
        const std::vector<T> largest = multiply_scores(problem, begin, scores, H, b, G);
        value += residual_rows(problem, begin, b, G, bias_sum, largest, rows);
        return G;
      });
}

}  // namespace ufm_fast
