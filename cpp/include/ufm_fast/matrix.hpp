#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <type_traits>

namespace ufm_fast {

using Index = std::int64_t;

/// A row-major matrix somebody else owns: row i starts at data + i * stride. No Eigen type crosses the interface.
template <class T>
struct Matrix {
  T* data;
  Index rows;
  Index cols;
  Index stride;

  Matrix(T* data, Index rows, Index cols) : Matrix(data, rows, cols, cols) {}
  Matrix(T* data, Index rows, Index cols, Index stride) : data(data), rows(rows), cols(cols), stride(stride) {}
  template <class U, class = std::enable_if_t<std::is_same_v<U, const T>>>
  operator Matrix<U>() const {
    return {data, rows, cols, stride};
  }

  T* row(Index i) const { return data + i * stride; }
  Matrix block(Index first, Index count) const { return {row(first), count, cols, stride}; }
};

/// Eigen's view of `size` contiguous numbers, for vectorised elementwise work.
template <class T>
using Vector = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
template <class T>
using ConstVector = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

/// Sum of squares, accumulated in double whatever T is.
template <class T>
double squared_norm(const T* x, Index size) {
  constexpr Index lanes = 32;
  double squares[lanes] = {};
  Index i = 0;
  for (; i + lanes <= size; i += lanes) {
    for (Index lane = 0; lane < lanes; ++lane) squares[lane] += double(x[i + lane]) * double(x[i + lane]);
  }
  for (; i < size; ++i) squares[0] += double(x[i]) * double(x[i]);
  return ConstVector<double>(squares, lanes).sum();
}

}  // namespace ufm_fast
