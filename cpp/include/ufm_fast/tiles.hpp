#pragma once

#include <algorithm>
#include <limits>
#include <variant>
#include <vector>

#include "operand.hpp"
#include "problem.hpp"

namespace ufm_fast {

/// Rows of H a worker handles at a time. With few features a tile of logits is used soon and should still be in a
/// cache; with many, memory is fast enough anyway, and a tall tile makes up for the packing in every BLAS call.
template <class T>
Index tile_rows(const Problem<T>& problem) {
  const bool small = packs<T>(problem.K, problem.d);
  const Index bytes = small ? Index{1} << 23 : Index{1} << 25, tallest = small ? 768 : 2048;
  return std::min(tallest, std::max<Index>(192, bytes / static_cast<Index>(sizeof(T)) / problem.K / 16 * 16));
}

/// Workers for the M rows of a problem.
template <class T>
int row_workers(const Problem<T>& problem, const Execution& execution) {
  const Index pieces = (problem.M + 31) / 32;
  return worker_count(pieces, execution.threads);
}

/// Calls body(first, count) for the tiles of rows [first, last), all of nearly the same height.
template <class T, class Body>
void for_each_tile(const Problem<T>& problem, Index first, Index last, int worker, Interruption& interruption,
                   Body&& body) {
  const packed::Cut tiles(last - first, tile_rows(problem), packed::height);
  for (Index tile = 0; tile < tiles.count(); ++tile) {
    interruption.check(worker);
    body(first + tiles.begin(tile), tiles.length(tile));
  }
}

/// What a worker needs for rows [first, last): the height of its tallest tile.
template <class T>
Index tallest_tile(const Problem<T>& problem, Index first, Index last) {
  return std::min(tile_rows(problem), last - first);
}

/// The bias as logits get it. Where a common shift of the logits does not change the loss, the middle of the range of b
/// is taken out: added to the scores, a large shift would round away their last digits.
template <class T>
class LogitBias {
 public:
  LogitBias(const Problem<T>& problem, const T* b) : data_(problem.bias ? b : nullptr) {
    const bool shift_invariant = std::visit([](const auto& loss) { return loss.shift_invariant; }, problem.loss);
    if (data_ == nullptr || !shift_invariant) return;
    const auto [least, most] = std::minmax_element(b, b + problem.K);
    const T middle = *least / 2 + *most / 2;
    centred_.resize(static_cast<std::size_t>(problem.K));
    std::transform(b, b + problem.K, centred_.begin(), [middle](T x) { return x - middle; });
    data_ = centred_.data();
  }
  LogitBias(const LogitBias&) = delete;
  LogitBias& operator=(const LogitBias&) = delete;
  LogitBias(LogitBias&&) = default;  // the vector's numbers stay where they are
  LogitBias& operator=(LogitBias&&) = default;

  /// Null without bias.
  const T* data() const { return data_; }

 private:
  std::vector<T> centred_;
  const T* data_;
};

/// How the scores of sample m become logits.
template <class T>
Affine<T> affine_of(const Problem<T>& problem, Index m, const LogitBias<T>& b) {
  return {problem.scales[m], b.data()};
}

/// The product `scores`, Z = H W^T, for the samples from `first` on. Returns their largest logits where these can be
/// had while Z is in a cache, and nothing otherwise.
template <class T>
std::vector<T> multiply_scores(const Problem<T>& problem, Index first, const Operand<T>& scores, Matrix<const T> H,
                               const LogitBias<T>& b, Matrix<T> Z) {
  if (!scores.is_packed() || !std::holds_alternative<CrossEntropy<T>>(problem.loss)) {
    scores.multiply(H, false, Z);
    return {};
  }
  std::vector<T> largest(static_cast<std::size_t>(Z.rows), -std::numeric_limits<T>::infinity());
  scores.multiply(H, false, Z, [&](Index row, Index column, Matrix<T> block) {
    for (Index i = 0; i < block.rows; ++i) {
      const Affine<T> affine = affine_of(problem, first + row + i, b).from(column);
      largest[row + i] = std::max(largest[row + i], elementwise::largest_logit(block.row(i), block.cols, affine));
    }
  });
  return largest;
}

/// Calls body(sample, rows, weights) for blocks of few rows, the samples' weights being its own to change; then weighs
/// the rows by these and the samples' scales, and adds them to `sum` without the scales.
template <class T, class Body>
void for_each_weighed_block(const Problem<T>& problem, Index first, Matrix<T> X, Body&& body, double* sum) {
  for (Index i = 0; i < X.rows; i += elementwise::weighed_rows) {
    const Index m = first + i, count = std::min(elementwise::weighed_rows, X.rows - i);
    T weights[elementwise::weighed_rows];
    std::copy_n(&problem.weights[m], count, weights);
    body(m, X.block(i, count), weights);
    elementwise::weigh(X.block(i, count), weights, &problem.scales[m], sum);
  }
}

/// Turns rows of Z = H W^T into rows of the gradient matrix, adds their bias gradient to `sum`, and returns the data
/// term of the loss. `largest`: the rows' largest logits, if known.
template <class T>
double residual_rows(const Problem<T>& problem, Index first, const LogitBias<T>& b, Matrix<T> z, double* sum,
                     const std::vector<T>& largest = {}) {
  return std::visit(
      [&](const auto& loss) {
        double value = 0;
        for_each_weighed_block(
            problem, first, z,
            [&](Index m, Matrix<T> rows, T* weights) {
              for (Index i = 0; i < rows.rows; ++i) {
                const auto [l, factor] =
                    loss.value_and_residual(rows.row(i), affine_of(problem, m + i, b), problem.labels[m + i],
                                            largest.empty() ? nullptr : &largest[m + i - first]);
                value += double(problem.weights[m + i]) * l;
                weights[i] *= factor;
              }
            },
            sum);
        return value;
      },
      problem.loss);
}

}  // namespace ufm_fast
