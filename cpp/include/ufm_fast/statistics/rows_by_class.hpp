#pragma once

#include <algorithm>
#include <vector>

#include "ufm_fast/base/matrix_view.hpp"

namespace ufm_fast {

/// Rows of a matrix in the order of their classes; the classes come in the order of their first row.
template <class T>
struct RowsByClass {
  /// Rows [first, last) are of the class `label`.
  struct Run {
    Index label, first, last;
  };

  std::vector<const T*> rows;
  std::vector<Run> runs;

  /// H has at least one row. The last row is listed `repeats` times more, for readers that fetch ahead. `places` is
  /// scratch of one zero a class, which are left zero.
  RowsByClass(MatrixView<const T> H, const Index* labels, Index repeats, std::vector<Index>& places) {
    for (Index i = 0; i < H.rows; ++i) {
      Index& place = places[labels[i]];  // one more than that of its run
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
    rows.resize(static_cast<std::size_t>(H.rows));
    for (Index i = 0; i < H.rows; ++i) rows[runs[places[labels[i]] - 1].last++] = H.row(i);
    rows.resize(static_cast<std::size_t>(H.rows + repeats), rows.back());
    for (const Run& run : runs) places[run.label] = 0;
  }

  /// How many rows there are, without the repeated ones.
  Index count() const { return runs.back().last; }

  /// The place of the run that a row is in.
  std::size_t run_of(Index row) const {
    const auto is_before_end = [](Index i, const Run& run) { return i < run.last; };
    return std::upper_bound(runs.begin(), runs.end(), row, is_before_end) - runs.begin();
  }
};

}  // namespace ufm_fast
