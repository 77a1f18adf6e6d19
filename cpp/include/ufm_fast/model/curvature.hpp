#pragma once

#include <vector>

#include "ufm_fast/model/problem.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

// Second derivatives of the data term at a stored gradient matrix G (M, K), one row a sample, without products.

/// The diagonal second derivatives of the loss in the logits at a block of G: rows from `first` on, columns from
/// `column` on.
template <class T>
void diagonal_curvatures(const Problem<T>& problem, Index first, Index column, MatrixView<const T> G,
                         MatrixView<T> out) {
  problem.loss->states_of_gradient(problem.data(nullptr), first, column, G, out);
  problem.loss->diagonal_curvatures(problem.data(nullptr), first, column, out);
}

/// Summarises the diagonal second derivatives of the data term.
template <class T>
struct CurvatureSums {
  double total = 0;             ///< sum of those with respect to the scores Z (M, K) ...
  double at_anchors = 0;        ///< ... and the part of it at the rows' labels or anchors
  T largest = 0;                ///< the largest of them
  std::vector<double> bias;     ///< those with respect to b, (K,)
  std::vector<double> rows;     ///< sums of the rows of those with respect to Z, (M,) ...
  std::vector<double> columns;  ///< ... and of the columns, (K,)
};

template <class T>
CurvatureSums<T> curvature_sums(const Problem<T>& problem, MatrixView<const T> G, const Execution& execution) {
  assert_fits<T>(problem, G);
  const int workers = row_workers(problem, execution);
  std::vector<CurvatureSums<T>> parts(workers);
  std::vector<double> row_sums(static_cast<std::size_t>(problem.M));
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    CurvatureSums<T>& part = parts[worker];
    part.bias.assign(static_cast<std::size_t>(problem.K), 0.0);
    part.columns = part.bias;
    const Workspace<T> space(elementwise::weighed_rows * problem.K);
    for (Index begin = first; begin < last; begin += elementwise::weighed_rows) {
      const Index count = std::min(elementwise::weighed_rows, last - begin);
      const MatrixView<T> rows(space.data(), count, problem.K);
      diagonal_curvatures(problem, begin, 0, G.block(begin, count), rows);
      for (Index i = 0; i < count; ++i) {
        const Index m = begin + i;
        const ConstVector<T> values(rows.row(i), problem.K);
        const T factor = problem.weights[m] * problem.scales[m] * problem.scales[m];
        row_sums[m] = double(factor) * double(sum_of(rows.row(i), problem.K));
        part.total += row_sums[m];
        part.at_anchors += double(factor) * double(values[problem.targets->anchor(m)]);
        part.largest = std::max(part.largest, factor * values.maxCoeff());
        Vector<double>(part.bias.data(), problem.K) += double(problem.weights[m]) * values.template cast<double>();
        Vector<double>(part.columns.data(), problem.K) += double(factor) * values.template cast<double>();
      }
    }
  });
  CurvatureSums<T> sums = std::move(parts[0]);
  for (int worker = 1; worker < workers; ++worker) {
    const CurvatureSums<T>& part = parts[worker];
    sums.total += part.total;
    sums.at_anchors += part.at_anchors;
    sums.largest = std::max(sums.largest, part.largest);
    for (Index k = 0; k < problem.K; ++k) {
      sums.bias[k] += part.bias[k];
      sums.columns[k] += part.columns[k];
    }
  }
  sums.rows = std::move(row_sums);
  return sums;
}

/// out (K,) = the data term's second derivative with respect to b, times v (K,): one pass over G.
template <class T>
void bias_curvature_product(const Problem<T>& problem, MatrixView<const T> G, const T* v, double* out,
                            const Execution& execution) {
  assert_fits<T>(problem, G);
  const int workers = row_workers(problem, execution);
  std::vector<double> sums(static_cast<std::size_t>(workers * problem.K), 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    const Workspace<T> space(2 * elementwise::weighed_rows * problem.K);
    for (Index begin = first; begin < last; begin += elementwise::weighed_rows) {
      const Index count = std::min(elementwise::weighed_rows, last - begin);
      const MatrixView<T> states(space.data(), count, problem.K), images(states.row(count), count, problem.K);
      problem.loss->states_of_gradient(problem.data(nullptr), begin, 0, G.block(begin, count), states);
      Vector<T>(images.data, count * problem.K).setZero();
      problem.loss->second_order_rows(problem.data(v), begin, states, images, sums.data() + worker * problem.K);
    }
  });
  Vector<double> result(out, problem.K);
  result.setZero();
  for (int worker = 0; worker < workers; ++worker) {
    result += Vector<double>(sums.data() + worker * problem.K, problem.K);
  }
}

/// The second derivative of the data term along scores dZ (M, K): one pass over G and dZ.
template <class T>
double curvature_along(const Problem<T>& problem, MatrixView<const T> G, MatrixView<const T> dZ,
                       const Execution& execution) {
  assert_fits<T>(problem, G);
  const int workers = row_workers(problem, execution);
  std::vector<double> parts(static_cast<std::size_t>(workers), 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    const Workspace<T> space(2 * elementwise::weighed_rows * problem.K);
    std::vector<double> ignored(static_cast<std::size_t>(problem.K), 0.0);
    for (Index begin = first; begin < last; begin += elementwise::weighed_rows) {
      const Index count = std::min(elementwise::weighed_rows, last - begin);
      const MatrixView<T> states(space.data(), count, problem.K), images(states.row(count), count, problem.K);
      const MatrixView<const T> directions = dZ.block(begin, count);
      problem.loss->states_of_gradient(problem.data(nullptr), begin, 0, G.block(begin, count), states);
      copy<T>(directions, images);
      problem.loss->second_order_rows(problem.data(nullptr), begin, states, images, ignored.data());
      for (Index i = 0; i < count; ++i) {
        const ConstVector<T> image(images.row(i), problem.K), direction(directions.row(i), problem.K);
        parts[worker] += double((image * direction).sum());
      }
    }
  });
  double total = 0;
  for (double part : parts) total += part;
  return total;
}

}  // namespace ufm_fast
