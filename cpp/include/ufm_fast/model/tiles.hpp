#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "ufm_fast/base/partition.hpp"
#include "ufm_fast/blas/tile_products.hpp"
#include "ufm_fast/model/problem.hpp"

namespace ufm_fast {

/// How many rows of H a worker handles at a time. With few features (small d) a tile of logits is read again soon after
/// it is written, so it should fit in a cache, and with few classes so should its features. With many features the
/// products dominate: tiles are tall, because every BLAS call rearranges the large operand first.
template <class T>
Index tile_rows(const Problem<T>& problem) {
  constexpr Index size = sizeof(T);
  const Index K = problem.K;
  if (!packs<T>(K, problem.d)) return std::clamp<Index>((Index{1} << 25) / size / K / 16 * 16, 192, 2048);
  const Index features = (Index{1} << 19) / size / std::max<Index>(1, problem.d),
              logits = (Index{1} << 23) / size / K / 16 * 16;
  return std::clamp<Index>(logits, 192, std::clamp<Index>(std::max(features, K), 192, 768));
}

/// How many workers share the M rows of a problem.
template <class T>
int row_workers(const Problem<T>& problem, const Execution& execution) {
  const Index pieces = (problem.M + 31) / 32;
  return worker_count(pieces, execution.threads);
}

/// Calls body(first, count) for the tiles of rows [first, last), all of nearly the same height.
template <class T, class Body>
void for_each_tile(const Problem<T>& problem, Index first, Index last, int worker, Interruption& interruption,
                   Body&& body) {
  const Partition tiles(last - first, tile_rows(problem), prepacked::height);
  for (Index tile = 0; tile < tiles.count(); ++tile) {
    interruption.check(worker);
    body(first + tiles.begin(tile), tiles.length(tile));
  }
}

/// The most rows that a tile of rows [first, last) can have.
template <class T>
Index tallest_tile(const Problem<T>& problem, Index first, Index last) {
  return std::min(tile_rows(problem), last - first);
}

/// The bias that is added to the scores. Where a common shift of the logits does not change the loss, the middle of the
/// range of b is subtracted from it: a large shift would round away the last digits of the scores.
template <class T>
class LogitBias {
 public:
  LogitBias(const Problem<T>& problem, const T* b) : data_(problem.bias ? b : nullptr) {
    if (data_ == nullptr || !problem.loss->shift_invariant()) return;
    const auto [least, most] = std::minmax_element(b, b + problem.K);
    const T middle = middle_ = *least / 2 + *most / 2;
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

  /// What is subtracted.
  T middle() const { return middle_; }

 private:
  std::vector<T> centred_;
  const T* data_;
  T middle_ = T(0);
};

/// Raises `largest`, one number a row, to the largest logits of a block of the scores: of the rows of data from `first`
/// on and the classes from `column` on.
template <class T>
void raise_to_largest(const DataRows<T>& data, Index first, Index column, MatrixView<T> block, T* largest) {
  for (Index i = 0; i < block.rows; ++i) {
    const Affine<T> affine = data.logits_of(first + i).from(column);
    largest[i] = std::max(largest[i], elementwise::largest_logit(block.row(i), block.cols, affine));
  }
}

/// Computes the scores Z = H W^T of the rows of data from `first` on. Returns their largest logits where these can be
/// found while Z is in a cache, and an empty vector otherwise.
template <class T>
std::vector<T> multiply_scores(const Problem<T>& problem, Index first, const RightFactor<T>& scores,
                               MatrixView<const T> H, const LogitBias<T>& b, MatrixView<T> Z) {
  if (!scores.is_packed() || !problem.loss->wants_largest_logit()) {
    scores.multiply(H, false, Z);
    return {};
  }
  const DataRows<T> data = problem.data(b.data());
  std::vector<T> largest(static_cast<std::size_t>(Z.rows), -std::numeric_limits<T>::infinity());
  scores.multiply(H, false, Z, [&](Index row, Index column, MatrixView<T> block) {
    raise_to_largest(data, first + row, column, block, largest.data() + row);
  });
  return largest;
}

/// Turns the scores Z of the rows of data from `first` on into rows of the gradient matrix, and adds their gradient
/// with respect to b to `sum`. Returns their data term. `largest` is what multiply_scores returned.
template <class T>
double residual_rows(const Problem<T>& problem, Index first, const LogitBias<T>& b, MatrixView<T> Z, double* sum,
                     const std::vector<T>& largest = {}, RowValues<T> rows = {}) {
  const double value = problem.loss->residual_rows(problem.data(b.data()), first, Z,
                                                   largest.empty() ? nullptr : largest.data(), sum, rows);
  if (rows.logsumexps != nullptr) Vector<T>(rows.logsumexps + first, Z.rows) += b.middle();
  return value;
}

/// Writes the states of the rows of data from `first` on, whose features are H, to S.
template <class T>
void state_rows(const Problem<T>& problem, Index first, const RightFactor<T>& scores, MatrixView<const T> H,
                const LogitBias<T>& b, MatrixView<T> S) {
  const MatrixView<T> Z(S.data, S.rows, problem.K, S.stride);
  const std::vector<T> largest = multiply_scores(problem, first, scores, H, b, Z);
  problem.loss->state_rows(problem.data(b.data()), first, S, largest.empty() ? nullptr : largest.data());
}

}  // namespace ufm_fast
