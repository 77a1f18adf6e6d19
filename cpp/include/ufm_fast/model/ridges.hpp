#pragma once

#include <limits>
#include <vector>

#include "ufm_fast/model/problem.hpp"

namespace ufm_fast::detail {

/// lambda_W/2 |W|^2 + lambda_b/2 |b|^2, given |W|^2
template <class T>
double ridge_of_classifier(const Problem<T>& problem, double squares, const T* b) {
  const double of_bias = problem.bias ? double(problem.lambda_b) * squared_norm(b, problem.biases()) : 0;
  return 0.5 * (double(problem.lambda_W) * squares + of_bias);
}

/// sum over the given rows of ridges[m]/2 |h_m|^2
template <class T>
double ridge_of_features(const Problem<T>& problem, Index first, MatrixView<const T> H) {
  double value = 0;
  for (Index i = 0; i < H.rows; ++i) {
    value += 0.5 * double(problem.ridges[first + i]) * squared_norm(H.row(i), problem.d);
  }
  return value;
}

/// The same sum, and writes ridges[m] h_m to the rows of `out`.
template <class T>
double ridge_of_features(const Problem<T>& problem, Index first, MatrixView<const T> H, MatrixView<T> out) {
  double value = 0;
  for (Index i = 0; i < H.rows; ++i) {
    const T ridge = problem.ridges[first + i];
    value += 0.5 * double(ridge) * scale(H.row(i), problem.d, ridge, out.row(i));
  }
  return value;
}

/// Infinity if the matrix holds an infinity or a NaN, otherwise zero: to be added to a loss.
template <class T>
double infinite_if_not_finite(MatrixView<T> X) {
  return all_finite(X.data, X.rows * X.cols) ? 0.0 : std::numeric_limits<double>::infinity();
}

inline double total(const std::vector<double>& parts) {
  double sum = 0;
  for (double part : parts) sum += part;
  return sum;
}

/// Writes the gradient with respect to b, given as a sum in double; without bias it is zero.
template <class T>
void write_bias_gradient(const Problem<T>& problem, const double* sum, T* b) {
  if (b == nullptr) return;
  Vector<T> out(b, problem.biases());
  if (problem.bias) {
    out = ConstVector<double>(sum, problem.biases()).template cast<T>();
  } else {
    out.setZero();
  }
}

/// Writes the gradient with respect to b, lambda_b b plus sums that workers have gathered; infinity if it overflows.
template <class T>
double finish_bias_gradient(const Problem<T>& problem, const T* b, const std::vector<const double*>& sums, T* out) {
  const Index biases = problem.biases();
  std::vector<double> gradient(static_cast<std::size_t>(biases), 0.0);
  for (Index k = 0; problem.bias && k < biases; ++k) gradient[k] = double(problem.lambda_b) * double(b[k]);
  for (const double* sum : sums) {
    for (Index k = 0; k < biases; ++k) gradient[k] += sum[k];
  }
  write_bias_gradient(problem, gradient.data(), out);
  return infinite_if_not_finite<T>({out, 1, problem.bias ? biases : 0});
}

}  // namespace ufm_fast::detail
