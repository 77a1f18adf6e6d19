#pragma once

#include <algorithm>
#include <type_traits>

#include "ufm_fast/base/workspace.hpp"
#include "ufm_fast/simd/packets.hpp"

// Unrolls the loop that follows, so that arrays that it indexes stay in registers.
#if defined(__clang__)
#define UFM_FAST_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define UFM_FAST_UNROLL _Pragma("GCC unroll 16")
#else
#define UFM_FAST_UNROLL
#endif

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

template <class T>
struct Left {
  const T* data;
  Index row_stride, column_stride;

  Left from_row(Index i) const { return {data + i * row_stride, row_stride, column_stride}; }
};

// What the kernel fetches into the cache in step p, ahead of its use.

/// `rows` rows of as many numbers as the kernel takes steps.
template <class T, int rows>
struct FetchRows {
  const T* data;
  Index stride;

  void operator()(Index p) const { packet::prefetch(data + p % rows * stride + p / rows * rows); }
};

/// A line of a row every 2^shift steps.
template <class T>
struct FetchColumn {
  const T* data;
  Index stride, shift;

  void operator()(Index p) const { packet::prefetch(data + (p >> shift) * stride); }
};

/// The kernel.
template <class T, int rows, int packets, class Fetch>
EIGEN_ALWAYS_INLINE void multiply_block(Index k, Left<T> a, Fetch fetch, const T* b, bool accumulate, T* c,
                                        Index stride, Index columns) {
  using P = Packet<T>;
  P block[rows][packets];
  UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
    UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) {
      packet::prefetch(c + i * stride + j * lanes<T>);
      block[i][j] = packet::pset1<P>(T(0));
    }
  }
  for (Index p = 0; p < k; ++p) {
    P right[packets];
    UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) right[j] = packet::pload<P>(b + j * lanes<T>);
    fetch(p);
    UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
      const P left = packet::pset1<P>(a.data[i * a.row_stride]);
      UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) block[i][j] = packet::pmadd(left, right[j], block[i][j]);
    }
    a.data += a.column_stride;
    b += packets * lanes<T>;
  }
  if (columns == packets * lanes<T>) {
    UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
      UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) {
        T* const to = c + i * stride + j * lanes<T>;
        packet::pstoreu(to, accumulate ? packet::padd(block[i][j], packet::ploadu<P>(to)) : block[i][j]);
      }
    }
    return;
  }
  EIGEN_ALIGN_MAX T result[rows][packets * lanes<T>];
  UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
    UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) packet::pstore(result[i] + j * lanes<T>, block[i][j]);
  }
  for (int i = 0; i < rows; ++i) {
    T* const to = c + i * stride;
    for (Index x = 0; x < columns; ++x) to[x] = accumulate ? to[x] + result[i][x] : result[i][x];
  }
}

template <class T, int rows, class Fetch>
void multiply_sliver(Index k, Left<T> a, Fetch fetch, const T* b, bool accumulate, T* c, Index stride, Index columns) {
  if (columns > 2 * lanes<T>) {
    multiply_block<T, rows, 3>(k, a, fetch, b, accumulate, c, stride, columns);
  } else if (columns > lanes<T>) {
    multiply_block<T, rows, 2>(k, a, fetch, b, accumulate, c, stride, columns);
  } else {
    multiply_block<T, rows, 1>(k, a, fetch, b, accumulate, c, stride, columns);
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

template <class T, int packets>
void pack_full_rows(Matrix<const T> b, T* out) {
  for (Index q = 0; q < b.rows; ++q) {
    for (int j = 0; j < packets; ++j) {
      packet::pstore(out + (q * packets + j) * lanes<T>, packet::ploadu<Packet<T>>(b.row(q) + j * lanes<T>));
    }
  }
}

/// Columns [first, first + columns) of rows [row, row + rows) of B, padded, row after row.
template <class T>
void pack_sliver(Matrix<const T> b, Index row, Index rows, Index first, Index columns, T* out) {
  const Matrix<const T> sliver(b.row(row) + first, rows, columns, b.stride);
  if (columns == 3 * lanes<T>) return pack_full_rows<T, 3>(sliver, out);
  if (columns == 2 * lanes<T>) return pack_full_rows<T, 2>(sliver, out);
  const Index width = padded<T>(columns);
  for (Index q = 0; q < rows; ++q) {
    for (Index x = 0; x < width; ++x) out[q * width + x] = x < columns ? sliver.row(q)[x] : T(0);
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

/// out += X^T
template <class T>
void add_transposed(Matrix<const T> X, Matrix<T> out) {
  constexpr Index side = lanes<T>;
  EIGEN_ALIGN_MAX T square[side * side];
  for (Index i = 0; i < out.rows; i += side) {
    const Index rows = std::min(side, out.rows - i);
    for (Index j = 0; j < out.cols; j += side) {
      const Index columns = std::min(side, out.cols - j);
      if (rows == side && columns == side) {
        packet::transpose_square(X.row(j) + i, X.stride, square, side);
      } else {
        for (Index row = 0; row < rows; ++row) {
          for (Index column = 0; column < columns; ++column) square[row * side + column] = X.row(j + column)[i + row];
        }
      }
      for (Index row = 0; row < rows; ++row) {
        Vector<T>(out.row(i + row) + j, columns) += ConstVector<T>(square + row * side, columns);
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

  /// C = A op(B), added to C if `accumulate`. Calls finished(row, column, block) for blocks of C, with the indices in C
  /// of their first entry, when they are done and still in a cache.
  template <class Finished>
  void multiply(Matrix<const T> a, bool accumulate, Matrix<T> c, Finished&& finished) const {
    const Index groups = (n_ + panel_columns - 1) / panel_columns;
    for (Index group = 0; group < groups; ++group) {
      const Index first = slivers() * group / groups, last = slivers() * (group + 1) / groups;
      for (Index panel = 0; panel < panels_.count(); ++panel) {
        const Index k = panels_.length(panel);
        const detail::Left<T> left{a.data + panels_.begin(panel), a.stride, 1};
        const T* next = panel + 1 < panels_.count() ? at(panel + 1, first) : at(0, last % slivers());
        detail::for_each_block(a.rows, [&](Index row, auto rows) {
          const detail::Left<T> here = left.from_row(row);
          for (Index sliver = first; sliver < last; ++sliver) {
            detail::FetchRows<T, rows> fetch{next, k};
            if (sliver + 1 == last) {
              fetch = {left.from_row(std::min<Index>(row + rows, a.rows - rows)).data, a.stride};
            } else {
              next += rows * k;
            }
            detail::multiply_sliver<T, rows>(k, here, fetch, at(panel, sliver), accumulate || panel > 0,
                                             c.row(row) + slivers_.begin(sliver), c.stride, slivers_.length(sliver));
          }
          if (panel + 1 == panels_.count()) {
            const Index column = slivers_.begin(first);
            finished(row, column, Matrix<T>(c.row(row) + column, rows, slivers_.begin(last) - column, c.stride));
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

/// The sum of products A^T B, transposed and in pieces: memory is walked through in one direction.
template <class T>
class TransposedSum {
 public:
  /// A has m columns, B has n. Memory: m n.
  TransposedSum(Index m, Index n) : m_(m), slivers_(n, widest * detail::lanes<T>, detail::lanes<T>), data_(m * n) {}

  /// Adds A^T B, or starts with it. A is packed in the call, at a cost of 1 / n of the product's.
  void add(Matrix<const T> a, Matrix<const T> b, bool begun) {
    const Cut panels(a.rows, depth<T>, 1), groups(m_, panel_columns, height);
    const Workspace<T> left(panel_columns * depth<T>), right(widest * detail::lanes<T> * depth<T>);
    for (Index group = 0; group < groups.count(); ++group) {
      for (Index panel = 0; panel < panels.count(); ++panel) {
        const Matrix<const T> rows_of_a = a.block(panels.begin(panel), panels.length(panel));
        const Index first = groups.begin(group), columns = groups.length(group);
        pack_interleaved({rows_of_a.data + first, rows_of_a.rows, columns, a.stride}, left.data());
        add_panel(left.data(), first, columns, b.block(panels.begin(panel), panels.length(panel)), right.data(),
                  begun || panel > 0);
      }
    }
  }

  /// out += columns [first, first + out.rows) of the sum, as rows.
  void add_to(Index first, Matrix<T> out) const {
    for (Index s = 0; s < slivers_.count(); ++s) {
      const Index begin = std::max(first, slivers_.begin(s));
      const Index end = std::min(first + out.rows, slivers_.begin(s + 1));
      if (begin >= end) continue;
      const Matrix<T> piece = sliver(s);
      detail::add_transposed<T>({piece.data + begin - slivers_.begin(s), m_, end - begin, piece.stride},
                                out.block(begin - first, end - begin));
    }
  }

 private:
  Index m_;
  Cut slivers_;
  Workspace<T> data_;

  Matrix<T> sliver(Index s) const { return {data_.data() + slivers_.begin(s) * m_, m_, slivers_.length(s)}; }

  /// Columns in groups of `height`, row after row.
  static void pack_interleaved(Matrix<const T> a, T* out) {
    for (Index i = 0; i < a.cols; i += height) {
      const Index count = std::min<Index>(height, a.cols - i);
      for (Index q = 0; q < a.rows; ++q) {
        for (Index x = 0; x < count; ++x) out[(i / height * a.rows + q) * height + x] = a.row(q)[i + x];
      }
    }
  }

  void add_panel(const T* left, Index first, Index rows_of_sum, Matrix<const T> b, T* right, bool accumulate) {
    const Index k = b.rows;
    Index shift = 0;  // the next sliver's first `widest` packets of a row are fetched over all blocks
    while ((widest << (shift + 1)) * height <= rows_of_sum) ++shift;
    for (Index s = 0; s < slivers_.count(); ++s) {
      const Matrix<T> c = sliver(s);
      detail::pack_sliver<T>(b, 0, k, slivers_.begin(s), c.cols, right);
      detail::for_each_block(rows_of_sum, [&](Index row, auto rows) {
        const Index block = row / height, part = block >> shift, share = block - (part << shift);
        const detail::Left<T> here{left + block * height * k + row % height, 1, height};
        const T* const next = b.row(share * k >> shift) + slivers_.begin(s + 1) + part * detail::lanes<T>;
        detail::multiply_sliver<T, rows>(k, here, detail::FetchColumn<T>{next, b.stride, shift}, right, accumulate,
                                         c.row(first + row), c.stride, c.cols);
      });
    }
  }
};

}  // namespace ufm_fast::packed
