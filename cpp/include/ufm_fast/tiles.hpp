#pragma once

#include <memory>
#include <variant>

#include "blas.hpp"
#include "parallel.hpp"
#include "problem.hpp"

namespace ufm_fast {

/// Rows of H a worker handles at a time. A product of a tile of logits, (tile_rows, K), with W has to pack all of W
/// first, which a tall tile pays for; a tile of more than a few MiB is out of the caches before it is used again.
template <class T>
Index tile_rows(Index K) {
  const Index cached = (Index{1} << 23) / (static_cast<Index>(sizeof(T)) * std::max<Index>(K, 1));
  return std::min<Index>(768, std::max<Index>(192, cached / 16 * 16));
}

/// An uninitialised, aligned array of numbers: the worker that writes it first places its pages.
template <class T>
class Workspace {
 public:
  explicit Workspace(Index size) : data_(Eigen::internal::aligned_new<T>(static_cast<std::size_t>(size)), Free{size}) {}
  T* data() const { return data_.get(); }

 private:
  struct Free {
    Index size;
    void operator()(T* p) const { Eigen::internal::aligned_delete(p, static_cast<std::size_t>(size)); }
  };
  std::unique_ptr<T, Free> data_;
};

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
  const Index rows = last - first;
  const Index tiles = (rows + tile_rows<T>(problem.K) - 1) / tile_rows<T>(problem.K);
  for (Index tile = 0; tile < tiles; ++tile) {
    interruption.check(worker);
    const Index begin = first + rows * tile / tiles;
    body(begin, first + rows * (tile + 1) / tiles - begin);
  }
}

/// What a worker needs for rows [first, last): the height of its tallest tile.
template <class T>
Index tallest_tile(const Problem<T>& problem, Index first, Index last) {
  return std::min(tile_rows<T>(problem.K), last - first);
}

/// How the scores of sample m become logits.
template <class T>
Affine<T> affine_of(const Problem<T>& problem, Index m, const T* b) {
  return {problem.scales[m], problem.bias ? b : nullptr};
}

/// Turns rows of Z = H W^T into rows of the gradient matrix, adds their bias gradient to `sum`, and returns the data
/// term of the loss.
template <class T>
double residual_rows(const Problem<T>& problem, Index first, const T* b, Matrix<T> z, double* sum) {
  return std::visit(
      [&](const auto& loss) {
        double value = 0;
        for (Index i = 0; i < z.rows; ++i) {
          const Index m = first + i;
          const auto [l, factor] = loss.value_and_residual(z.row(i), affine_of(problem, m, b), problem.labels[m]);
          value += double(problem.weights[m]) * l;
          elementwise::weigh(z.row(i), problem.K, problem.weights[m] * factor, problem.scales[m], sum);
        }
        return value;
      },
      problem.loss);
}

}  // namespace ufm_fast
