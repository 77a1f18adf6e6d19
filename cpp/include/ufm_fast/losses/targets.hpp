#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ufm_fast/base/matrix_view.hpp"

namespace ufm_fast {

/// A row of K target numbers. Its anchor is the index of the largest one, on ties the first.
template <class T>
struct DenseTarget {
  const T* entries;
  Index anchor;
};

inline Index anchor_of(Index label) { return label; }

template <class T>
Index anchor_of(const DenseTarget<T>& target) {
  return target.anchor;
}

/// The targets of M rows of data over K logits, in one of three forms: labels (the target is one at the label and zero
/// elsewhere), an (M, K) matrix, or a sparse matrix of that shape in compressed rows. What a row may hold beyond finite
/// numbers is for the loss to say: `Loss::prepare`.
template <class T>
class Targets {
 public:
  static Targets of_labels(Index K, std::vector<Index> labels) {
    for (const Index label : labels) {
      if (label < 0 || label >= K) {
        refuse("must lie in [0, " + std::to_string(K) + "), not " + std::to_string(label));
      }
    }
    Targets targets(K, Form::labels);
    targets.anchors_ = std::move(labels);
    return targets;
  }

  /// entries: M rows of K numbers.
  static Targets of_rows(Index K, std::vector<T> entries) {
    if (entries.size() % static_cast<std::size_t>(std::max<Index>(1, K)) != 0) {
      refuse("must be rows of " + std::to_string(K) + " numbers, not " + std::to_string(entries.size()) + " numbers");
    }
    Targets targets(K, Form::dense);
    targets.entries_ = std::move(entries);
    targets.find_anchors(static_cast<Index>(targets.entries_.size()) / K);
    return targets;
  }

  /// Row m holds entries[e] in column columns[e] for starts[m] <= e < starts[m + 1], columns ascending.
  static Targets of_sparse_rows(Index K, std::vector<Index> starts, std::vector<Index> columns,
                                std::vector<T> entries) {
    const Index M = static_cast<Index>(starts.size()) - 1, count = static_cast<Index>(entries.size());
    if (M < 0 || starts.front() != 0 || starts.back() != count || columns.size() != entries.size()) {
      refuse("in compressed rows need row starts from 0 to the number of entries, and a column for each entry");
    }
    for (Index m = 0; m < M; ++m) {
      if (starts[m] > starts[m + 1]) refuse("in compressed rows need ascending row starts, but not so row", m);
    }
    for (Index m = 0; m < M; ++m) {
      Index last = -1;
      for (Index e = starts[m]; e < starts[m + 1]; last = columns[e++]) {
        if (columns[e] <= last || columns[e] >= K) {
          refuse("in compressed rows need columns that ascend within [0, " + std::to_string(K) + "), but not so row",
                 m);
        }
      }
    }
    Targets targets(K, Form::sparse);
    targets.starts_ = std::move(starts);
    targets.columns_ = std::move(columns);
    targets.entries_ = std::move(entries);
    targets.find_anchors(M);
    return targets;
  }

  Index K() const { return K_; }
  Index rows() const { return static_cast<Index>(anchors_.size()); }
  bool are_labels() const { return form_ == Form::labels; }

  /// The label of row m, or the index of its largest target.
  Index anchor(Index m) const { return anchors_[m]; }

  /// The target at the anchor of row m, which is stored, becomes `target`, which must leave it the largest.
  void set_anchor_target(Index m, T target) {
    entries_[(form_ == Form::dense ? m * K_ : starts_[m]) + stored_anchor(m)] = target;
  }

  /// The numbers of row m that are stored, and how many; not of labels.
  std::pair<const T*, Index> stored_row(Index m) const {
    if (form_ == Form::dense) return {entries_.data() + m * K_, K_};
    return {entries_.data() + starts_[m], starts_[m + 1] - starts_[m]};
  }

  /// Where the anchor is among them; -1 if it is a zero that is not stored.
  Index stored_anchor(Index m) const {
    if (form_ == Form::dense) return anchors_[m];
    const auto first = columns_.begin() + starts_[m], last = columns_.begin() + starts_[m + 1];
    const auto found = std::lower_bound(first, last, anchors_[m]);
    return found != last && *found == anchors_[m] ? found - first : -1;
  }

  /// Row m written out in full, (K,).
  void write_row(Index m, T* out) const {
    if (form_ == Form::dense) {
      std::copy_n(&entries_[m * K_], K_, out);
      return;
    }
    std::fill_n(out, K_, T(0));
    if (form_ == Form::labels) {
      out[anchors_[m]] = T(1);
    } else {
      for (Index e = starts_[m]; e < starts_[m + 1]; ++e) out[columns_[e]] = entries_[e];
    }
  }

 private:
  enum class Form { labels, dense, sparse };

  template <class>
  friend class TargetReader;

  Index K_;
  Form form_;
  std::vector<Index> anchors_;  // (M,)
  std::vector<T> entries_;
  std::vector<Index> starts_, columns_;

  Targets(Index K, Form form) : K_(K), form_(form) {
    if (K < 1) refuse("must be over a positive number of classes, not " + std::to_string(K));
  }

  [[noreturn]] static void refuse(const std::string& what) { throw std::invalid_argument("targets " + what); }
  [[noreturn]] static void refuse(const std::string& what, Index m) { refuse(what + " " + std::to_string(m)); }

  void find_anchors(Index M) {
    for (Index m = 0; m < M; ++m) {
      const auto [entries, count] = stored_row(m);
      if (!all_finite(entries, count)) refuse("must be finite, but not so row", m);
      const Index largest = std::max_element(entries, entries + count) - entries;
      anchors_.push_back(form_ == Form::dense ? largest : sparse_anchor(m, largest));
    }
  }

  /// The index of the largest target of a sparse row, given which of its entries is the largest.
  Index sparse_anchor(Index m, Index largest) const {
    const Index count = starts_[m + 1] - starts_[m];
    if (count > 0 && (entries_[starts_[m] + largest] > T(0) || count == K_)) return columns_[starts_[m] + largest];
    Index column = 0;  // the first that is not stored, or is stored as zero
    for (Index e = starts_[m]; e < starts_[m + 1] && columns_[e] == column && entries_[e] < T(0); ++e) ++column;
    return column;
  }
};

/// Reads targets row by row, one reader a thread. Memory: K numbers where the targets are sparse.
template <class T>
class TargetReader {
 public:
  explicit TargetReader(const Targets<T>& targets) : targets_(targets) {
    if (targets.form_ == Form::sparse) row_.resize(static_cast<std::size_t>(targets.K()));
  }

  /// Calls body(target) with the target of row m: its label, an Index, or a DenseTarget that holds during the call.
  template <class Body>
  EIGEN_ALWAYS_INLINE decltype(auto) read(Index m, Body&& body) {
    const Index anchor = targets_.anchors_[m];
    if (targets_.form_ == Form::labels) return body(anchor);
    const T* row = row_.data();
    if (targets_.form_ == Form::dense) {
      row = &targets_.entries_[m * targets_.K_];
    } else {
      targets_.write_row(m, row_.data());
    }
    return body(DenseTarget<T>{row, anchor});
  }

 private:
  using Form = typename Targets<T>::Form;
  const Targets<T>& targets_;
  std::vector<T> row_;
};

}  // namespace ufm_fast
