#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace ufm_fast {

using Index = std::int64_t;

/// What a product takes of an operand: itself or its transpose.
enum class Op { none, transpose };

/// T where it is not to be deduced from an argument, so that the argument is converted to the T of the others.
template <class T>
struct SameType {
  using type = T;
};
template <class T>
using Same = typename SameType<T>::type;

/// A row-major matrix somebody else owns: row i starts at data + i * stride. No Eigen type crosses the interface.
template <class T>
struct MatrixView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;

  MatrixView() = default;
  MatrixView(T* first, Index height, Index width) : MatrixView(first, height, width, width) {}
  MatrixView(T* first, Index height, Index width, Index distance)
      : data(first), rows(height), cols(width), stride(distance) {}
  template <class U, class = std::enable_if_t<std::is_same_v<U, const T>>>
  operator MatrixView<U>() const {
    return {data, rows, cols, stride};
  }

  T* row(Index i) const { return data + i * stride; }
  MatrixView block(Index first, Index count) const { return {row(first), count, cols, stride}; }
};

template <class T>
void copy(MatrixView<const T> from, MatrixView<T> to) {
  for (Index i = 0; i < from.rows; ++i) std::copy_n(from.row(i), from.cols, to.row(i));
}

/// Eigen's view of `size` contiguous numbers, for vectorised elementwise work.
template <class T>
using Vector = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
template <class T>
using ConstVector = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

/// The sum of numbers, in an order that does not depend on where they lie: Eigen adds up stored numbers from the first
/// aligned one on, those of an expression from the first.
template <class T>
T sum_of(const T* x, Index size) {
  return (ConstVector<T>(x, size) * T(1)).sum();
}

/// Sum of squares, accumulated in double whatever T is, in blocks, so that the rounding error stays small however many
/// numbers there are. Calls each(i, count) on the way, for pieces of the numbers.
template <class T, class Each>
double squared_norm(const T* x, Index size, Each&& each) {
  constexpr Index lanes = 32, block = 128 * lanes;
  double total = 0;
  for (Index first = 0; first < size; first += block) {
    const Index last = std::min(size, first + block);
    double squares[lanes] = {};
    Index i = first;
    for (; i + lanes <= last; i += lanes) {
      for (Index lane = 0; lane < lanes; ++lane) squares[lane] += double(x[i + lane]) * double(x[i + lane]);
      each(i, std::integral_constant<int, lanes>());
    }
    for (; i < last; ++i) {
      squares[0] += double(x[i]) * double(x[i]);
      each(i, std::integral_constant<int, 1>());
    }
    total += sum_of<double>(squares, lanes);
  }
  return total;
}

template <class T>
double squared_norm(const T* x, Index size) {
  return squared_norm(x, size, [](Index, auto) {});
}

/// out = factor x; returns the sum of squares of x.
template <class T>
double scale(const T* x, Index size, T factor, T* out) {
  return squared_norm(x, size, [=](Index i, auto count) {
    using Piece = Eigen::Array<T, count, 1>;
    Eigen::Map<Piece>(out + i) = factor * Eigen::Map<const Piece>(x + i);
  });
}

/// Whether no number is infinite or NaN.
template <class T>
bool all_finite(const T* x, Index size) {
  constexpr Index lanes = 64;
  T zeros[lanes] = {};  // NaN from the first such number on
  Index i = 0;
  for (; i + lanes <= size; i += lanes) {
    for (Index lane = 0; lane < lanes; ++lane) zeros[lane] += T(0) * x[i + lane];
  }
  for (; i < size; ++i) zeros[0] += T(0) * x[i];
  return sum_of<T>(zeros, lanes) == T(0);
}

/// The index of the first number that is infinite or NaN; -1 if there is none.
template <class T>
Index first_not_finite(const T* x, Index size) {
  if (all_finite(x, size)) return -1;
  return std::find_if(x, x + size, [](T number) { return !std::isfinite(number); }) - x;
}

}  // namespace ufm_fast
