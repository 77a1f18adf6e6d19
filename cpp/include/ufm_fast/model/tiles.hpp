#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "ufm_fast/base/partition.hpp"
#include "ufm_fast/blas/tile_products.hpp"
#include "ufm_fast/model/problem.hpp"

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
  const Partition tiles(last - first, tile_rows(problem), prepacked::height);
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
    if (data_ == nullptr || !problem.loss->shift_invariant()) return;
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

/// The product `scores`, Z = H W^T, for the samples from `first` on. Returns their largest logits where these can be
/// had while Z is in a cache, and nothing otherwise.
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
    for (Index i = 0; i < block.rows; ++i) {
      const Affine<T> affine = data.logits_of(first + row + i).from(column);
      largest[row + i] = std::max(largest[row + i], elementwise::largest_logit(block.row(i), block.cols, affine));
    }
  });
  return largest;
}

/// Rows of Z = H W^T, for the samples from `first` on, become rows of the gradient matrix; their bias gradient is added
/// to `sum`. Returns the data term of the loss. `largest` as multiply_scores returns it.
template <class T>
double residual_rows(const Problem<T>& problem, Index first, const LogitBias<T>& b, MatrixView<T> Z, double* sum,
                     const std::vector<T>& largest = {}) {
  return problem.loss->residual_rows(problem.data(b.data()), first, Z, largest.empty() ? nullptr : largest.data(), sum);
}

/// Z becomes the states of the samples with the features H, from `first` on.
template <class T>
void state_rows(const Problem<T>& problem, Index first, const RightFactor<T>& scores, MatrixView<const T> H,
                const LogitBias<T>& b, MatrixView<T> Z) {
  const std::vector<T> largest = multiply_scores(problem, first, scores, H, b, Z);
  problem.loss->state_rows(problem.data(b.data()), first, Z, largest.empty() ? nullptr : largest.data());
}

}  // namespace ufm_fast
