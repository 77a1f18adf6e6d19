#pragma once

#include <memory>

#include "ufm_fast/losses/targets.hpp"
#include "ufm_fast/simd/elementwise.hpp"

namespace ufm_fast {

using elementwise::Affine;

/// Lists what a loss needs to know of the M rows of data: their targets, loss weights and scales, and the bias b (null
/// for none). The logits of row m are scales[m] times its scores, plus b unless the loss reads b otherwise.
template <class T>
struct DataRows {
  const Targets<T>& targets;
  const T* weights;  ///< (M,)
  const T* scales;   ///< (M,)
  const T* b;        ///< as many numbers as the loss has biases

  Affine<T> logits_of(Index m) const { return {scales[m], b}; }
};

/// Where to write what is known of each of the M rows of data besides the sum over all; null for what is not wanted.
template <class T>
struct RowValues {
  T* losses = nullptr;      ///< l, (M,)
  T* logsumexps = nullptr;  ///< log of the sum of the exponentials of the logits, (M,); NaN where the loss has none
};

/// A loss l of a row's K logits and its target. Its functions work on blocks of consecutive rows of data. Row i of a
/// block belongs to row first + i of the data:
///
///     Z    the scores W h
///     G    the gradient matrix, weights scales l'
///     S    the rows' states: numbers that second-order products need and that each loss chooses for itself, for
///          cross-entropy the K probabilities
///     D    a direction's scores, or their image weights scales l'' (scales D + b)
///
/// Implemented by PolicyLoss on top of functions of one row.
template <class T>
class Loss {
 public:
  virtual ~Loss() = default;

  /// The number of logits.
  virtual Index K() const = 0;

  /// The numbers of columns of the targets, of biases, and of numbers in a row's state.
  virtual Index classes() const { return K(); }
  virtual Index biases() const { return K(); }
  virtual Index states() const { return K(); }

  /// Whether there is no such loss without a bias.
  virtual bool needs_bias() const { return false; }

  /// Whether the loss stays as it is when a number is added to all logits.
  virtual bool shift_invariant() const = 0;

  /// Whether its targets are distributions over the logits, and so are its dual points.
  virtual bool of_distributions() const = 0;

  /// Whether `states_of_gradient` exists.
  virtual bool gradient_tells_state() const = 0;

  /// Whether to find the rows' largest logits while they are in a cache.
  virtual bool wants_largest_logit() const = 0;

  /// Makes the targets exact where the loss needs it (a distribution sums to one). An std::invalid_argument names the
  /// first row that is no target of this loss.
  virtual void prepare(Targets<T>& targets) const = 0;

  /// What row m is compared with, (classes,), as after label smoothing.
  virtual void write_target(const Targets<T>& targets, Index m, T* out) const = 0;

  /// Z becomes G, and the derivatives of weights l with respect to b are added to `sum`. Returns the sum of weights l.
  /// `largest`: the rows' largest logits, or null.
  virtual double residual_rows(const DataRows<T>& data, Index first, MatrixView<T> Z, const T* largest, double* sum,
                               RowValues<T> rows) const = 0;

  /// The first K columns of Z, the scores, become S. Z has as many columns as a state has numbers, K at least.
  virtual void state_rows(const DataRows<T>& data, Index first, MatrixView<T> Z, const T* largest) const = 0;

  /// From S to G.
  virtual void gradient_rows(const DataRows<T>& data, Index first, MatrixView<const T> S, MatrixView<T> G) const = 0;

  /// D becomes its image, and that in the bias, weights l'' (scales D + b), is added to `sum`. Here b is the
  /// direction's bias.
  virtual void second_order_rows(const DataRows<T>& data, Index first, MatrixView<const T> S, MatrixView<T> D,
                                 double* sum) const = 0;

  /// From G to S, entry by entry: for the block of columns from `column` on. An std::logic_error where the gradient
  /// does not tell the state.
  virtual void states_of_gradient(const DataRows<T>& data, Index first, Index column, MatrixView<const T> G,
                                  MatrixView<T> S) const = 0;

  /// From S to the diagonal of l'', or to bounds on it from above, entry by entry: for the block of columns from
  /// `column` on. The block has all columns where the gradient does not tell the state; where a state is not of K
  /// numbers, rows then begin with the diagonal.
  virtual void diagonal_curvatures(const DataRows<T>& data, Index first, Index column, MatrixView<T> S) const = 0;
};

}  // namespace ufm_fast
