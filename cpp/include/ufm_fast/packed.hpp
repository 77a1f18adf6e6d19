#pragma once

#include <algorithm>

#include "packets.hpp"
#include "workspace.hpp"

namespace ufm_fast::packed {

// Products of a matrix with an operand that is rearranged ("packed") once and used for many tiles. A general GEMM packs
// anew in every call; with few features (small d) that, and short inner loops, is what it spends a third of its time
// on.
//
// Both kinds end in one kernel, C (rows x columns) += A (rows x k) B (k x columns), that keeps a block of C in
// registers: `columns` is a sliver of up to three packets, packed so that row after row is contiguous; the rows of A
// are read in place or packed likewise. Blocks are sized for caches of 32 KiB (a sliver) and 1 MiB (a panel of
// slivers).

/// Rows of the kernel's block of C: as many as 3 packets each leave registers for.
#if defined(EIGEN_VECTORIZE_AVX512) || defined(EIGEN_VECTORIZE_NEON)
inline constexpr int height = 8;
#else
inline constexpr int height = 4;
#endif
inline constexpr Index widest = 3;           // packets of a sliver
inline constexpr Index depth_bytes = 2048;   // of a column of a panel
inline constexpr Index panel_columns = 360;  // of a panel, about

template <class T>
inline constexpr Index depth = depth_bytes / static_cast<Index>(sizeof(T));

/// `size` cut into the fewest pieces of at most `most`, of nearly equal length, in multiples of `unit`.
class Cut {
 public:
  Cut(Index size, Index most, Index unit)
      : size_(size), unit_(unit), count_(std::max<Index>(1, (size + most - 1) / most)) {}
  Index count() const { return count_; }
  Index begin(Index i) const { return std::min(size_, (size_ + unit_ - 1) / unit_ * i / count_ * unit_); }
  Index length(Index i) const { return begin(i + 1) - begin(i); }

 private:
  Index size_, unit_, count_;
};

/// Columns of a packed matrix are padded with zeros to full packets.
template <class T>
Index padded(Index columns) {
  return (columns + packet::lanes<T> - 1) / packet::lanes<T> * packet::lanes<T>;
}

namespace detail {

using packet::lanes;
using packet::Packet;

/// How the kernel's rows of A lie in memory: each contiguous, or interleaved, so that a column is contiguous.
enum class Layout { rows, interleaved };

template <class T>
struct Left {
  const T* data;
  Index row_stride, column_stride;

  Left from_row(Index i) const { return {data + i * row_stride, row_stride, column_stride}; }
};

/// The kernel. `next` is what it will be called with next, fetched meanwhile.
template <class T, Layout layout, int rows, int packets>
EIGEN_ALWAYS_INLINE void multiply_block(Index k, Left<T> a, const T* next, const T* b, bool accumulate, T* c,
                                        Index stride, Index columns) {
  using P = Packet<T>;
  P block[rows][packets];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < packets; ++j) {
      packet::prefetch(c + i * stride + j * lanes<T>);
      block[i][j] = packet::pset1<P>(T(0));
    }
  }
  for (Index p = 0; p < k; ++p) {
    P right[packets];
    for (int j = 0; j < packets; ++j) right[j] = packet::pload<P>(b + j * lanes<T>);
    if constexpr (layout == Layout::rows) {
      packet::prefetch(next + (p % rows) * a.row_stride + p / rows * rows);
    } else {
      packet::prefetch(next + p * a.column_stride);
    }
    for (int i = 0; i < rows; ++i) {
      const P left = packet::pset1<P>(a.data[i * a.row_stride]);
      for (int j = 0; j < packets; ++j) block[i][j] = packet::pmadd(left, right[j], block[i][j]);
    }
    a.data += a.column_stride;
    b += packets * lanes<T>;
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < packets; ++j) {
      T* const to = c + i * stride + j * lanes<T>;
      if ((j + 1) * lanes<T> <= columns) {
        packet::pstoreu(to, accumulate ? packet::padd(block[i][j], packet::ploadu<P>(to)) : block[i][j]);
      } else {
        EIGEN_ALIGN_MAX T last[lanes<T>];
        packet::pstore(last, block[i][j]);
        for (Index x = 0; x < columns - j * lanes<T>; ++x) to[x] = accumulate ? to[x] + last[x] : last[x];
      }
    }
  }
}

template <class T, Layout layout, int rows>
void multiply_sliver(Index k, Left<T> a, const T* next, const T* b, bool accumulate, T* c, Index stride,
                     Index columns) {
  if (columns > 2 * lanes<T>) {
    multiply_block<T, layout, rows, 3>(k, a, next, b, accumulate, c, stride, columns);
  } else if (columns > lanes<T>) {
    multiply_block<T, layout, rows, 2>(k, a, next, b, accumulate, c, stride, columns);
  } else {
    multiply_block<T, layout, rows, 1>(k, a, next, b, accumulate, c, stride, columns);
  }
}

/// Calls body(first row, rows as a constant) for blocks of `height` rows, and smaller ones at the end.
template <class Body>
void for_each_block(Index rows, Body&& body) {
  Index i = 0;
  for (; i + height <= rows; i += height) body(i, std::integral_constant<int, height>());
  if constexpr (height > 4) {
    if (rows - i >= 4) {
      body(i, std::integral_constant<int, 4>());
      i += 4;
    }
  }
  if (rows - i >= 2) {
    body(i, std::integral_constant<int, 2>());
    i += 2;
  }
  if (rows - i >= 1) body(i, std::integral_constant<int, 1>());
}

/// Columns [first, first + columns) of rows [row, row + rows) of B, padded, row after row.
template <class T>
void pack_sliver(Matrix<const T> b, Index row, Index rows, Index first, Index columns, T* out) {
  const Index width = padded<T>(columns), full = columns / lanes<T> * lanes<T>;
  for (Index q = 0; q < rows; ++q, out += width) {
    const T* from = b.row(row + q) + first;
    for (Index x = 0; x < full; x += lanes<T>) packet::pstore(out + x, packet::ploadu<Packet<T>>(from + x));
    for (Index x = full; x < width; ++x) out[x] = x < columns ? from[x] : T(0);
  }
}

/// The same of B^T.
template <class T>
void pack_transposed_sliver(Matrix<const T> b, Index row, Index rows, Index first, Index columns, T* out) {
  const Index width = padded<T>(columns);
  for (Index x = 0; x < width; x += lanes<T>) {
    const Index count = std::min(lanes<T>, columns - x);
    Index q = 0;
    if (count == lanes<T>) {
      for (; q + lanes<T> <= rows; q += lanes<T>) {
        packet::transpose_square(b.row(first + x) + row + q, b.stride, out + q * width + x, width);
      }
    }
    for (; q < rows; ++q) {
      for (Index lane = 0; lane < lanes<T>; ++lane) {
        out[q * width + x + lane] = lane < count ? b.row(first + x + lane)[row + q] : T(0);
      }
    }
  }
}

}  // namespace detail

/// The right operand op(B), k x n, of many products. Memory: as much as B.
template <class T>
class Right {
 public:
  Right(Index k, Index n)
      : n_(n),
        panels_(k, depth<T>, detail::lanes<T>),
        slivers_(n, widest * detail::lanes<T>, detail::lanes<T>),
        data_(k * padded<T>(n)) {}

  Index slivers() const { return slivers_.count(); }

  /// Packs slivers [first, last).
  void pack(Op op, Matrix<const T> b, Index first, Index last) {
    for (Index panel = 0; panel < panels_.count(); ++panel) {
      for (Index sliver = first; sliver < last; ++sliver) {
        const auto pack = op == Op::none ? detail::pack_sliver<T> : detail::pack_transposed_sliver<T>;
        pack(b, panels_.begin(panel), panels_.length(panel), slivers_.begin(sliver), slivers_.length(sliver),
             at(panel, sliver));
      }
    }
  }

  /// C = A op(B), added to C if `accumulate`.
  void multiply(Matrix<const T> a, bool accumulate, Matrix<T> c) const {
    const Index groups = (n_ + panel_columns - 1) / panel_columns;
    for (Index group = 0; group < groups; ++group) {
      const Index first = slivers() * group / groups, last = slivers() * (group + 1) / groups;
      for (Index panel = 0; panel < panels_.count(); ++panel) {
        const detail::Left<T> left{a.data + panels_.begin(panel), a.stride, 1};
        detail::for_each_block(a.rows, [&](Index row, auto rows) {
          const detail::Left<T> here = left.from_row(row);
          const T* const next = left.from_row(std::min<Index>(row + rows, a.rows - rows)).data;
          for (Index sliver = first; sliver < last; ++sliver) {
            detail::multiply_sliver<T, detail::Layout::rows, rows>(
                panels_.length(panel), here, sliver + 1 < last ? here.data : next, at(panel, sliver),
                accumulate || panel > 0, c.row(row) + slivers_.begin(sliver), c.stride, slivers_.length(sliver));
          }
        });
      }
    }
  }

 private:
  Index n_;
  Cut panels_, slivers_;
  Workspace<T> data_;

  T* at(Index panel, Index sliver) const {
    return data_.data() + panels_.begin(panel) * padded<T>(n_) + slivers_.begin(sliver) * panels_.length(panel);
  }
};

/// C = A^T B, added to C if `accumulate`. A is packed in the call, at a cost of 1 / B.cols of the product's.
template <class T>
void multiply_transposed(Matrix<const T> a, Matrix<const T> b, bool accumulate, Matrix<T> c) {
  const Cut panels(a.rows, depth<T>, 1), groups(a.cols, panel_columns, height);
  const Cut slivers(b.cols, widest * detail::lanes<T>, detail::lanes<T>);
  const Workspace<T> left(panel_columns * depth<T>), right(widest * detail::lanes<T> * depth<T>);
  for (Index group = 0; group < groups.count(); ++group) {
    const Index first = groups.begin(group), rows_of_c = groups.length(group);
    for (Index panel = 0; panel < panels.count(); ++panel) {
      const Index k = panels.length(panel);
      for (Index q = 0; q < k; ++q) {
        const T* const from = a.row(panels.begin(panel) + q) + first;
        Index i = 0;
        for (; i + height <= rows_of_c; i += height) {
          for (Index x = 0; x < height; ++x) left.data()[i * k + q * height + x] = from[i + x];
        }
        for (Index x = 0; i + x < rows_of_c; ++x) left.data()[i * k + q * height + x] = from[i + x];
      }
      for (Index sliver = 0; sliver < slivers.count(); ++sliver) {
        const Index column = slivers.begin(sliver), columns = slivers.length(sliver);
        detail::pack_sliver<T>(b, panels.begin(panel), k, column, columns, right.data());
        detail::for_each_block(rows_of_c, [&](Index row, auto rows) {
          const Index block = row / height * height;
          const detail::Left<T> here{left.data() + block * k + row - block, 1, height};
          detail::multiply_sliver<T, detail::Layout::interleaved, rows>(k, here, here.data + height * k, right.data(),
                                                                        accumulate || panel > 0,
                                                                        c.row(first + row) + column, c.stride, columns);
        });
      }
    }
  }
}

}  // namespace ufm_fast::packed
