#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <type_traits>

#include "ufm_fast/base/partition.hpp"
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

// Not a function: GCC takes one that only prefetches for one without effect, and drops the calls of it.
#if defined(__GNUC__)
#define UFM_FAST_PREFETCH(address) __builtin_prefetch(address)
#else
#define UFM_FAST_PREFETCH(address) Eigen::internal::prefetch(address)
#endif

namespace ufm_fast::prepacked {

// Products of a matrix with an operand that is rearranged ("packed") once and used for many tiles. A general GEMM packs
// anew in every call; with few features (small d) that, and short inner loops, is what it spends a third of its time
// on.
//
// Both kinds end in one kernel, C (rows x columns) += A (rows x k) B (k x columns), that keeps a block of C in
// registers: `columns` is a sliver of up to three packets, packed so that row after row is contiguous; the rows of A
// are read in place or packed likewise. Blocks are sized for caches of 32 KiB (a sliver, but for AVX-512, with which it
// comes from the next cache fast enough) and 1 MiB (a panel of slivers).

/// Rows of the kernel's block of C: the most for which rows of three packets fit in the registers.
#if defined(EIGEN_VECTORIZE_AVX512) || defined(EIGEN_VECTORIZE_NEON)
inline constexpr int height = 8;
#else
inline constexpr int height = 4;
#endif
inline constexpr Index widest = 3;           // packets in a row of a sliver, at most
inline constexpr Index panel_columns = 360;  // columns of a panel, about

/// Rows of a panel.
template <class T>
inline constexpr Index depth = sizeof(T) == 4 && simd::lanes<T> != 8 ? 512 : 256;

/// Columns of a packed matrix are padded with zeros to full packets.
template <class T>
Index padded(Index columns) {
  return (columns + simd::lanes<T> - 1) / simd::lanes<T> * simd::lanes<T>;
}

namespace detail {

using simd::lanes;
using simd::Packet;

template <class T>
struct Left {
  const T* data;
  Index row_stride, column_stride;

  Left from_row(Index i) const { return {data + i * row_stride, row_stride, column_stride}; }
};

// The address that the kernel fetches into the cache in step p, ahead of its use. A fetch from memory that is not
// mapped can cost a hundred multiplications: every address is that of an entry of the matrix `from`.

template <class T>
EIGEN_ALWAYS_INLINE const T* address_of(MatrixView<const T> from, Index row, Index column) {
  eigen_assert(row < from.rows && column < from.cols);
  return from.row(row) + column;
}

struct FetchNothing {};

/// `rows` rows of as many numbers as the kernel takes steps.
template <class T, int rows>
struct FetchRows {
  MatrixView<const T> from;

  const T* operator()(Index p) const { return address_of(from, p % rows, p / rows * rows); }
};

/// The start of a row every 2^shift steps.
template <class T>
struct FetchColumn {
  MatrixView<const T> from;
  Index shift;

  const T* operator()(Index p) const { return address_of(from, p >> shift, 0); }
};

/// The kernel.
template <class T, int rows, int packets, class Fetch>
EIGEN_ALWAYS_INLINE void multiply_block(Index k, Left<T> a, [[maybe_unused]] Fetch fetch, const T* b, bool accumulate,
                                        T* c, Index stride, Index columns) {
  using P = Packet<T>;
  constexpr Index last = (packets - 1) * lanes<T>;  // column of the last packet, which may be partly outside of C
  eigen_assert(columns > last && columns <= packets * lanes<T>);
  P block[rows][packets];
  UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
    UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) {
      UFM_FAST_PREFETCH(c + i * stride + j * lanes<T>);
      block[i][j] = simd::pset1<P>(T(0));
    }
  }
  for (Index p = 0; p < k; ++p) {
    P right[packets];
    UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) right[j] = simd::pload<P>(b + j * lanes<T>);
    if constexpr (!std::is_same_v<Fetch, FetchNothing>) UFM_FAST_PREFETCH(fetch(p));
    UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
      const P left = simd::pset1<P>(a.data[i * a.row_stride]);
      UFM_FAST_UNROLL for (int j = 0; j < packets; ++j) block[i][j] = simd::pmadd(left, right[j], block[i][j]);
    }
    a.data += a.column_stride;
    b += packets * lanes<T>;
  }
  const auto store = [=](const P& x, T* to) { simd::pstoreu(to, accumulate ? simd::padd(x, simd::ploadu<P>(to)) : x); };
  UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) {
    UFM_FAST_UNROLL for (int j = 0; j + 1 < packets; ++j) store(block[i][j], c + i * stride + j * lanes<T>);
  }
  if (columns == packets * lanes<T>) {
    UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) store(block[i][packets - 1], c + i * stride + last);
    return;
  }
  EIGEN_ALIGN_MAX T rest[rows][lanes<T>];
  UFM_FAST_UNROLL for (int i = 0; i < rows; ++i) simd::pstore(rest[i], block[i][packets - 1]);
  for (int i = 0; i < rows; ++i) {
    T* const to = c + i * stride + last;
    for (Index x = 0; x < columns - last; ++x) to[x] = accumulate ? to[x] + rest[i][x] : rest[i][x];
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
void pack_full_rows(MatrixView<const T> b, T* out) {
  for (Index q = 0; q < b.rows; ++q) {
    for (int j = 0; j < packets; ++j) {
      simd::pstore(out + (q * packets + j) * lanes<T>, simd::ploadu<Packet<T>>(b.row(q) + j * lanes<T>));
    }
  }
}

/// Columns [first, first + columns) of rows [row, row + rows) of B, padded, row after row.
template <class T>
void pack_sliver(MatrixView<const T> b, Index row, Index rows, Index first, Index columns, T* out) {
  const MatrixView<const T> sliver(b.row(row) + first, rows, columns, b.stride);
  if (columns == 3 * lanes<T>) return pack_full_rows<T, 3>(sliver, out);
  if (columns == 2 * lanes<T>) return pack_full_rows<T, 2>(sliver, out);
  const Index width = padded<T>(columns);
  for (Index q = 0; q < rows; ++q) {
    std::copy_n(sliver.row(q), columns, out + q * width);
    std::fill_n(out + q * width + columns, width - columns, T(0));
  }
}

/// Columns [first, first + columns) of rows [row, row + rows) of B^T, padded, row after row.
template <class T>
void pack_transposed_sliver(MatrixView<const T> b, Index row, Index rows, Index first, Index columns, T* out) {
  const Index width = padded<T>(columns);
  for (Index x = 0; x < width; x += lanes<T>) {
    const Index count = std::min(lanes<T>, columns - x);
    Index q = 0;
    if (count == lanes<T>) {
      for (; q + lanes<T> <= rows; q += lanes<T>) {
        simd::transpose_square(b.row(first + x) + row + q, b.stride, out + q * width + x, width);
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
void add_transposed(MatrixView<const T> X, MatrixView<T> out) {
  constexpr Index side = lanes<T>;
  EIGEN_ALIGN_MAX T square[side * side];
  for (Index i = 0; i < out.rows; i += side) {
    const Index rows = std::min(side, out.rows - i);
    for (Index j = 0; j < out.cols; j += side) {
      const Index columns = std::min(side, out.cols - j);
      if (rows == side && columns == side) {
        simd::transpose_square(X.row(j) + i, X.stride, square, side);
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
class RightFactor {
 public:
  RightFactor(Index k, Index n)
      : n_(n),
        panels_(k, depth<T>, detail::lanes<T>),
        slivers_(n, widest * detail::lanes<T>, detail::lanes<T>),
        data_(k * padded<T>(n)) {}

  Index slivers() const { return slivers_.count(); }

  /// Packs slivers [first, last).
  void pack(Op op, MatrixView<const T> b, Index first, Index last) {
    for (Index panel = 0; panel < panels_.count(); ++panel) {
      for (Index sliver = first; sliver < last; ++sliver) {
        const auto pack = op == Op::none ? detail::pack_sliver<T> : detail::pack_transposed_sliver<T>;
        pack(b, panels_.begin(panel), panels_.length(panel), slivers_.begin(sliver), slivers_.length(sliver),
             at(panel, sliver));
      }
    }
  }

  using Finished = std::function<void(Index, Index, MatrixView<T>)>;

  /// C = A op(B), added to C if `accumulate`. Calls finished(row, column, block), unless it is empty, for blocks of C,
  /// with the indices in C of their first entry, when they are done and still in a cache.
  void multiply(MatrixView<const T> a, bool accumulate, MatrixView<T> c, const Finished& finished = {}) const {
    const Index groups = (n_ + panel_columns - 1) / panel_columns;
    for (Index group = 0; group < groups; ++group) {
      const Index first = slivers() * group / groups, last = slivers() * (group + 1) / groups;
      for (Index panel = 0; panel < panels_.count(); ++panel) {
        const Index k = panels_.length(panel);
        const detail::Left<T> left{a.data + panels_.begin(panel), a.stride, 1};
        detail::for_each_block(a.rows, [&](Index row, auto rows) {
          const detail::Left<T> here = left.from_row(row);
          const auto multiply = [&](auto fetch, Index sliver) {
            detail::multiply_sliver<T, rows>(k, here, fetch, at(panel, sliver), accumulate || panel > 0,
                                             c.row(row) + slivers_.begin(sliver), c.stride, slivers_.length(sliver));
          };
          for (Index sliver = first; sliver + 1 < last; ++sliver) multiply(detail::FetchNothing(), sliver);
          if constexpr (rows == height) {
            const T* const next = left.from_row(std::min<Index>(row + rows, a.rows - rows)).data;
            multiply(detail::FetchRows<T, rows>{{next, rows, k, a.stride}}, last - 1);
          } else {
            multiply(detail::FetchNothing(), last - 1);
          }
          if (finished && panel + 1 == panels_.count()) {
            const Index column = slivers_.begin(first);
            finished(row, column, MatrixView<T>(c.row(row) + column, rows, slivers_.begin(last) - column, c.stride));
          }
        });
      }
    }
  }

 private:
  Index n_;
  Partition panels_, slivers_;
  Workspace<T> data_;

  T* at(Index panel, Index sliver) const {
    return data_.data() + panels_.begin(panel) * padded<T>(n_) + slivers_.begin(sliver) * panels_.length(panel);
  }
};

/// The sum of products A^T B. It is stored in pieces, one a sliver of columns, so that adding to it walks through
/// memory in one direction.
template <class T>
class TransposedSum {
 public:
  /// A has m columns, B has n. Stored in memory of its own, m n.
  TransposedSum(Index m, Index n) : TransposedSum(m, n, nullptr) {
    own_.emplace(m * n);
    data_ = own_->data();
  }

  /// Stored in the m n numbers at `data`.
  TransposedSum(Index m, Index n, T* data)
      : m_(m), slivers_(n, widest * detail::lanes<T>, detail::lanes<T>), data_(data) {}

  /// Adds A^T B, or starts with it. A is packed in the call, at a cost of 1 / n of the product's.
  void add(MatrixView<const T> a, MatrixView<const T> b, bool begun) {
    const Partition panels(a.rows, depth<T>, 1), groups(m_, panel_columns, height);
    const Index most_rows = std::min(a.rows, depth<T>);
    const Workspace<T> left((std::min(m_, panel_columns) + height) * most_rows);
    const Workspace<T> right(widest * detail::lanes<T> * most_rows);
    for (Index group = 0; group < groups.count(); ++group) {
      for (Index panel = 0; panel < panels.count(); ++panel) {
        const MatrixView<const T> rows_of_a = a.block(panels.begin(panel), panels.length(panel));
        const Index first = groups.begin(group), columns = groups.length(group);
        pack_interleaved({rows_of_a.data + first, rows_of_a.rows, columns, a.stride}, left.data());
        add_panel(left.data(), first, columns, b.block(panels.begin(panel), panels.length(panel)), right.data(),
                  begun || panel > 0);
      }
    }
  }

  /// Puts the sum's transpose, (n, m), where the sum is stored. Calls start(first, rows) for pieces of it, the rows
  /// from `first` on, which writes the numbers that the sum is added to.
  template <class Start>
  void transpose_in_place(Start&& start) {
    const Workspace<T> columns(m_ * widest * detail::lanes<T>);
    for (Index s = 0; s < slivers_.count(); ++s) {
      const MatrixView<T> piece = sliver(s), rows(piece.data, piece.cols, m_);
      copy<T>(piece, {columns.data(), m_, piece.cols});
      start(slivers_.begin(s), rows);
      detail::add_transposed<T>({columns.data(), m_, piece.cols}, rows);
    }
  }

  /// out += columns [first, first + out.rows) of the sum, as rows.
  void add_to(Index first, MatrixView<T> out) const {
    for (Index s = 0; s < slivers_.count(); ++s) {
      const Index begin = std::max(first, slivers_.begin(s));
      const Index end = std::min(first + out.rows, slivers_.begin(s + 1));
      if (begin >= end) continue;
      const MatrixView<T> piece = sliver(s);
      detail::add_transposed<T>({piece.data + begin - slivers_.begin(s), m_, end - begin, piece.stride},
                                out.block(begin - first, end - begin));
    }
  }

 private:
  Index m_;
  Partition slivers_;
  std::optional<Workspace<T>> own_;
  T* data_;

  MatrixView<T> sliver(Index s) const { return {data_ + slivers_.begin(s) * m_, m_, slivers_.length(s)}; }

  /// Columns in groups of `height`, row after row.
  static void pack_interleaved(MatrixView<const T> a, T* out) {
    for (Index i = 0; i < a.cols; i += height) {
      T* to = out + i * a.rows;
      if (i + height <= a.cols) {
        for (Index q = 0; q < a.rows; ++q, to += height) std::copy_n(a.row(q) + i, height, to);
      } else {
        for (Index q = 0; q < a.rows; ++q, to += height) std::copy_n(a.row(q) + i, a.cols - i, to);
      }
    }
  }

  void add_panel(const T* left, Index first, Index rows_of_sum, MatrixView<const T> b, T* right, bool accumulate) {
    const Index k = b.rows;
    constexpr Index lines = widest + 1;  // of a row of a sliver that starts within a line
    Index shift = 0;                     // the next sliver is fetched over all blocks
    while ((lines << (shift + 1)) * height <= rows_of_sum) ++shift;
    for (Index s = 0; s < slivers_.count(); ++s) {
      const MatrixView<T> c = sliver(s);
      detail::pack_sliver<T>(b, 0, k, slivers_.begin(s), c.cols, right);
      detail::for_each_block(rows_of_sum, [&](Index row, auto rows) {
        const Index block = row / height;
        const detail::Left<T> here{left + block * height * k + row % height, 1, height};
        const auto multiply = [&](auto fetch) {
          detail::multiply_sliver<T, rows>(k, here, fetch, right, accumulate, c.row(first + row), c.stride, c.cols);
        };
        if constexpr (rows == height) {
          const Index line = block >> shift, from = (block - (line << shift)) * k >> shift;
          const Index next = slivers_.begin(s + 1), end = slivers_.begin(s + 2);
          if (next < end && line < lines) {
            const Index column = std::min(next + line * detail::lanes<T>, end - 1);
            return multiply(detail::FetchColumn<T>{{b.row(from) + column, k - from, end - column, b.stride}, shift});
          }
        }
        multiply(detail::FetchNothing());
      });
    }
  }
};

}  // namespace ufm_fast::prepacked
