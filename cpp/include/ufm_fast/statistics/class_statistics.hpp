#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

/// Counts, means and second moments of labelled features, gathered batch by batch in double.
///
/// Features are shifted before they are squared, by their class's reference: at first the mean over the tile that
/// brings the first samples, then the class mean if, when the class has grown sixteenfold, moments about the reference
/// are more than twice the scatter. So they are at most 33 times the scatter, whatever the size of the means, and
/// nothing is lost to cancellation. The product over a tile of at most `tile_rows` shifted rows is taken in T, at the
/// speed of that type's SYRK and GEMM, and added to the sum in double.
///
/// How far rounding can have moved a class mean is counted along the way (`errors_`): n additions of rows whose squared
/// distances from the reference sum to Q err by at most n u sqrt(n Q) together, u = 2^-53, because each errs by u times
/// a partial sum, which is at most sum |h - reference| <= sqrt(n Q). Differences and steps of the reference err by u
/// times their size. The reference itself may be any number. The counts below use 2 u, which covers products of u.
///
/// Memory: d x d + 2 K d doubles and, while updating, tile_rows x d + d x d numbers of T or, where that is more, 2
/// block x block a thread instead of d x d; for d <= block no more than (sub_tile_rows + d) x d a thread, unless
/// squares leave the range of T. The same number of threads gives the same bits. Batches and class counts merge by the
/// formula of Chan, Golub and LeVeque (1983) for parallel variances.
class ClassStatistics {
 public:
  ClassStatistics(Index K, Index d)
      : K_(K),
        d_(d),
        counts_(K, 0),
        settled_counts_(K, 0),
        squares_(K, 0.0),
        errors_(K, 0.0),
        reference_(K * d, 0.0),
        sums_(K * d, 0.0),
        scatter_(d * d, 0.0),
        places_(K, 0) {}

  Index K() const { return K_; }
  Index d() const { return d_; }
  const std::vector<Index>& counts() const { return counts_; }

  /// Adds the rows of H, of classes `labels` in [0, K); false if an entry is not finite, or so large that squares
  /// overflow. That, or an exception, leaves the statistics useless. Cost: d (d + block) / 2 multiplications a row.
  template <class T>
  bool update(MatrixView<const T> H, const Index* labels, const Execution& execution) {
    Interruption interruption(execution.poll);
    const Index tallest = std::min(H.rows, tile_rows);
    const Workspace<T> shifted((in_one_piece() ? shift_workers(tallest, execution) * sub_tile_rows : tallest) * d_);
    for (Index first = 0; first < H.rows; first += tile_rows) {
      interruption.check(0);
      const Index rows = std::min(tile_rows, H.rows - first);
      if (!add_tile(H.block(first, rows), labels + first, shifted.data(), execution)) return false;
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
      if (counts_[k] == 0) reference(k) = other.reference(k);
      const Eigen::ArrayXd step = double(other.counts_[k]) * (other.reference(k) - reference(k));
      sum(k) += step + other.sum(k);
      errors_[k] += other.errors_[k] + 2 * epsilon * norm(step);
      squares_[k] += other.squares_[k];
      counts_[k] += other.counts_[k];
      settled_counts_[k] = counts_[k];
      move_reference(k);
    }
  }

  /// Class means (K, d), zero for classes without samples; how far each can be from the mean of the features as they
  /// are (K,); sums of squared distances to the means (K,); and the scatter matrix, the sum of (h - mean)(h - mean)^T
  /// over all samples (d, d).
  void read(MatrixView<double> means, double* roundings, double* squares, MatrixView<double> scatter,
            const Execution& execution) {
    centre(execution);
    for (Index k = 0; k < K_; ++k) {
      roundings[k] = counts_[k] == 0 ? 0 : (errors_[k] + norm(sum(k))) / double(counts_[k]);
    }
    std::copy(reference_.begin(), reference_.end(), means.data);
    std::copy(squares_.begin(), squares_.end(), squares);
    for (Index i = 0; i < d_; ++i) {
      for (Index j = 0; j < d_; ++j) scatter.row(i)[j] = scatter_[std::min(i, j) * d_ + std::max(i, j)];
    }
  }

 private:
  static constexpr Index tile_rows = 4096;
  static constexpr Index block = 512;          // columns of a product, at most
  static constexpr Index sub_tile_rows = 320;  // shifted and multiplied while they are in a core's cache
  static constexpr Index least_rows_of_slice = 128;
  static constexpr Index strip = 32;         // columns whose sums stay in registers ...
  static constexpr Index rows_together = 4;  // ... over so many rows
  static constexpr double epsilon = std::numeric_limits<double>::epsilon();

  Index K_, d_;
  std::vector<Index> counts_, settled_counts_;  // settled: the count when the reference was last looked at
  std::vector<double> squares_;                 // sum of |h - reference|^2, by class
  std::vector<double> errors_;                  // bounds on |sums - what they stand for|, by class
  std::vector<double> reference_, sums_;        // (K, d); sums of h - reference
  std::vector<double> scatter_;                 // (d, d), diagonal and above: sum of squares of h - reference
  std::vector<Index> places_;                   // (K,), zeros: scratch of `group`

  struct Run {
    Index label, first, last;
  };

  /// The rows of a tile by class, where each starts, and which of them are of which class.
  template <class T>
  struct Groups {
    std::vector<const T*> rows;  // and again the last, for `shift_strip`
    std::vector<Run> runs;
  };

  Vector<double> reference(Index k) { return {&reference_[k * d_], d_}; }
  Vector<double> sum(Index k) { return {&sums_[k * d_], d_}; }

  /// Euclidean norm, without overflow.
  template <class Array>
  static double norm(const Array& x) {
    return x.matrix().stableNorm();
  }

  std::vector<Index> classes() const {
    std::vector<Index> all(K_);
    std::iota(all.begin(), all.end(), Index{0});
    return all;
  }

  /// Whether the thread that has shifted some rows also multiplies them, at once.
  bool in_one_piece() const { return d_ <= block; }

  int shift_workers(Index rows, const Execution& execution) const {
    return rows * d_ <= small_product ? 1 : worker_count(rows / least_rows_of_slice, execution.threads);
  }

  /// Adds at most `tile_rows` rows of H; false as `update`. `shifted` is scratch, as in `shift`.
  template <class T>
  bool add_tile(MatrixView<const T> H, const Index* labels, T* shifted, const Execution& execution) {
    const Groups<T> groups = group(H, labels);
    const int workers = shift_workers(H.rows, execution);
    const Workspace<T> products(in_one_piece() ? workers * d_ * d_ : 0);
    const double squares =
        shift(groups, shifted, workers, execution, [&](int worker, MatrixView<const T> rows, bool more) {
          if (in_one_piece()) gram<T>(rows, more ? 1 : 0, {products.data() + worker * d_ * d_, d_, d_});
        });
    if (!(squares <= (sizeof(T) == sizeof(float) ? 1e75 : 1e300))) return false;
    std::vector<Index> off_centre;
    for (const Run& run : groups.runs) {
      const Index added = run.last - run.first;
      if (counts_[run.label] == 0) settled_counts_[run.label] = added;
      counts_[run.label] += added;
      errors_[run.label] += epsilon * double(added + workers + 1) * std::sqrt(double(counts_[run.label])) *
                            std::sqrt(squares_[run.label]);
      if (counts_[run.label] >= 16 * settled_counts_[run.label]) {
        settled_counts_[run.label] = counts_[run.label];
        if (sum(run.label).square().sum() > double(counts_[run.label]) * squares_[run.label] / 2)
          off_centre.push_back(run.label);
      }
    }
    if (!in_one_piece()) {
      add_scaled(MatrixView<T>(shifted, H.rows, d_), squares, execution);
    } else if (in_range<T>(squares)) {
      add_products(products.data(), workers, 1.0, workers, execution);
    } else {
      const Workspace<T> tile(H.rows * d_);
      shift_again(groups, MatrixView<T>(tile.data(), H.rows, d_));
      add_scaled(MatrixView<T>(tile.data(), H.rows, d_), squares, execution);
    }
    centre(off_centre, execution);
    return true;
  }

  /// Classes come in the order of their first row.
  template <class T>
  Groups<T> group(MatrixView<const T> H, const Index* labels) {
    std::vector<Run> runs;
    for (Index i = 0; i < H.rows; ++i) {
      Index& place = places_[labels[i]];  // one more than that of its run
      if (place == 0) {
        runs.push_back({labels[i], 0, 0});
        place = static_cast<Index>(runs.size());
      }
      ++runs[place - 1].last;
    }
    Index first = 0;
    for (Run& run : runs) {
      const Index count = run.last;
      run.first = run.last = first;
      first += count;
    }
    std::vector<const T*> rows(H.rows);
    for (Index i = 0; i < H.rows; ++i) rows[runs[places_[labels[i]] - 1].last++] = H.row(i);
    rows.resize(H.rows + rows_together, rows.back());
    for (const Run& run : runs) places_[run.label] = 0;
    return {std::move(rows), std::move(runs)};
  }

  /// The mean over the rows of a run, of `size` columns from `begin`: the first row plus the mean difference from it.
  template <class T>
  static void first_mean(const std::vector<const T*>& rows, Run run, Index begin, Index size, double* mean) {
    const ConstVector<T> first(rows[run.first] + begin, size);
    Eigen::ArrayXd sum = Eigen::ArrayXd::Zero(size);
    for (Index i = run.first + 1; i < run.last; ++i) {
      sum += ConstVector<T>(rows[i] + begin, size).template cast<double>() - first.template cast<double>();
    }
    Vector<double>(mean + begin, size) = first.template cast<double>() + sum / double(run.last - run.first);
  }

  /// shifted = h - reference, which is added to the sum and its square to `squares`, for `width` columns of rows of one
  /// class. The rows that follow are on their way from memory by the time they are needed.
  template <Index width, class T>
  static void shift_strip(const T* const* h, Index column, const double* reference, double* sum, double* squares,
                          MatrixView<T> shifted) {
    double origin[width], total[width];
    std::copy_n(reference + column, width, origin);
    std::copy_n(sum + column, width, total);
    for (Index i = 0; i < shifted.rows; ++i) {
      const T* row = h[i] + column;
      T* out = shifted.row(i) + column;
      for (Index lane = 0; lane < width; lane += 64 / sizeof(T)) {
        Eigen::internal::prefetch(h[i + shifted.rows] + column + lane);
      }
      for (Index lane = 0; lane < width; ++lane) {
        const double difference = double(row[lane]) - origin[lane];
        total[lane] += difference;
        squares[lane] += difference * difference;
        out[lane] = T(difference);
      }
    }
    std::copy_n(total, width, sum + column);
  }

  /// The reference of classes that have none becomes the mean of their rows.
  template <class T>
  void add_references(const Groups<T>& groups, int workers, const Execution& execution) {
    std::vector<Run> runs;
    for (const Run& run : groups.runs) {
      if (counts_[run.label] == 0) runs.push_back(run);
    }
    if (runs.empty()) return;
    parallel_ranges(d_, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
      for (const Run& run : runs) first_mean(groups.rows, run, first, last - first, &reference_[run.label * d_]);
    });
  }

  /// Rows minus the reference of their class; the sums of that and of its square grow, in double. They are written to
  /// `shifted`, in one piece to the worker's `sub_tile_rows` rows, otherwise each to its own row; then(worker, rows,
  /// more) is called for every few of them, `more` saying whether the worker has had others. Returns the sum of
  /// squares.
  template <class T, class Then>
  double shift(const Groups<T>& groups, T* shifted, int workers, const Execution& execution, Then&& then) {
    const std::vector<Run>& runs = groups.runs;
    add_references(groups, workers, execution);
    struct Part {
      Index label;              // of the class that the worker's first row belongs to ...
      std::vector<double> sum;  // ... and the sum of its rows, if the worker before has the first of them
      std::vector<double> squares;
    };
    std::vector<Part> parts(workers, {0, std::vector<double>(d_), std::vector<double>(runs.size())});
    parallel_ranges(
        runs.back().last, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
          Part& part = parts[worker];
          auto run =
              std::upper_bound(runs.begin(), runs.end(), first, [](Index row, const Run& r) { return row < r.last; });
          part.label = run->label;
          for (Index top = first; top < last; top += sub_tile_rows) {
            stop.check(worker);
            const Index bottom = std::min(last, top + sub_tile_rows);
            const MatrixView<T> tile(shifted + (in_one_piece() ? worker * sub_tile_rows : top) * d_, bottom - top, d_);
            for (Index i = top; i < bottom; run += i == run->last) {
              const double* reference = &reference_[run->label * d_];
              double* sum = run->first < first ? part.sum.data() : &sums_[run->label * d_];
              double squares[strip] = {};
              const Index end = std::min(bottom, run->last);
              for (Index count; i < end; i += count) {
                count = std::min(rows_together, end - i);
                const MatrixView<T> out = tile.block(i - top, count);
                const T* const* h = &groups.rows[i];
                Index column = 0;
                for (; column + strip <= d_; column += strip)
                  shift_strip<strip>(h, column, reference, sum, squares, out);
                for (; column < d_; ++column) shift_strip<1>(h, column, reference, sum, squares, out);
              }
              part.squares[run - runs.begin()] += Vector<double>(squares, strip).sum();
            }
            then(worker, tile, top > first);
          }
        });
    double total = 0;
    for (const Part& part : parts) {
      sum(part.label) += ConstVector<double>(part.sum.data(), d_);
      for (std::size_t r = 0; r < runs.size(); ++r) squares_[runs[r].label] += part.squares[r];
      total += std::accumulate(part.squares.begin(), part.squares.end(), 0.0);
    }
    return total;
  }

  /// Fills the tile as `shift` did.
  template <class T>
  void shift_again(const Groups<T>& groups, MatrixView<T> tile) {
    for (const Run& run : groups.runs) {
      for (Index i = run.first; i < run.last; ++i) {
        const ConstVector<T> h(groups.rows[i], d_);
        Vector<T>(tile.row(i), d_) = (h.template cast<double>() - reference(run.label)).template cast<T>();
      }
    }
  }

  /// Whether products of a tile with this sum of squares stay in the range of T.
  template <class T>
  static bool in_range(double squares) {
    return sizeof(T) == sizeof(double) || squares == 0 || (squares > 0x1p-60 && squares < 0x1p100);
  }

  /// scatter += X^T X; an X whose products would leave the range of T is first divided by a power of two.
  template <class T>
  void add_scaled(MatrixView<T> X, double squares, const Execution& execution) {
    const int exponent = in_range<T>(squares) ? 0 : std::ilogb(squares) / 2;
    if (exponent != 0) Vector<T>(X.data, X.rows * d_) *= static_cast<T>(std::ldexp(1.0, -exponent));
    add_gram<T>(X, std::ldexp(1.0, 2 * exponent), execution);
  }

  /// scatter += factor X^T X, its diagonal and what lies above it: by pairs of blocks of columns and, so that none of
  /// these tasks is more than a thread's share, by slices of rows.
  template <class T>
  void add_gram(MatrixView<const T> X, double factor, const Execution& execution) {
    const int threads = X.rows * d_ * d_ <= small_product ? 1 : execution.threads;
    const Index blocks = (d_ + block - 1) / block, width = (d_ + blocks - 1) / blocks;
    const Index off_diagonal = blocks * (blocks - 1) / 2, pairs = off_diagonal + blocks;
    const Index largest = blocks > 1 ? 2 : 1, all = blocks * blocks;  // work, in blocks on the diagonal
    const Index slices =
        std::max<Index>(1, std::min<Index>((largest * threads + all - 1) / all, X.rows / least_rows_of_slice));
    const Workspace<T> products(slices * d_ * d_);
    const int workers = worker_count(slices * pairs, threads);
    std::atomic<Index> next{workers};
    parallel_ranges(workers, workers, execution.poll, [&](int worker, Index, Index, Interruption& stop) {
      for (Index task = worker; task < slices * pairs; task = next++) {
        stop.check(worker);
        const Index slice = task % slices, pair = task / slices;
        // Blocks off the diagonal, of twice the work, come first.
        Index i = 0, j = pair;
        if (pair < off_diagonal) {
          for (; j >= blocks - 1 - i; ++i) j -= blocks - 1 - i;
          j += i + 1;
        } else {
          i = j = pair - off_diagonal;
        }
        const Index top = i * width, left = j * width, first = X.rows * slice / slices;
        const Index count = X.rows * (slice + 1) / slices - first;
        const Index rows = std::min(width, d_ - top), cols = std::min(width, d_ - left);
        const MatrixView<const T> x(X.row(first) + top, count, rows, X.stride);
        const MatrixView<T> product(products.data() + (slice * d_ + top) * d_ + left, rows, cols, d_);
        if (i == j) {
          gram<T>(x, 0, product);
        } else {
          gemm<T>(Op::transpose, Op::none, 1, x, {X.row(first) + left, count, cols, X.stride}, 0, product);
        }
      }
    });
    add_products(products.data(), slices, factor, workers, execution);
  }

  /// scatter += factor times the sum of `count` products (d, d).
  template <class T>
  void add_products(const T* products, Index count, double factor, int workers, const Execution& execution) {
    parallel_ranges(workers, workers, execution.poll, [&](int worker, Index, Index, Interruption&) {
      for (Index row = worker; row < d_; row += workers) {
        Vector<double> sum(&scatter_[row * d_ + row], d_ - row);
        for (Index k = 0; k < count; ++k) {
          sum += factor * ConstVector<T>(products + (k * d_ + row) * d_ + row, d_ - row).template cast<double>();
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
      const MatrixView<double> X(tile.data(), std::min(height, size - first), d_);
      for (Index i = 0; i < X.rows; ++i) fill(labels[first + i], X.row(i));
      add_gram<double>(X, factor, execution);
    }
  }

  void centre(const Execution& execution) { centre(classes(), execution); }

  /// Makes the mean of these classes their reference: with s = sum of h - reference, the scatter falls by s s^T / n.
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
      move_reference(k);
    });
    for (const Index k : labels) settled_counts_[k] = counts_[k];
  }

  /// The mean becomes the reference, and what rounding leaves of the sum is kept.
  void move_reference(Index k) {
    const double n = double(counts_[k]);
    const Eigen::ArrayXd mean = reference(k) + sum(k) / n, step = n * (mean - reference(k));
    sum(k) -= step;
    reference(k) = mean;
    errors_[k] += 2 * epsilon * norm(step);
  }
};

}  // namespace ufm_fast
