#pragma once

#include <Eigen/Eigenvalues>
#include <limits>

#include "ufm_fast/blas/vectors.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

struct EigenOptions {
  Index count;         ///< eigenpairs wanted
  Index basis;         ///< vectors kept, at least 3 (count + guards) + 6; as many products are kept
  double tolerance;    ///< residual norms wanted, relative to the largest |eigenvalue| met
  Index max_products;  ///< products after which to give up
  Index guards = 0;    ///< pairs above those, searched until they are seen to stay above
};

struct EigenResult {
  std::vector<double> values, residuals;  ///< ascending; fewer than wanted where the space is smaller
  Index products;
  double norm;    ///< largest |eigenvalue| met
  bool finished;  ///< whether all were found and all residuals are small enough, those of guards too
};

namespace detail {

constexpr double guard_residual = 0.1;  ///< relative to the guard's distance from the wanted pairs

template <class T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
Matrix<const T> view(const Dense<T>& a) {
  return {a.data(), a.rows(), a.cols()};
}

struct Orthonormalized {
  Index kept;           ///< rows that are left
  double largest_loss;  ///< one less the smallest norm that a kept row had
};

/// Rows of X become orthonormal, dropping those that depend on others or have a norm of at most `least_norm` (singular
/// value decomposition of the scaled rows through their Gram matrix; Stathopoulos and Wu, SIAM J. Sci. Comput. 23,
/// 2002).
template <class T>
Orthonormalized orthonormalize(Matrix<T> X, T least_norm, const Execution& execution) {
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
  const Index dropped = (solver.eigenvalues().array() <= least).count(), kept = X.rows - dropped;
  const Dense<T> C = solver.eigenvalues().tail(kept).cwiseSqrt().cwiseInverse().asDiagonal() *
                     solver.eigenvectors().rightCols(kept).transpose() * scale.asDiagonal();
  combine_in_place<T>(view<T>(C), X, execution);
  return {kept, 1 - double(smallest)};
}

/// Takes the components along the orthonormal rows of V out of the rows of X.
template <class T>
void remove_components(Matrix<const T> V, Matrix<T> X, const Execution& execution) {
  if (V.rows == 0) return;
  const std::vector<T> C = inner_products<T>(X, V, execution);
  combine<T>(-1, Matrix<const T>(C.data(), X.rows, V.rows), V, 1, X, execution);
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

}  // namespace detail

/// Lowest eigenpairs of a symmetric operator by the generalised Davidson method: a block of preconditioned residuals
/// widens the search space, Rayleigh-Ritz picks from it, and a restart keeps the best vectors and those of the step
/// before (locally optimal restarting: Stathopoulos and Saad, ETNA 7, 1998). Without a preconditioner this is
/// thick-restart block Lanczos, with one it is at least locally as good as LOBPCG.
///
/// Operator, on sets of vectors in rows:
///
///     size()                           length n of a vector
///     apply(X, Y, execution)           Y = A X; the rows of X are in the subspace
///     project(X, execution)            orthogonal projection in place onto the invariant subspace that is searched
///     precondition(R, theta, execution)   in place, row i near (A - theta[i])^-1 R_i
///
/// `start` (s, n), s >= count, is overwritten; `vectors` (count, n) receives unit eigenvectors. Multiple eigenvalues
/// are found as often as `count` says, because the block has as many vectors.
///
/// A search may settle on an eigenvector that is not among the lowest if its start hardly contains those. Whoever
/// starts it again, from what it found and fresh random vectors, with a guard, makes it look for a lower one among
/// these: the guard is the next Ritz pair, and is let go only where its residual is small against its distance from the
/// wanted.
///
/// Memory: 2 basis + 2 count vectors. Work besides the operator: about 8 basis n multiplications per product.
template <class T, class Operator>
EigenResult lowest_eigenpairs(const Operator& op, Matrix<T> start, Matrix<T> vectors, const EigenOptions& options,
                              const Execution& execution) {
  using detail::Dense;
  const Index n = op.size(), wanted = options.count + options.guards, most = options.basis;
  const Workspace<T> storage((2 * most + wanted) * n);
  const Matrix<T> V(storage.data(), most, n), AV(storage.data() + most * n, most, n);
  const Matrix<T> R(storage.data() + 2 * most * n, wanted, n);
  Dense<T> projected(0, 0), previous(0, 0);
  Index size = 0;
  EigenResult result{{}, {}, 0, 0, false};

  // Makes the rows of X orthonormal to the basis and to each other and takes them into it, with their products.
  const auto widen = [&](Matrix<T> X) {
    for (Index i = 0; i < X.rows; ++i) {
      const double norm = std::sqrt(squared_norm(X.row(i), n));
      if (norm > 0) Vector<T>(X.row(i), n) *= T(1 / norm);
    }
    double loss = 1;
    for (int pass = 0; pass < 5 && X.rows > 0; ++pass) {
      if (loss > 0.9) op.project(X, execution);
      detail::remove_components<T>(V.block(0, size), X, execution);
      // Rows had norm one: those that lose all of it, or in a later pass much of it, were rounding.
      const auto done = detail::orthonormalize<T>(X, pass == 0 ? T(1e-14) : T(0.5), execution);
      X.rows = done.kept;
      loss = done.largest_loss;
      if (pass > 0 && loss < 1e-3) break;
    }
    if (X.rows == 0) return false;
    const Index before = size;
    const Matrix<T> fresh = V.block(size, X.rows), image = AV.block(size, X.rows);
    for (Index i = 0; i < X.rows; ++i) Vector<T>(fresh.row(i), n) = Vector<T>(X.row(i), n);
    op.apply(fresh, image, execution);
    size += X.rows;
    result.products += X.rows;
    const std::vector<T> block = inner_products<T>(image, V.block(0, size), execution);
    const Eigen::Map<const Dense<T>> rows(block.data(), X.rows, size);
    projected.conservativeResize(size, size);
    projected.bottomRows(X.rows) = rows;
    projected.rightCols(X.rows) = rows.transpose();
    projected.bottomRightCorner(size - before, size - before) =
        (0.5 * (rows.rightCols(X.rows) + rows.rightCols(X.rows).transpose())).eval();
    return true;
  };

  Interruption interruption(execution.poll);  // products may be too short to ask
  bool grown = widen(start);
  while (size > 0) {
    interruption.check(0);
    const Eigen::SelfAdjointEigenSolver<Dense<T>> ritz(projected);
    const Index count = std::min(wanted, size);
    const Dense<T> C = ritz.eigenvectors().leftCols(count).transpose();
    result.norm = std::max(result.norm, double(ritz.eigenvalues().cwiseAbs().maxCoeff()));
    result.values.assign(ritz.eigenvalues().data(), ritz.eigenvalues().data() + count);

    Dense<T> scaled = C;
    for (Index i = 0; i < count; ++i) scaled.row(i) *= -ritz.eigenvalues()[i];
    Matrix<T> residual = R.block(0, count);
    combine<T>(1, detail::view<T>(C), AV.block(0, size), 0, residual, execution);
    combine<T>(1, detail::view<T>(scaled), V.block(0, size), 1, residual, execution);
    result.residuals.resize(count);
    std::vector<T> theta;
    Index open = 0;
    for (Index i = 0; i < count; ++i) {
      result.residuals[i] = std::sqrt(squared_norm(R.row(i), n));
      double enough = options.tolerance * result.norm;
      if (i >= options.count) {
        const double distance = result.values[i] - result.values[options.count - 1];
        enough = std::max(enough, detail::guard_residual * distance);
      }
      if (result.residuals[i] <= enough) continue;
      if (open < i) Vector<T>(R.row(open), n) = Vector<T>(R.row(i), n);
      theta.push_back(ritz.eigenvalues()[i]);
      ++open;
    }
    if (open == 0 || !grown || result.products >= options.max_products) {
      const Index found = std::min(count, options.count);
      combine<T>(1, detail::view<T>(C).block(0, found), V.block(0, size), 0, vectors.block(0, found), execution);
      result.values.resize(found);
      result.residuals.resize(found);
      result.finished = open == 0 && found == options.count;
      break;
    }
    residual.rows = open;
    op.precondition(residual, theta.data(), execution);

    if (size + open > most) {
      const Index keep = std::min(size, std::max(count + open, 2 * most / 5));
      Dense<T> kept = ritz.eigenvectors().leftCols(keep).transpose();
      if (previous.rows() > 0) {
        Dense<T> padded = Dense<T>::Zero(previous.rows(), size);
        padded.leftCols(previous.cols()) = previous;
        kept = detail::with_rows<T>(kept, padded.topRows(std::min<Index>(previous.rows(), most - open - keep)));
      }
      combine_in_place<T>(detail::view<T>(kept), V.block(0, size), execution);
      combine_in_place<T>(detail::view<T>(kept), AV.block(0, size), execution);
      projected = (kept * projected * kept.transpose()).eval();
      size = kept.rows();
      previous = Dense<T>::Identity(count, size);
    } else {
      previous = C;
    }
    grown = widen(residual);
  }
  return result;
}

}  // namespace ufm_fast
