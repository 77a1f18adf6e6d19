#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "ufm_fast/model/ridges.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

/// Whether workers share tiles of rows and divide the classes of each between them: where even a low tile of a worker's
/// own would fit no cache, a tile that all share can be taller for the same memory, and every class has one owner, so
/// that its gradient is gathered in place.
template <class T>
bool shares_tiles(const Problem<T>& problem) {
  constexpr Index lowest = 192, cache = Index{1} << 23;
  return problem.K * lowest * static_cast<Index>(sizeof(T)) > cache;
}

namespace detail {

/// Some of the classes, their part of W and of a sum of gradients with respect to it: what one worker multiplies while
/// all share tiles. W is packed a panel of classes at a time, and the sum is gathered where it is wanted.
template <class T>
class ClassRange {
 public:
  /// `sum`: the rows of these classes of the gradient. `keeps` says whether what is packed is kept for the next tile.
  ClassRange(MatrixView<const T> W, Index first, T* sum, bool keeps)
      : W_(W),
        gradient_(sum, W.rows, W.cols),
        first_(first),
        panels_(W.rows, depth_of_panels, sliver),
        sum_(W.cols, W.rows, sum),
        keeps_(keeps),
        scores_(panels_.count()),
        features_(panels_.count()) {}

  /// What `finish` has written.
  MatrixView<T> gradient() const { return gradient_; }

  /// Z = H W^T, in its columns of these classes; finished(row, column, block) as in prepacked::RightFactor.
  template <class Finished>
  void multiply_scores(MatrixView<const T> H, MatrixView<T> Z, Interruption& stop, int worker, Finished&& finished) {
    for (Index panel = 0; panel < panels_.count(); ++panel) {
      stop.check(worker);
      const Index column = first_ + panels_.begin(panel);
      packed(scores_[panel], Op::transpose, panel)
          .multiply(H, false, {Z.data + column, Z.rows, panels_.length(panel), Z.stride},
                    [&](Index row, Index at, MatrixView<T> block) { finished(row, column + at, block); });
      if (!keeps_) scores_[panel].reset();
    }
  }

  /// Adds G^T H to the sum, and writes G W to out_H, added to it if `accumulate`; G in its columns of these classes.
  void multiply_gradient(MatrixView<const T> G, MatrixView<const T> H, bool accumulate, MatrixView<T> out_H,
                         Interruption& stop, int worker) {
    const auto columns = [&](Index from, Index count) {
      return MatrixView<const T>(G.data + first_ + from, G.rows, count, G.stride);
    };
    sum_.add(H, columns(0, W_.rows), begun_);
    begun_ = true;
    for (Index panel = 0; panel < panels_.count(); ++panel) {
      stop.check(worker);
      packed(features_[panel], Op::none, panel)
          .multiply(columns(panels_.begin(panel), panels_.length(panel)), accumulate || panel > 0, out_H);
      if (!keeps_) features_[panel].reset();
    }
  }

  /// Turns the sum into rows of the gradient: adds it to factor W. Returns |W|^2.
  double finish(T factor) {
    double squares = 0;
    sum_.transpose_in_place([&](Index first, MatrixView<T> rows) {
      squares += scale(W_.row(first), rows.rows * rows.cols, factor, rows.data);
    });
    return squares;
  }

 private:
  using Packed = std::optional<prepacked::RightFactor<T>>;
  static constexpr Index sliver = prepacked::widest * simd::lanes<T>;
  static constexpr Index depth_of_panels = prepacked::depth<T> / sliver * sliver;

  MatrixView<const T> W_;
  MatrixView<T> gradient_;
  Index first_;
  Partition panels_;
  prepacked::TransposedSum<T> sum_;
  bool keeps_, begun_ = false;
  std::vector<Packed> scores_, features_;

  const prepacked::RightFactor<T>& packed(Packed& factor, Op op, Index panel) const {
    if (!factor) {
      const MatrixView<const T> rows = W_.block(panels_.begin(panel), panels_.length(panel));
      factor.emplace(op == Op::none ? rows.rows : rows.cols, op == Op::none ? rows.cols : rows.rows);
      factor->pack(op, rows, 0, factor->slivers());
    }
    return *factor;
  }
};

/// The loss and its gradient by tiles that all workers share; see `loss_and_gradient`. A tile goes through phases, each
/// of which ends before the next begins: scores (by classes), losses (by rows), products with the gradient matrix (by
/// classes), sums of what these have for the features (by rows).
template <class T>
class SharedTiles {
 public:
  SharedTiles(const Problem<T>& problem, PointView<const T> p, PointView<T> gradient, const Execution& execution,
              RowValues<T> rows)
      : problem_(problem),
        p_(p),
        gradient_(gradient),
        execution_(execution),
        rows_(rows),
        b_(problem, p.b),
        height_(std::min(problem.M, tallest(problem))),
        tile_(height_ * problem.K),
        workers_(worker_count(slivers(), execution.threads)),
        sums_(row_workers(height_), std::vector<double>(static_cast<std::size_t>(problem.biases()), 0.0)) {
    assert_fits<T>(problem, p);
    const bool keeps = 2 * problem.K * problem.d * static_cast<Index>(sizeof(T)) <= most_kept;
    for (int worker = 0; worker < workers_; ++worker) {
      const Index first = first_class(slivers() * worker / workers_);
      const Index last = first_class(slivers() * (worker + 1) / workers_);
      classes_.emplace_back(p.W.block(first, last - first), first, gradient.W.row(first), keeps);
      largest_.emplace_back(static_cast<std::size_t>(height_));
      if (worker > 0) parts_.emplace_back(height_ * problem.d);
    }
  }

  /// Returns the loss; infinity if the gradient overflows.
  double run() {
    Interruption stop(execution_.poll);
    double value = 0;
    const Partition tiles(problem_.M, height_, prepacked::height);
    for (Index tile = 0; tile < tiles.count(); ++tile) {
      stop.check(0);
      const Index begin = tiles.begin(tile), count = tiles.length(tile);
      multiply_scores(begin, count);
      value += take_losses(begin, count);
      multiply_gradient(begin, count);
      value += add_parts(begin, count);
    }
    return value + finish();
  }

 private:
  static constexpr Index sliver = prepacked::widest * simd::lanes<T>;
  static constexpr Index tile_bytes = Index{1} << 26;
  static constexpr Index most_kept = Index{1} << 25;  // bytes of packed W that are kept from tile to tile

  const Problem<T>& problem_;
  PointView<const T> p_;
  PointView<T> gradient_;
  const Execution& execution_;
  RowValues<T> rows_;
  LogitBias<T> b_;
  Index height_;
  Workspace<T> tile_;
  int workers_;                            // that divide the classes
  std::vector<std::vector<double>> sums_;  // of the gradient with respect to b, one for each worker that has rows
  std::vector<ClassRange<T>> classes_;
  std::vector<std::vector<T>> largest_;  // of the logits of a worker's classes, for the rows of the tile
  std::vector<Workspace<T>> parts_;      // G W, summed over the classes of a worker; the first has it in the gradient

  static Index tallest(const Problem<T>& problem) {
    const Index rows = tile_bytes / static_cast<Index>(sizeof(T)) / problem.K;
    return std::max<Index>(192, rows / prepacked::height * prepacked::height);
  }

  Index slivers() const { return (problem_.K + sliver - 1) / sliver; }
  Index first_class(Index slivers) const { return std::min(problem_.K, slivers * sliver); }
  int row_workers(Index rows) const { return worker_count((rows + 7) / 8, execution_.threads); }
  MatrixView<T> tile(Index count) const { return {tile_.data(), count, problem_.K}; }

  template <class Body>
  void for_each_class_range(Body&& body) {
    parallel_ranges(workers_, workers_, execution_.poll,
                    [&](int worker, Index, Index, Interruption& stop) { body(worker, classes_[worker], stop); });
  }

  /// Calls body(worker, first, count) -> number for ranges of `rows` rows. Returns the sum.
  template <class Body>
  double sum_over_rows(Index rows, Body&& body) {
    std::vector<double> values(row_workers(rows), 0.0);
    parallel_ranges(rows, row_workers(rows), execution_.poll, [&](int worker, Index first, Index last, Interruption&) {
      values[worker] = body(worker, first, last - first);
    });
    return total(values);
  }

  void multiply_scores(Index begin, Index count) {
    const DataRows<T> data = problem_.data(b_.data());
    for_each_class_range([&](int worker, ClassRange<T>& classes, Interruption& stop) {
      std::vector<T>& largest = largest_[worker];
      std::fill(largest.begin(), largest.end(), -std::numeric_limits<T>::infinity());
      classes.multiply_scores(p_.H.block(begin, count), tile(count), stop, worker,
                              [&](Index row, Index column, MatrixView<T> block) {
                                if (!problem_.loss->wants_largest_logit()) return;
                                raise_to_largest(data, begin + row, column, block, largest.data() + row);
                              });
    });
  }

  double take_losses(Index begin, Index count) {
    return sum_over_rows(count, [&](int worker, Index first, Index rows) {
      std::vector<T> largest;
      if (problem_.loss->wants_largest_logit()) {
        largest.assign(largest_[0].begin() + first, largest_[0].begin() + first + rows);
        for (const std::vector<T>& others : largest_) {
          for (Index i = 0; i < rows; ++i) largest[i] = std::max(largest[i], others[first + i]);
        }
      }
      return residual_rows(problem_, begin + first, b_, tile(count).block(first, rows), sums_[worker].data(), largest,
                           rows_) +
             ridge_of_features(problem_, begin + first, p_.H.block(begin + first, rows),
                               gradient_.H.block(begin + first, rows));
    });
  }

  void multiply_gradient(Index begin, Index count) {
    const Index d = problem_.d;
    for_each_class_range([&](int worker, ClassRange<T>& classes, Interruption& stop) {
      const MatrixView<T> out =
          worker == 0 ? gradient_.H.block(begin, count) : MatrixView<T>(parts_[worker - 1].data(), count, d);
      classes.multiply_gradient(tile(count), p_.H.block(begin, count), worker == 0, out, stop, worker);
    });
  }

  double add_parts(Index begin, Index count) {
    return sum_over_rows(count, [&](int, Index first, Index rows) {
      const MatrixView<T> out = gradient_.H.block(begin + first, rows);
      const Index size = rows * problem_.d;
      for (const Workspace<T>& part : parts_) {
        Vector<T>(out.data, size) += ConstVector<T>(part.data() + first * problem_.d, size);
      }
      return infinite_if_not_finite(out);
    });
  }

  /// Returns the ridges of W and b, or infinity if their gradient overflows.
  double finish() {
    std::vector<double> squares(workers_, 0.0), checks(workers_, 0.0);
    for_each_class_range([&](int worker, ClassRange<T>& classes, Interruption&) {
      squares[worker] = classes.finish(problem_.lambda_W);
      checks[worker] = infinite_if_not_finite(classes.gradient());
    });
    std::vector<const double*> sums;
    for (const std::vector<double>& sum : sums_) sums.push_back(sum.data());
    const double overflow = finish_bias_gradient(problem_, p_.b, sums, gradient_.b);
    return ridge_of_classifier(problem_, total(squares), p_.b) + total(checks) + overflow;
  }
};

}  // namespace detail

}  // namespace ufm_fast
