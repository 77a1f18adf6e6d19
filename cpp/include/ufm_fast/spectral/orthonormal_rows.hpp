#pragma once

#include <Eigen/Eigenvalues>
#include <limits>

#include "ufm_fast/blas/vectors.hpp"

namespace ufm_fast::detail {

// Orthonormal sets of vectors, one a row.

template <class T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
MatrixView<const T> view(const Dense<T>& a) {
  return {a.data(), a.rows(), a.cols()};
}

struct Orthonormalized {
  Index rows;           ///< how many rows are left
  double largest_loss;  ///< one minus the smallest norm, before, of the rows that are left
};

/// Rows of X become orthonormal, dropping those that depend on others or have a norm of at most `least_norm` (singular
/// value decomposition of the scaled rows through their Gram matrix; Stathopoulos and Wu, SIAM J. Sci. Comput. 23,
/// 2002).
template <class T>
Orthonormalized orthonormalize(MatrixView<T> X, T least_norm, const Execution& execution) {
  const std::vector<T> products = inner_products<T>(X, X, execution);
  Dense<T> gram = Eigen::Map<const Dense<T>>(products.data(), X.rows, X.rows);
  const Eigen::Array<T, Eigen::Dynamic, 1> norms = gram.diagonal().array().max(T(0)).sqrt();
  const auto usable = norms > std::max(least_norm, std::numeric_limits<T>::min());
  if (!usable.any()) return {0, 0};
  const T smallest = usable.select(norms, norms.maxCoeff()).minCoeff();
  const Eigen::Matrix<T, Eigen::Dynamic, 1> scale = usable.select(norms.inverse(), T(0)).matrix();
  gram = scale.asDiagonal() * gram * scale.asDiagonal();
  const Eigen::SelfAdjointEigenSolver<Dense<T>> solver(gram);
  const T least = 100 * std::numeric_limits<T>::epsilon() * T(X.rows);
  const Index left = X.rows - (solver.eigenvalues().array() <= least).count();
  const Dense<T> C = solver.eigenvalues().tail(left).cwiseSqrt().cwiseInverse().asDiagonal() *
                     solver.eigenvectors().rightCols(left).transpose() * scale.asDiagonal();
  combine_in_place<T>(view<T>(C), X, execution);
  return {left, 1 - double(smallest)};
}

/// Takes the components along the orthonormal rows of V out of the rows of X.
template <class T>
void remove_components(MatrixView<const T> V, MatrixView<T> X, const Execution& execution) {
  if (V.rows == 0) return;
  const std::vector<T> C = inner_products<T>(X, V, execution);
  combine<T>(-1, MatrixView<const T>(C.data(), X.rows, V.rows), V, 1, X, execution);
}

/// Adds to the orthonormal rows of C those parts of the rows of `more` that are independent of them.
template <class T>
Dense<T> with_rows(const Dense<T>& C, const Dense<T>& more) {
  Dense<T> all(C.rows() + more.rows(), C.cols());
  all.topRows(C.rows()) = C;
  Index count = C.rows();
  for (Index i = 0; i < more.rows() && count < C.cols(); ++i) {
    Eigen::Matrix<T, 1, Eigen::Dynamic> row = more.row(i);
    const T before = row.norm();
    for (int pass = 0; pass < 2; ++pass) row -= (row * all.topRows(count).transpose()) * all.topRows(count);
    if (row.norm() > T(1e-10) * before) all.row(count++) = row.normalized();
  }
  return all.topRows(count);
}

}  // namespace ufm_fast::detail
