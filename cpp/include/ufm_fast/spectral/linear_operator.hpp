#pragma once

#include "ufm_fast/base/parallel.hpp"

namespace ufm_fast {

/// A symmetric operator A on vectors of n numbers, which are the rows of the matrices here, for `lowest_eigenpairs`.
template <class T>
class LinearOperator {
 public:
  virtual ~LinearOperator() = default;

  /// n
  virtual Index size() const = 0;

  /// Y = A X. The rows of X are in the subspace of `project`.
  virtual void apply(MatrixView<const T> X, MatrixView<T> Y, const Execution& execution) const = 0;

  /// Projects X orthogonally, in place, onto the invariant subspace that is searched.
  virtual void project(MatrixView<T>, const Execution&) const {}

  /// Row i of R becomes, in place, something near (A - theta[i])^-1 times it.
  virtual void precondition(MatrixView<T>, const T*, const Execution&) const {}
};

}  // namespace ufm_fast
