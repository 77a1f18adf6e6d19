#pragma once

#include <algorithm>

#include "packets.hpp"

namespace ufm_fast {

template <class T>
void copy(Matrix<const T> from, Matrix<T> to) {
  for (Index i = 0; i < from.rows; ++i) std::copy_n(from.row(i), from.cols, to.row(i));
}

/// to = from^T. They must not overlap.
template <class T>
void transpose(Matrix<const T> from, Matrix<T> to) {
  constexpr Index side = packet::lanes<T>;
  const Index full_rows = from.rows / side * side, full_cols = from.cols / side * side;
  for (Index i = 0; i < full_rows; i += side) {
    for (Index j = 0; j < full_cols; j += side) {
      packet::transpose_square(from.row(i) + j, from.stride, to.row(j) + i, to.stride);
    }
  }
  for (Index i = 0; i < from.rows; ++i) {
    for (Index j = i < full_rows ? full_cols : 0; j < from.cols; ++j) to.row(j)[i] = from.row(i)[j];
  }
}

}  // namespace ufm_fast
