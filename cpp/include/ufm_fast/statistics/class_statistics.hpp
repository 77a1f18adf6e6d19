#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "ufm_fast/statistics/rows_by_class.hpp"
#include "ufm_fast/statistics/scatter_sum.hpp"

namespace ufm_fast {

/// Counts, means and second moments of labelled features, gathered batch by batch in double.
///
/// Before features are squared, a reference of their class is subtracted. At first that is the mean of the class over
/// the tile that brings its first samples. Whenever the class has grown sixteenfold and its moments about the reference
/// are more than twice its scatter, the reference moves to the class mean. So moments are at most 33 times the scatter,
/// whatever the size of the means, and nothing is lost to cancellation. Products are taken over tiles of at most
/// `tile_rows` rows.
///
/// How far rounding can have moved a class mean is counted along the way (`errors_`): n additions of rows whose squared
/// distances from the reference sum to Q err by at most n u sqrt(n Q) together, u = 2^-53, because each errs by u times
/// a partial sum, which is at most sum |h - reference| <= sqrt(n Q). Differences and steps of the reference err by u
/// times their size. The reference itself may be any number. The counts below use 2 u, which covers products of u.
///
/// Memory: 2 K d doubles and a ScatterSum and, while updating, tile_rows x d numbers of T and what ScatterSum takes;
/// for d <= ScatterSum::block no more than (sub_tile_rows + d) x d a thread, unless squares leave the range of T. On
/// request there is no scatter matrix: then 2 K d doubles and sub_tile_rows x ScatterSum::block numbers of T a thread,
/// or rows_together x d where that is more. The same number of threads gives the same bits. Batches and class counts
/// merge by the formula of Chan, Golub and LeVeque (1983) for parallel variances. One thread at a time may use it.
class ClassStatistics {
 public:
  ClassStatistics(Index K, Index d, bool with_scatter)
      : K_(K),
        d_(d),
        counts_(K, 0),
        settled_counts_(K, 0),
        squares_(K, 0.0),
        errors_(K, 0.0),
        reference_(K * d, 0.0),
        sums_(K * d, 0.0),
        places_(K, 0) {
    if (with_scatter) scatter_.emplace(d);
  }

  Index K() const { return K_; }
  Index d() const { return d_; }
  bool has_scatter() const { return scatter_.has_value(); }
  const std::vector<Index>& counts() const { return counts_; }

  /// Calls each(name, numbers, shape), the last a std::initializer_list<Index>, for every array of the state: copies of
  /// them, written into statistics of the same K and d, with a scatter or without as these are, make them the same to
  /// the last bit.
  template <class Each>
  void for_each_part(Each&& each) {
    each("counts", counts_, {K_});
    each("settled_counts", settled_counts_, {K_});
    each("squares", squares_, {K_});
    each("errors", errors_, {K_});
    each("references", reference_, {K_, d_});
    each("sums", sums_, {K_, d_});
    if (scatter_) each("scatter", scatter_->numbers(), {d_, d_});
  }

  /// Adds the rows of H, of classes `labels` in [0, K); false if an entry is not finite, or so large that squares
  /// overflow. That, or an exception, leaves the statistics useless. Cost: d (d + block) / 2 multiplications a row, or
  /// 2 d without the scatter.
  template <class T>
  bool update(MatrixView<const T> H, const Index* labels, const Execution& execution) {
    Interruption interruption(execution.poll);
    const Index tallest = std::min(H.rows, tile_rows);
    const Workspace<T> shifted((keeps_tile() ? tallest : shift_workers(tallest, execution) * sub_tile_height()) * d_);
    for (Index first = 0; first < H.rows; first += tile_rows) {
      interruption.check(0);
      const Index rows = std::min(tile_rows, H.rows - first);
      if (!add_tile(H.block(first, rows), labels + first, shifted.data(), execution)) return false;
    }
    return true;
  }

  /// Adds what `other`, of the same K and d and with a scatter or not as this, has seen; `other` is only centred.
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
    if (scatter_) scatter_->add(*other.scatter_);
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
  /// over all samples (d, d), where there is one.
  void read(MatrixView<double> means, double* roundings, double* squares, MatrixView<double> scatter,
            const Execution& execution) {
    centre(execution);
    for (Index k = 0; k < K_; ++k) {
      roundings[k] = counts_[k] == 0 ? 0 : (errors_[k] + norm(sum(k))) / double(counts_[k]);
    }
    std::copy(reference_.begin(), reference_.end(), means.data);
    std::copy(squares_.begin(), squares_.end(), squares);
    if (scatter_) scatter_->read(scatter);
  }

 private:
  static constexpr Index tile_rows = 4096;
  static constexpr Index sub_tile_rows = 320;  // at most, shifted and multiplied while they are in a core's cache
  static constexpr Index strip = 32;           // columns whose sums stay in registers ...
  static constexpr Index rows_together = 4;    // ... over so many rows
  static constexpr double epsilon = std::numeric_limits<double>::epsilon();

  Index K_, d_;
  std::vector<Index> counts_;
  std::vector<Index> settled_counts_;     // counts when it was last decided whether references move
  std::vector<double> squares_;           // sum of |h - reference|^2, by class
  std::vector<double> errors_;            // bounds on |sums - what they stand for|, by class
  std::vector<double> reference_, sums_;  // (K, d); sums of h - reference
  std::optional<ScatterSum> scatter_;     // of h - reference
  std::vector<Index> places_;             // (K,), zeros: scratch of RowsByClass

  /// What a worker found in its share of the rows of a tile.
  struct ShiftedRows {
    Index label;                  // of the class that its first row is of ...
    std::vector<double> sum;      // ... and the sum of that class's rows, where the worker before has the first of them
    std::vector<double> squares;  // sum of |h - reference|^2, by run
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

  /// Whether a thread that has shifted some rows also multiplies them at once, while they are in its cache.
  bool in_one_piece() const { return scatter_ && d_ <= ScatterSum::block; }

  /// Whether shifted rows are kept until all of a tile are there, to be multiplied together.
  bool keeps_tile() const { return scatter_ && d_ > ScatterSum::block; }

  /// Rows that a worker shifts at a time: as many numbers as sub_tile_rows of the longest that are multiplied at once.
  Index sub_tile_height() const {
    return std::clamp(sub_tile_rows * ScatterSum::block / d_, rows_together, sub_tile_rows);
  }

  int shift_workers(Index rows, const Execution& execution) const {
    return rows * d_ <= small_product ? 1 : worker_count(rows / ScatterSum::least_rows_of_slice, execution.threads);
  }

  /// Adds at most `tile_rows` rows of H; false as `update`. `shifted` is scratch, as in `shift`.
  template <class T>
  bool add_tile(MatrixView<const T> H, const Index* labels, T* shifted, const Execution& execution) {
    const RowsByClass<T> groups(H, labels, rows_together, places_);
    const int workers = shift_workers(H.rows, execution);
    const Workspace<T> products(in_one_piece() ? workers * d_ * d_ : 0);
    const double squares =
        shift(groups, shifted, workers, execution, [&](int worker, MatrixView<const T> rows, bool more) {
          if (in_one_piece()) gram<T>(rows, more ? 1 : 0, {products.data() + worker * d_ * d_, d_, d_});
        });
    if (!(squares <= (sizeof(T) == sizeof(float) ? 1e75 : 1e300))) return false;
    const std::vector<Index> off_centre = count_rows(groups, workers);
    if (keeps_tile()) {
      scatter_->add_scaled(MatrixView<T>(shifted, H.rows, d_), squares, execution);
    } else if (in_one_piece() && ScatterSum::in_range<T>(squares)) {
      scatter_->add_products(products.data(), workers, 1.0, workers, execution);
    } else if (in_one_piece()) {
      const Workspace<T> tile(H.rows * d_);
      shift_again(groups, MatrixView<T>(tile.data(), H.rows, d_));
      scatter_->add_scaled(MatrixView<T>(tile.data(), H.rows, d_), squares, execution);
    }
    centre(off_centre, execution);
    return true;
  }

  /// Counts rows that have been shifted, and their rounding. Returns the classes whose reference has to move.
  template <class T>
  std::vector<Index> count_rows(const RowsByClass<T>& groups, int workers) {
    std::vector<Index> off_centre;
    for (const auto& run : groups.runs) {
      const Index k = run.label, added = run.last - run.first;
      if (counts_[k] == 0) settled_counts_[k] = added;
      counts_[k] += added;
      errors_[k] += epsilon * double(added + workers + 1) * std::sqrt(double(counts_[k])) * std::sqrt(squares_[k]);
      if (counts_[k] < 16 * settled_counts_[k]) continue;
      settled_counts_[k] = counts_[k];
      if (sum(k).square().sum() > double(counts_[k]) * squares_[k] / 2) off_centre.push_back(k);
    }
    return off_centre;
  }

  /// The mean over the rows of a run, of `size` columns from `begin`: the first row plus the mean difference from it.
  template <class T>
  static void first_mean(const std::vector<const T*>& rows, typename RowsByClass<T>::Run run, Index begin, Index size,
                         double* mean) {
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
  void add_references(const RowsByClass<T>& groups, int workers, const Execution& execution) {
    std::vector<typename RowsByClass<T>::Run> runs;
    for (const auto& run : groups.runs) {
      if (counts_[run.label] == 0) runs.push_back(run);
    }
    if (runs.empty()) return;
    parallel_ranges(d_, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
      for (const auto& run : runs) first_mean(groups.rows, run, first, last - first, &reference_[run.label * d_]);
    });
  }

  /// Rows minus the reference of their class; the sums of that and of its square grow, in double. They are written to
  /// `shifted`, each to its own row if the tile is kept, otherwise to the worker's `sub_tile_height()` rows;
  /// then(worker, rows, more) is called for every few of them, `more` saying whether the worker has had others. Returns
  /// the sum of squares.
  template <class T, class Then>
  double shift(const RowsByClass<T>& groups, T* shifted, int workers, const Execution& execution, Then&& then) {
    add_references(groups, workers, execution);
    std::vector<ShiftedRows> parts(workers, {0, std::vector<double>(d_), std::vector<double>(groups.runs.size())});
    parallel_ranges(groups.count(), workers, execution.poll,
                    [&](int worker, Index first, Index last, Interruption& stop) {
                      std::size_t run = groups.run_of(first);
                      parts[worker].label = groups.runs[run].label;
                      const Index height = sub_tile_height();
                      for (Index top = first; top < last; top += height) {
                        stop.check(worker);
                        T* const space = shifted + (keeps_tile() ? top : worker * height) * d_;
                        const MatrixView<T> tile(space, std::min(height, last - top), d_);
                        run = shift_tile(groups, run, first, top, parts[worker], tile);
                        then(worker, tile, top > first);
                      }
                    });
    return gather(groups, parts);
  }

  /// Shifts the rows from `top` on, the first of which is in `run`, for a worker that began with row `first`. Returns
  /// the run of the row that follows.
  template <class T>
  std::size_t shift_tile(const RowsByClass<T>& groups, std::size_t run, Index first, Index top, ShiftedRows& part,
                         MatrixView<T> tile) {
    const Index bottom = top + tile.rows;
    for (Index i = top; i < bottom;) {
      const auto& rows_of_class = groups.runs[run];
      const Index k = rows_of_class.label, end = std::min(bottom, rows_of_class.last);
      double* const sum = rows_of_class.first < first ? part.sum.data() : &sums_[k * d_];
      part.squares[run] += shift_class(&groups.rows[i], &reference_[k * d_], sum, tile.block(i - top, end - i));
      i = end;
      if (i == rows_of_class.last) ++run;
    }
    return run;
  }

  /// The same for rows of one class. Returns the sum of squares.
  template <class T>
  double shift_class(const T* const* h, const double* reference, double* sum, MatrixView<T> shifted) const {
    double squares[strip] = {};
    for (Index i = 0; i < shifted.rows; i += rows_together) {
      const MatrixView<T> out = shifted.block(i, std::min(rows_together, shifted.rows - i));
      Index column = 0;
      for (; column + strip <= d_; column += strip) shift_strip<strip>(h + i, column, reference, sum, squares, out);
      for (; column < d_; ++column) shift_strip<1>(h + i, column, reference, sum, squares, out);
    }
    return sum_of<double>(squares, strip);
  }

  /// Adds up what the workers found. Returns the sum of squares over all classes.
  template <class T>
  double gather(const RowsByClass<T>& groups, const std::vector<ShiftedRows>& parts) {
    double total = 0;
    for (const ShiftedRows& part : parts) {
      sum(part.label) += ConstVector<double>(part.sum.data(), d_);
      for (std::size_t r = 0; r < groups.runs.size(); ++r) squares_[groups.runs[r].label] += part.squares[r];
      total += std::accumulate(part.squares.begin(), part.squares.end(), 0.0);
    }
    return total;
  }

  /// Writes the shifted rows to a tile as `shift` did, but leaves the sums as they are.
  template <class T>
  void shift_again(const RowsByClass<T>& groups, MatrixView<T> tile) {
    for (const auto& run : groups.runs) {
      for (Index i = run.first; i < run.last; ++i) {
        const ConstVector<T> h(groups.rows[i], d_);
        Vector<T>(tile.row(i), d_) = (h.template cast<double>() - reference(run.label)).template cast<T>();
      }
    }
  }

  /// scatter, if there is one, += factor X^T X where fill(k, row) writes the row of X that belongs to each of `labels`.
  template <class Fill>
  void add_in_tiles(const std::vector<Index>& labels, double factor, const Execution& execution, Fill&& fill) {
    const Index size = static_cast<Index>(labels.size()), height = scatter_ ? tile_rows / 4 : 1;
    const Workspace<double> tile(std::min(size, height) * d_);
    for (Index first = 0; first < size; first += height) {
      const MatrixView<double> X(tile.data(), std::min(height, size - first), d_);
      for (Index i = 0; i < X.rows; ++i) fill(labels[first + i], X.row(i));
      if (scatter_) scatter_->add<double>(X, factor, execution);
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
