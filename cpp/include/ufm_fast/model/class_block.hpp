#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

/// Some classes of a cross-entropy whose other classes are elsewhere (in other processes), for any number of rows. The
/// problem is one of these classes alone: K is their number and W and b are theirs. Its targets are not read; the label
/// of row m is labels[m], counted from the first of these classes, and outside of [0, K) if it is another one.
///
/// The loss of a row with the logits z over all classes, label y and label smoothing s over C classes is
///
///     l = log(1 + exp(o - z_y)) + s (z_y - mean of z),   o = log sum_{j != y} exp z_j.
///
/// What the blocks find of a row is added up between the passes; nothing of the size of classes times rows is.
template <class T>
struct ClassBlock {
  const Problem<T>& problem;
  const Index* labels;  ///< (M,)

  bool has_label(Index m) const { return 0 <= labels[m] && labels[m] < problem.K; }
};

/// What the classes of all blocks say of a row, (M,) each.
template <class T>
struct ClassSums {
  const T* logsumexps;       ///< log of the sum of the exponentials of all logits
  const T* label_residuals;  ///< the label's probability less one, as minus the sum of the others'
  T smoothing;               ///< s
  Index classes;             ///< C

  T share() const { return smoothing / T(classes); }
};

namespace detail {

/// Runs body(begin, rows of H, tile) for tiles (count, K) of all rows, on several threads.
template <class T, class Body>
void for_each_class_tile(const ClassBlock<T>& block, PointView<const T> p, const Execution& execution, Body&& body) {
  const Problem<T>& problem = block.problem;
  assert_fits<T>(problem, p);
  const int workers = row_workers(problem, execution);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Workspace<T> tiles(2 * tallest_tile(problem, first, last) * problem.K);
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      body(begin, p.H.block(begin, count), MatrixView<T>(tiles.data(), count, problem.K),
           MatrixView<T>(tiles.data() + count * problem.K, count, problem.K));
    });
  });
}

/// z = exp(logits - shift), but zero at the label, if it is one of the entries. Returns the sum.
template <class T>
T exp_of_others(T* z, Index size, Affine<T> affine, T shift, Index label) {
  if (label < 0 || label >= size) return elementwise::exp_sum(z, size, affine, shift);
  const Index next = label + 1;
  const T sum = elementwise::exp_sum(z, label, affine, shift) +
                elementwise::exp_sum(z + next, size - next, affine.from(next), shift);
  z[label] = T(0);
  return sum;
}

/// The scores Z become probabilities, but zero at the labels.
template <class T>
void probabilities_of_others(const ClassBlock<T>& block, const T* logsumexps, const LogitBias<T>& b, Index first,
                             MatrixView<T> Z) {
  for (Index i = 0; i < Z.rows; ++i) {
    const Affine<T> affine = block.problem.data(b.data()).logits_of(first + i);
    exp_of_others(Z.row(i), Z.cols, affine, logsumexps[first + i] - b.middle(), block.labels[first + i]);
  }
}

/// Probabilities, zero at the labels, become the derivatives of the rows' losses with respect to their logits.
template <class T>
void residuals_of_probabilities(const ClassBlock<T>& block, const ClassSums<T>& sums, Index m, T* p) {
  const T share = sums.share();
  if (share > T(0)) Vector<T>(p, block.problem.K) -= share;
  if (block.has_label(m)) p[block.labels[m]] = sums.label_residuals[m] + (sums.smoothing - share);
}

/// Multiplies rows by their weights and scales, as elementwise::weigh does, however many there are.
template <class T>
void weigh_rows(const Problem<T>& problem, Index first, MatrixView<T> X, double* sum) {
  for (Index begin = 0; begin < X.rows; begin += elementwise::weighed_rows) {
    const Index count = std::min(elementwise::weighed_rows, X.rows - begin), m = first + begin;
    elementwise::weigh(X.block(begin, count), problem.weights.data() + m, problem.scales.data() + m, sum);
  }
}

}  // namespace detail

/// First pass, of what is not known of a row: others[m] = log of the sum of exp z_j over these classes but the label
/// (-infinity for none; NaN where a logit overflows), label_logits[m] = z_y if the label is one of them and 0
/// otherwise, and logit_sums[m] = the sum of z_j. One product.
template <class T>
void class_logits(const ClassBlock<T>& block, PointView<const T> p, T* others, T* label_logits, T* logit_sums,
                  const Execution& execution) {
  const Problem<T>& problem = block.problem;
  const RightFactor<T> scores(Op::transpose, p.W, execution);
  const LogitBias<T> b(problem, p.b);
  const T sum_of_b = b.data() == nullptr ? T(0) : ConstVector<T>(b.data(), problem.K).sum();
  detail::for_each_class_tile(block, p, execution, [&](Index begin, auto H, MatrixView<T> Z, MatrixView<T>) {
    const std::vector<T> known = multiply_scores(problem, begin, scores, H, b, Z);
    for (Index i = 0; i < Z.rows; ++i) {
      const Index m = begin + i;
      const Affine<T> affine = problem.data(b.data()).logits_of(m);
      const T largest = known.empty() ? elementwise::largest_logit(Z.row(i), problem.K, affine) : known[i];
      const bool finite = all_finite(Z.row(i), problem.K);
      logit_sums[m] = affine.scale * ConstVector<T>(Z.row(i), problem.K).sum() + sum_of_b + T(problem.K) * b.middle();
      label_logits[m] = block.has_label(m) ? affine.at(Z.row(i), block.labels[m]) + b.middle() : T(0);
      const T sum = detail::exp_of_others(Z.row(i), problem.K, affine, largest, block.labels[m]);
      others[m] = finite ? largest + b.middle() + std::log(sum) : std::numeric_limits<T>::quiet_NaN();
    }
  });
}

}  // namespace ufm_fast
