#pragma once

#include <vector>

#include "ufm_fast/model/problem.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

// Second derivatives of the data term at a stored gradient matrix G (M, K), one row a sample, without products.

/// Entries [first, last) of the softmax of sample m's logits, from those of row m of G; for squared error ones.
template <class T>
void probabilities_or_ones(const Problem<T>& problem, Index m, Index first, Index last, const T* G, T* out) {
  Vector<T> row(out, last - first);
  const auto* loss = std::get_if<CrossEntropy<T>>(&problem.loss);
  if (loss == nullptr) {
    row.setOnes();
    return;
  }
  const Index label = problem.labels[m];
  row = ConstVector<T>(G, last - first) * (T(1) / (problem.weights[m] * problem.scales[m])) +
        loss->smoothing / T(problem.K);
  if (first <= label && label < last) out[label - first] += T(1) - loss->smoothing;
}

/// Entries [first, last) of the diagonal second derivatives of sample m's loss in its logits: p (1 - p), or ones.
template <class T>
void diagonal_curvature(const Problem<T>& problem, Index m, Index first, Index last, const T* G, T* out) {
  probabilities_or_ones(problem, m, first, last, G, out);
  Vector<T> row(out, last - first);
  if (std::holds_alternative<CrossEntropy<T>>(problem.loss)) row *= T(1) - row;
}

/// Of the diagonal second derivatives of the data term with respect to Z (M, K): their sum, the part of it at labels,
/// and the largest one; and those with respect to b (K,).
template <class T>
struct CurvatureSums {
  double total = 0, at_labels = 0;
  T largest = 0;
  std::vector<double> bias;
};

template <class T>
CurvatureSums<T> curvature_sums(const Problem<T>& problem, Matrix<const T> G, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  std::vector<CurvatureSums<T>> parts(workers);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    CurvatureSums<T>& part = parts[worker];
    part.bias.assign(static_cast<std::size_t>(problem.K), 0.0);
    const Workspace<T> row(problem.K);
    const Vector<T> values(row.data(), problem.K);
    for (Index m = first; m < last; ++m) {
      diagonal_curvature(problem, m, 0, problem.K, G.row(m), row.data());
      const T factor = problem.weights[m] * problem.scales[m] * problem.scales[m];
      part.total += double(factor) * double(values.sum());
      part.at_labels += double(factor) * double(row.data()[problem.labels[m]]);
      part.largest = std::max(part.largest, factor * values.maxCoeff());
      Vector<double>(part.bias.data(), problem.K) += double(problem.weights[m]) * values.template cast<double>();
    }
  });
  CurvatureSums<T> sums = std::move(parts[0]);
  for (int worker = 1; worker < workers; ++worker) {
    const CurvatureSums<T>& part = parts[worker];
    sums.total += part.total;
    sums.at_labels += part.at_labels;
    sums.largest = std::max(sums.largest, part.largest);
    for (Index k = 0; k < problem.K; ++k) sums.bias[k] += part.bias[k];
  }
  return sums;
}

/// out (K,) = the data term's second derivative with respect to b, times v (K,): one pass over G.
template <class T>
void bias_curvature_product(const Problem<T>& problem, Matrix<const T> G, const T* v, double* out,
                            const Execution& execution) {
  const int workers = row_workers(problem, execution);
  std::vector<double> sums(static_cast<std::size_t>(workers * problem.K), 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
    const Workspace<T> kept(problem.K), image(problem.K);
    for (Index m = first; m < last; ++m) {
      probabilities_or_ones(problem, m, 0, problem.K, G.row(m), kept.data());
      Vector<T>(image.data(), problem.K) = ConstVector<T>(v, problem.K);
      std::visit([&](const auto& loss) { loss.second_order(kept.data(), image.data(), problem.labels[m]); },
                 problem.loss);
      const T one = 1;
      elementwise::weigh(Matrix<T>(image.data(), 1, problem.K), &problem.weights[m], &one,
                         sums.data() + worker * problem.K);
    }
  });
  Vector<double> result(out, problem.K);
  result.setZero();
  for (int worker = 0; worker < workers; ++worker) {
    result += Vector<double>(sums.data() + worker * problem.K, problem.K);
  }
}

}  // namespace ufm_fast
