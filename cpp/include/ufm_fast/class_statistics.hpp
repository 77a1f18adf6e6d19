#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tiles.hpp"

namespace ufm_fast {

/// Counts, means and second moments of labelled features, gathered batch by batch in double.
///
/// Features are shifted before they are squared, by their class's reference: at first the mean over the tile that
/// brings the first samples, then the class mean each time the class has grown sixteenfold. So the moments hold at most
/// some seventeen times the scatter itself, whatever the size of the means, and nothing is lost to cancellation. The
/// product over a tile of at most `tile_rows` shifted rows is taken in T, at the speed of that type's SYRK and GEMM,
/// and added to the sum in double.
///
/// Memory: d x d + 2 K d doubles, and while updating tile_rows x d numbers of T and a block per thread. The same number
/// of threads gives the same bits. Batches and class counts merge by the formula of Chan, Golub and LeVeque (1983) for
/// parallel variances.
class ClassStatistics {
 public:
  ClassStatistics(Index K, Index d)
      : K_(K),
        d_(d),
        counts_(K, 0),
        settled_counts_(K, 0),
        squares_(K, 0.0),
        reference_(K * d, 0.0),
        sums_(K * d, 0.0),
        scatter_(d * d, 0.0) {}

  Index K() const { return K_; }
  Index d() const { return d_; }
  const std::vector<Index>& counts() const { return counts_; }

  /// Adds the rows of H, of classes `labels` in [0, K); false if an entry is not finite, or so large that squares
  /// overflow, which leaves the statistics useless. Cost: d (d + block) / 2 multiplications a row.
  template <class T>
  bool update(Matrix<const T> H, const Index* labels, const Execution& execution) {
    std::vector<Index> order(H.rows);
    std::iota(order.begin(), order.end(), Index{0});
    std::stable_sort(order.begin(), order.end(), [&](Index i, Index j) { return labels[i] < labels[j]; });
    const Workspace<T> tile(std::min(H.rows, tile_rows) * d_);
    for (Index first = 0; first < H.rows; first += tile_rows) {
      const Index rows = std::min(tile_rows, H.rows - first);
      if (!add_tile(H, labels, order.data() + first, Matrix<T>(tile.data(), rows, d_), execution)) return false;
    }
    return true;
  }

  /// Adds what `other`, of the same K and d, has seen; `other` is only centred.
  void merge(ClassStatistics& other, const Execution& execution) {
    centre(execution);
    other.centre(execution);
    add_in_tiles(classes(), 1.0, execution, [&](Index k, double* row) {
      const double n = double(counts_[k]), m = double(other.counts_[k]);
      Vector<double> difference(row, d_);
      if (n == 0 || m == 0) {
        difference.setZero();
      } else {
        difference = std::sqrt(n / (n + m) * m) * (other.reference(k) - reference(k));
        squares_[k] += difference.square().sum();
      }
    });
    Vector<double>(scatter_.data(), d_ * d_) += ConstVector<double>(other.scatter_.data(), d_ * d_);
    for (Index k = 0; k < K_; ++k) {
      if (other.counts_[k] == 0) continue;
      squares_[k] += other.squares_[k];
      counts_[k] += other.counts_[k];
      settled_counts_[k] = counts_[k];
      reference(k) += double(other.counts_[k]) / double(counts_[k]) * (other.reference(k) - reference(k));
      sum(k).setZero();
    }
  }

  /// Class means (K, d), zero for classes without samples; sums of squared distances to them (K,); and the scatter
  /// matrix, the sum of (h - mean)(h - mean)^T over all samples (d, d).
  void read(Matrix<double> means, double* squares, Matrix<double> scatter, const Execution& execution) {
    centre(execution);
    std::copy(reference_.begin(), reference_.end(), means.data);
    std::copy(squares_.begin(), squares_.end(), squares);
    for (Index i = 0; i < d_; ++i) {
      for (Index j = 0; j < d_; ++j) scatter.row(i)[j] = scatter_[std::min(i, j) * d_ + std::max(i, j)];
    }
  }

 private:
  static constexpr Index tile_rows = 2048;
  static constexpr Index lanes = 16;

  Index K_, d_;
  std::vector<Index> counts_, settled_counts_;  // settled: the count when the reference was last set to the mean
  std::vector<double> squares_;                 // sum of |h - reference|^2, by class
  std::vector<double> reference_, sums_;        // (K, d); sums of h - reference
  std::vector<double> scatter_;                 // (d, d), diagonal and above: sum of squares of h - reference

  struct Run {
    Index label, first, last;
  };

  Vector<double> reference(Index k) { return {&reference_[k * d_], d_}; }
  Vector<double> sum(Index k) { return {&sums_[k * d_], d_}; }

  std::vector<Index> classes() const {
    std::vector<Index> all(K_);
    std::iota(all.begin(), all.end(), Index{0});
    return all;
  }

  /// Adds the rows order[0], order[1], ... of H, as many as `tile` has; false as `update`.
  template <class T>
  bool add_tile(Matrix<const T> H, const Index* labels, const Index* order, Matrix<T> tile,
                const Execution& execution) {
    std::vector<Run> runs;
    for (Index i = 0; i < tile.rows; ++i) {
      const Index label = labels[order[i]];
      if (runs.empty() || runs.back().label != label) runs.push_back({label, i, i});
      runs.back().last = i + 1;
    }
    const double squares = shift(H, order, runs, tile, execution);
    if (!(squares <= (sizeof(T) == sizeof(float) ? 1e75 : 1e300))) return false;
    std::vector<Index> grown;
    for (const Run& run : runs) {
      if (counts_[run.label] == 0) settled_counts_[run.label] = run.last - run.first;
      counts_[run.label] += run.last - run.first;
      if (counts_[run.label] >= 16 * settled_counts_[run.label]) grown.push_back(run.label);
    }
    const double factor = scaled(tile, squares);
    add_gram<T>(tile, factor, execution);
    centre(grown, execution);
    return true;
  }

  /// The mean over the rows of a run, of `size` columns from `begin`: the first row plus the mean difference from it.
  template <class T>
  static void first_mean(Matrix<const T> H, const Index* order, Run run, Index begin, Index size, double* mean) {
    const ConstVector<T> first(H.row(order[run.first]) + begin, size);
    Eigen::ArrayXd sum = Eigen::ArrayXd::Zero(size);
    for (Index i = run.first + 1; i < run.last; ++i) {
      sum += ConstVector<T>(H.row(order[i]) + begin, size).template cast<double>() - first.template cast<double>();
    }
    Vector<double>(mean, size) = first.template cast<double>() + sum / double(run.last - run.first);
  }

  /// shifted = h - reference, added to the sum; returns its square.
  template <class T>
  static double shift_row(const T* h, const double* reference, double* sum, T* shifted, Index size) {
    double squares[lanes] = {};
    Index first = 0;
    for (; first + lanes <= size; first += lanes) {
      for (Index lane = 0; lane < lanes; ++lane) {
        const double difference = double(h[first + lane]) - reference[first + lane];
        sum[first + lane] += difference;
        squares[lane] += difference * difference;
        shifted[first + lane] = T(difference);
      }
    }
    for (; first < size; ++first) {
      const double difference = double(h[first]) - reference[first];
      sum[first] += difference;
      squares[0] += difference * difference;
      shifted[first] = T(difference);
    }
    return std::accumulate(squares, squares + lanes, 0.0);
  }

  /// Row i of `tile` = row order[i] of H minus the reference of its class; the sums of that and of its square grow, in
  /// double. Returns the sum of squares over the tile.
  template <class T>
  double shift(Matrix<const T> H, const Index* order, const std::vector<Run>& runs, Matrix<T> tile,
               const Execution& execution) {
    const Index pieces = (d_ + lanes - 1) / lanes;
    const int workers = tile.rows * d_ <= small_product ? 1 : worker_count(pieces, execution.threads);
    std::vector<std::vector<double>> squares(workers, std::vector<double>(runs.size(), 0.0));
    parallel_ranges(pieces, workers, execution.poll, [&](int worker, Index first, Index last, Interruption&) {
      const Index begin = first * lanes, size = std::min(d_, last * lanes) - begin;
      for (std::size_t r = 0; r < runs.size(); ++r) {
        double* reference = &reference_[runs[r].label * d_ + begin];
        double* sum = &sums_[runs[r].label * d_ + begin];
        if (counts_[runs[r].label] == 0) first_mean(H, order, runs[r], begin, size, reference);
        for (Index i = runs[r].first; i < runs[r].last; ++i) {
          squares[worker][r] += shift_row(H.row(order[i]) + begin, reference, sum, tile.row(i) + begin, size);
        }
      }
    });
    double total = 0;
    for (std::size_t r = 0; r < runs.size(); ++r) {
      for (int worker = 0; worker < workers; ++worker) {
        squares_[runs[r].label] += squares[worker][r];
        total += squares[worker][r];
      }
    }
    return total;
  }

  /// Divides a tile whose products would leave the range of float by a power of two, and returns the square of that.
  template <class T>
  double scaled(Matrix<T> tile, double squares) {
    if (sizeof(T) == sizeof(double) || squares == 0 || (squares > 0x1p-60 && squares < 0x1p100)) return 1;
    const int exponent = std::ilogb(squares) / 2;
    Vector<T>(tile.data, tile.rows * d_) *= static_cast<T>(std::ldexp(1.0, -exponent));
    return std::ldexp(1.0, 2 * exponent);
  }

  /// scatter += factor X^T X, its its diagonal and what lies above it.
  template <class T>
  void add_gram(Matrix<const T> X, double factor, const Execution& execution) {
    const int threads = X.rows * d_ * d_ <= small_product ? 1 : execution.threads;
    Index block = 512, blocks = (d_ + block - 1) / block;
    if (blocks * (blocks + 1) / 2 < threads) {
      block = 256;
      blocks = (d_ + block - 1) / block;
    }
    const Index pairs = blocks * (blocks + 1) / 2;
    const int workers = worker_count(pairs, threads);
    std::atomic<Index> next{0};
    parallel_ranges(workers, workers, execution.poll, [&](int worker, Index, Index, Interruption& stop) {
      const Workspace<T> scratch(block * block);
      for (Index task = next++; task < pairs; task = next++) {
        stop.check(worker);
        // Blocks off the diagonal, of twice the work, come first.
        Index i = 0, j = task;
        if (task < pairs - blocks) {
          for (; j >= blocks - 1 - i; ++i) j -= blocks - 1 - i;
          j += i + 1;
        } else {
          i = j = task - (pairs - blocks);
        }
        const Index rows = std::min(block, d_ - i * block), cols = std::min(block, d_ - j * block);
        const Matrix<const T> left(X.data + i * block, X.rows, rows, X.stride);
        const Matrix<const T> right(X.data + j * block, X.rows, cols, X.stride);
        const Matrix<T> product(scratch.data(), rows, cols);
        if (i == j) {
          gram<T>(left, product);
        } else {
          gemm<T>(Op::transpose, Op::none, 1, left, right, 0, product);
        }
        for (Index row = 0; row < rows; ++row) {
          const Index first = i == j ? row : 0;
          Vector<double>(&scatter_[(i * block + row) * d_ + j * block + first], cols - first) +=
              factor * ConstVector<T>(product.row(row) + first, cols - first).template cast<double>();
        }
      }
    });
  }

  /// scatter += factor X^T X where fill(k, row) writes the row of X that belongs to each of `labels`.
  template <class Fill>
  void add_in_tiles(const std::vector<Index>& labels, double factor, const Execution& execution, Fill&& fill) {
    const Index size = static_cast<Index>(labels.size()), height = tile_rows / 4;
    const Workspace<double> tile(std::min(size, height) * d_);
    for (Index first = 0; first < size; first += height) {
      const Matrix<double> X(tile.data(), std::min(height, size - first), d_);
      for (Index i = 0; i < X.rows; ++i) fill(labels[first + i], X.row(i));
      add_gram<double>(X, factor, execution);
    }
  }

  void centre(const Execution& execution) { centre(classes(), execution); }

  /// Makes the mean of these classes their reference: with s = sum of h - reference, the scatter falls by s s^T / n.
  /// What rounding leaves of s is kept.
  void centre(const std::vector<Index>& labels, const Execution& execution) {
    std::vector<Index> off_centre;
    for (const Index k : labels) {
      if ((sum(k) != 0).any()) off_centre.push_back(k);
    }
    add_in_tiles(off_centre, -1.0, execution, [&](Index k, double* row) {
      const double n = double(counts_[k]);
      Vector<double> shift(row, d_);
      shift = sum(k) / std::sqrt(n);
      squares_[k] = std::max(0.0, squares_[k] - shift.square().sum());
      const Eigen::ArrayXd mean = reference(k) + sum(k) / n;
      sum(k) -= n * (mean - reference(k));
      reference(k) = mean;
    });
    for (const Index k : labels) settled_counts_[k] = counts_[k];
  }
};

}  // namespace ufm_fast
