#pragma once

#include <stdexcept>

#include "ufm_fast/base/workspace.hpp"
#include "ufm_fast/spectral/linear_operator.hpp"
#include "ufm_fast/spectral/orthonormal_rows.hpp"

namespace ufm_fast {

struct EigenOptions {
  Index count;         ///< eigenpairs wanted
  Index basis;         ///< vectors held, at least 3 (count + guards) + 6; as many products are held
  double tolerance;    ///< residual norms wanted, relative to the largest |eigenvalue| met
  Index max_products;  ///< products of the operator with a vector after which to give up
  Index guards = 0;    ///< pairs above those, searched until they are seen to stay above
};

struct EigenResult {
  std::vector<double> values, residuals;  ///< ascending; fewer than wanted where the space is smaller
  Index products;                         ///< of the operator with a vector
  double norm;                            ///< largest |eigenvalue| met
  bool finished;  ///< whether all were found and all residuals are small enough, those of guards too
};

namespace detail {

/// The search of `lowest_eigenpairs`. Its basis V is orthonormal, and the projected operator is V A V^T.
template <class T>
class DavidsonSearch {
 public:
  DavidsonSearch(const LinearOperator<T>& op, const EigenOptions& options, const Execution& execution)
      : op_(op),
        options_(options),
        execution_(execution),
        n_(op.size()),
        wanted_(options.count + options.guards),
        storage_((2 * options.basis + wanted_) * n_),
        V_(storage_.data(), options.basis, n_),
        AV_(V_.row(options.basis), options.basis, n_),
        R_(AV_.row(options.basis), wanted_, n_) {
    require(options.count >= 1 && options.guards >= 0, "count must be positive, and guards not negative");
    require(options.basis >= 3 * wanted_ + 6, "basis must be at least 3 (count + guards) + 6");
  }

  EigenResult run(MatrixView<T> start, MatrixView<T> vectors) {
    require(start.cols == n_ && start.rows <= options_.basis,
            "start must be of vectors of the operator that fit the basis");
    Interruption interruption(execution_.poll);  // products may be too short to ask
    bool grown = widen(start);
    while (size_ > 0) {
      interruption.check(0);
      const Ritz ritz(projected_);
      const Index open = find_residuals(ritz);
      if (open == 0 || !grown || result_.products >= options_.max_products) {
        finish(ritz, open, vectors);
        break;
      }
      op_.precondition(R_.block(0, open), theta_.data(), execution_);
      if (size_ + open > options_.basis) {
        restart(ritz, open);
      } else {
        previous_ = ritz.eigenvectors().leftCols(ritz_count()).transpose();
      }
      grown = widen(R_.block(0, open));
    }
    return std::move(result_);
  }

 private:
  using Ritz = Eigen::SelfAdjointEigenSolver<Dense<T>>;
  static constexpr double guard_residual = 0.1;  ///< relative to the guard's distance from the wanted pairs

  const LinearOperator<T>& op_;
  const EigenOptions options_;
  const Execution& execution_;
  const Index n_, wanted_;
  const Workspace<T> storage_;
  const MatrixView<T> V_, AV_, R_;  ///< basis, its images, residuals
  Dense<T> projected_, previous_;   ///< V A V^T; the Ritz vectors of the step before, in the basis
  Index size_ = 0;                  ///< of the basis
  std::vector<T> theta_;            ///< Ritz values of the residuals that are not small enough
  EigenResult result_{{}, {}, 0, 0, false};

  static void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
  }

  Index ritz_count() const { return std::min(wanted_, size_); }

  /// Makes the rows of X orthonormal to the basis and to each other and adds them to it, with their products. Returns
  /// false if no row was independent of the basis.
  bool widen(MatrixView<T> X) {
    for (Index i = 0; i < X.rows; ++i) {
      const double norm = std::sqrt(squared_norm(X.row(i), n_));
      if (norm > 0) Vector<T>(X.row(i), n_) *= T(1 / norm);
    }
    double loss = 1;
    for (int pass = 0; pass < 5 && X.rows > 0; ++pass) {
      if (loss > 0.9) op_.project(X, execution_);
      remove_components<T>(V_.block(0, size_), X, execution_);
      // Rows begin with norm one. What is left of those that lose nearly all of it, or in a later pass half, is
      // rounding.
      const Orthonormalized done = orthonormalize<T>(X, pass == 0 ? T(1e-14) : T(0.5), execution_);
      X.rows = done.rows;
      loss = done.largest_loss;
      if (pass > 0 && loss < 1e-3) break;
    }
    if (X.rows == 0) return false;
    const MatrixView<T> fresh = V_.block(size_, X.rows), image = AV_.block(size_, X.rows);
    for (Index i = 0; i < X.rows; ++i) Vector<T>(fresh.row(i), n_) = Vector<T>(X.row(i), n_);
    op_.apply(fresh, image, execution_);
    result_.products += X.rows;
    size_ += X.rows;
    project_operator(image);
    return true;
  }

  /// Adds the last rows and columns to V A V^T, given the products of the last vectors of the basis.
  void project_operator(MatrixView<T> image) {
    const Index added = image.rows;
    const std::vector<T> block = inner_products<T>(image, V_.block(0, size_), execution_);
    const Eigen::Map<const Dense<T>> rows(block.data(), added, size_);
    projected_.conservativeResize(size_, size_);
    projected_.bottomRows(added) = rows;
    projected_.rightCols(added) = rows.transpose();
    projected_.bottomRightCorner(added, added) =
        (T(0.5) * (rows.rightCols(added) + rows.rightCols(added).transpose())).eval();
  }

  /// Computes the Ritz values and the residuals of their vectors. Those that are not small enough yet are moved to the
  /// first rows of R. Returns how many they are.
  Index find_residuals(const Ritz& ritz) {
    const Index count = ritz_count();
    const Dense<T> C = ritz.eigenvectors().leftCols(count).transpose();
    result_.norm = std::max(result_.norm, double(ritz.eigenvalues().cwiseAbs().maxCoeff()));
    result_.values.assign(ritz.eigenvalues().data(), ritz.eigenvalues().data() + count);
    const Dense<T> scaled = -(ritz.eigenvalues().head(count).asDiagonal() * C);
    combine<T>(1, view<T>(C), AV_.block(0, size_), 0, R_.block(0, count), execution_);
    combine<T>(1, view<T>(scaled), V_.block(0, size_), 1, R_.block(0, count), execution_);
    result_.residuals.resize(static_cast<std::size_t>(count));
    theta_.clear();
    Index open = 0;
    for (Index i = 0; i < count; ++i) {
      result_.residuals[i] = std::sqrt(squared_norm(R_.row(i), n_));
      if (result_.residuals[i] <= residual_wanted(i)) continue;
      if (open < i) Vector<T>(R_.row(open), n_) = Vector<T>(R_.row(i), n_);
      theta_.push_back(ritz.eigenvalues()[i]);
      ++open;
    }
    return open;
  }

  double residual_wanted(Index i) const {
    const double enough = options_.tolerance * result_.norm;
    if (i < options_.count) return enough;
    return std::max(enough, guard_residual * (result_.values[i] - result_.values[options_.count - 1]));
  }

  /// Replaces the basis by its best Ritz vectors and by the parts of the last step's Ritz vectors that are independent
  /// of these.
  void restart(const Ritz& ritz, Index open) {
    const Index count = ritz_count(), most = options_.basis;
    const Index best = std::min(size_, std::max(count + open, 2 * most / 5));
    Dense<T> C = ritz.eigenvectors().leftCols(best).transpose();
    if (previous_.rows() > 0) {
      Dense<T> padded = Dense<T>::Zero(previous_.rows(), size_);
      padded.leftCols(previous_.cols()) = previous_;
      C = with_rows<T>(C, padded.topRows(std::min<Index>(previous_.rows(), most - open - best)));
    }
    combine_in_place<T>(view<T>(C), V_.block(0, size_), execution_);
    combine_in_place<T>(view<T>(C), AV_.block(0, size_), execution_);
    projected_ = (C * projected_ * C.transpose()).eval();
    size_ = C.rows();
    previous_ = Dense<T>::Identity(count, size_);
  }

  void finish(const Ritz& ritz, Index open, MatrixView<T> vectors) {
    const Index found = std::min(ritz_count(), options_.count);
    const Dense<T> C = ritz.eigenvectors().leftCols(found).transpose();
    combine<T>(1, view<T>(C), V_.block(0, size_), 0, vectors.block(0, found), execution_);
    result_.values.resize(static_cast<std::size_t>(found));
    result_.residuals.resize(static_cast<std::size_t>(found));
    result_.finished = open == 0 && found == options_.count;
  }
};

}  // namespace detail

/// Lowest eigenpairs of a symmetric operator by the generalised Davidson method: a block of preconditioned residuals
/// widens the search space, Rayleigh-Ritz picks from it, and a restart keeps the best vectors and those of the step
/// before (locally optimal restarting: Stathopoulos and Saad, ETNA 7, 1998). Without a preconditioner this is
/// thick-restart block Lanczos, with one it is at least locally as good as LOBPCG.
///
/// `start` (s, n), s >= count, is overwritten; `vectors` (count, n) receives unit eigenvectors. Multiple eigenvalues
/// are found as often as `count` says, because the block has as many vectors.
///
/// A search may miss one of the lowest eigenvectors if its start hardly contains it. To look for missed ones, search
/// again from what was found and fresh random vectors, with guards: these are the Ritz pairs above the wanted ones, and
/// the search ends only when their residuals are small against their distance from the wanted ones.
///
/// Memory: 2 basis + 2 count vectors. Work besides the operator: about 8 basis n multiplications per product.
template <class T>
EigenResult lowest_eigenpairs(const LinearOperator<T>& op, MatrixView<T> start, MatrixView<T> vectors,
                              const EigenOptions& options, const Execution& execution) {
  return detail::DavidsonSearch<T>(op, options, execution).run(start, vectors);
}

}  // namespace ufm_fast
