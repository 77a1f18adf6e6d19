"""The data term alone, for training loops: the loss of a batch of logits W h + b, its gradient and Hessian products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from .._model.loss import Loss
from .._model.losses import CrossEntropy, as_loss
from .._model.rows import Rows
from .._model.targets import Targets, checked_targets
from .._runtime import core
from .._runtime.arguments import choice, dimensions, flag, real_array
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import checked_threads, get_num_threads
from .labels import LabelRule, as_ignored

_REDUCTIONS = ("mean", "sum", "none")
_NUMBERS = 1 << 22  # of dense targets that are converted at a time
_CROSS_ENTROPY = CrossEntropy()

Gradient = tuple[NDArray[Any], NDArray[Any], "NDArray[Any] | None"]


def linear_cross_entropy(
    W: NDArray[Any],
    H: NDArray[Any],
    labels: Any,
    b: NDArray[Any] | None = None,
    *,
    loss: str | Loss = _CROSS_ENTROPY,
    weights: ArrayLike | None = None,
    ignore_index: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    return_logsumexp: bool = False,
    out: Gradient | None = None,
    threads: int | None = None,
) -> tuple[Any, ...]:
    """Evaluate a loss of the logits H W^T + b of a batch, and its gradient, without an array of the logits.

    Parameters
    ----------
    W : ndarray of float32 or float64, shape (K, d), C-contiguous
    H : ndarray of the same type, shape (N, d), C-contiguous
        A feature a row.
    labels : ints, shape (N,), or numbers, shape (N, K), dense or scipy.sparse
        In [0, K); or targets: distributions for cross-entropy.
    b : ndarray of the same type, shape (K,), optional
    loss : {"cross_entropy", "mse", "bce"} or loss object, optional
        One with a logit a class.
    weights : N non-negative numbers, optional
        Of the rows in value and gradient.
    ignore_index : int or several, optional
        Rows with these labels are left out, as are those whose label is masked or missing; their features get a
        gradient of zero. They are not multiplied, but a copy of the others is.
    reduction : {"mean", "sum", "none"}, optional
        "mean": the weighted sum over the number of rows that are not left out (not over the sum of weights). "none":
        the value is an array of the weighted losses, (N,), and the gradient that of their sum.
    return_logsumexp : bool, optional
        Whether to return the logarithm of the sum of the exponentials of each row's logits, too, as cross-entropy takes
        them: with scale, shift and margin.
    out : three arrays like W, H and b, optional
        The gradient is written there; the third is None without b.
    threads : int, optional
        None follows `set_num_threads`.

    Returns
    -------
    value : float or ndarray, shape (N,)
    gradient : tuple of ndarray
        With respect to W, H and b; None for b without it.
    logsumexp : ndarray, shape (N,)
        If `return_logsumexp`; NaN for rows that are left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or holds a NaN or an infinity; for "mean", if all rows are left out.
    FloatingPointError
        If the value or the gradient overflows.

    Notes
    -----
    Cost: three K x d x N products. Memory beyond inputs and outputs: for each thread a tile of logits, at most 32 MiB,
    and up to three copies of W; for many classes (K > 10 922 in single precision, 5461 in double) a tile that threads
    share, of 64 MiB or 192 rows, and 32 MiB at most besides. Dense targets are converted in blocks.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> W, H, labels = rng.standard_normal((5, 3)), rng.standard_normal((7, 3)), rng.integers(0, 5, 7)
    >>> value, (to_W, to_H, _) = uf.linear_cross_entropy(W, H, labels)
    >>> Z = H @ W.T
    >>> bool(np.isclose(value, np.mean(np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(7), labels])))
    True
    """
    batch = _batch_of(
        W, H, labels, b, loss, weights, ignore_index, choice(reduction, "reduction", _REDUCTIONS), threads
    )
    if flag(return_logsumexp, "return_logsumexp") and not batch.loss.has_logsumexp:
        raise ValueError(f"return_logsumexp must be False for {batch.loss.describe()}, which is not made of it")
    to_W, to_H, to_b = _new_like(W, H, b) if out is None else _checked_out(out, W, H, b)
    losses = np.empty(len(batch.H), W.dtype) if reduction == "none" else None
    logsumexp = np.empty(len(batch.H), W.dtype) if return_logsumexp else None
    of_kept = to_H if batch.kept is None else np.empty_like(batch.H)
    value: Any = batch.evaluate((to_W, of_kept, to_b), losses, logsumexp)
    if batch.kept is not None:
        to_H[:] = batch.of_all_rows(of_kept, 0)
    if losses is not None:
        value = batch.of_all_rows(losses * batch.weights.astype(W.dtype), 0)
    gradient = to_W, to_H, None if b is None else to_b
    return (value, gradient) if logsumexp is None else (value, gradient, batch.of_all_rows(logsumexp, np.nan))


def linear_cross_entropy_hvp(
    W: NDArray[Any],
    H: NDArray[Any],
    labels: Any,
    v: Gradient,
    b: NDArray[Any] | None = None,
    *,
    loss: str | Loss = _CROSS_ENTROPY,
    weights: ArrayLike | None = None,
    ignore_index: ArrayLike | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    threads: int | None = None,
) -> Gradient:
    """Multiply the Hessian of `linear_cross_entropy` in (W, H, b) by a direction.

    Parameters
    ----------
    W, H, labels, b, loss, weights, ignore_index, reduction, threads
        As for `linear_cross_entropy`.
    v : three arrays like W, H and b
        The third is None without b.

    Returns
    -------
    tuple of ndarray
        With respect to W, H and b; None for b without it.

    Raises
    ------
    TypeError, ValueError, FloatingPointError
        As `linear_cross_entropy` does.

    Notes
    -----
    Cost: seven K x d x N products. Memory as there.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> W, H, labels = rng.standard_normal((5, 3)), rng.standard_normal((7, 3)), rng.integers(0, 5, 7)
    >>> of_W, of_H, of_b = uf.linear_cross_entropy_hvp(W, H, labels, (W, 0 * H, None))
    >>> of_W.shape, of_H.shape, of_b
    ((5, 3), (7, 3), None)
    """
    choice(reduction, "reduction", _REDUCTIONS[:2])
    batch = _batch_of(W, H, labels, b, loss, weights, ignore_index, reduction, threads)
    of_W, of_H, of_b = batch.multiply(*_checked_direction(v, W, H, b))
    return of_W, batch.of_all_rows(of_H, 0), None if b is None else of_b


class _Batch(NamedTuple):
    """What is evaluated: parameters, and the rows that are kept, with their weights in the sum of losses."""

    W: NDArray[Any]
    H: NDArray[Any]
    b: NDArray[Any]  # zeros without a bias
    loss: Loss
    targets: Targets
    weights: NDArray[np.float64]
    kept: NDArray[np.bool_] | None  # which of all rows; None for all
    threads: int | None

    def of_all_rows(self, values: NDArray[Any], fill: float) -> NDArray[Any]:
        """Put what belongs to rows that are kept among all rows."""
        if self.kept is None:
            return values
        whole = np.full((len(self.kept), *values.shape[1:]), fill, values.dtype)
        whole[self.kept] = values
        return whole

    def blocks(self) -> Iterator[tuple[slice, Any]]:
        """Yield rows and the compiled problem of them: all at once but for dense targets, which are converted."""
        N, K = len(self.H), len(self.W)
        dense = isinstance(self.targets, np.ndarray) and self.targets.ndim == 2
        step = max(1, _NUMBERS // K) if dense else max(1, N)
        for first in range(0, N, step):
            rows = slice(first, min(first + step, N))
            try:
                yield rows, self._compiled(checked_targets(self.targets[rows], K) if dense else self.targets, rows)
            except ValueError as error:
                raise ValueError(f"{error} (counted from row {first})" if first > 0 else str(error)) from error

    def _compiled(self, targets: Targets, rows: slice) -> Any:
        ones = np.ones(rows.stop - rows.start)
        return Rows(targets, self.weights[rows], ones).compiled(
            self.loss, *self.W.shape, scales=ones, ridges=0 * ones, lambda_W=0.0, lambda_b=0.0, bias=True,
            dtype=self.W.dtype,
        )  # fmt: skip

    def evaluate(
        self,
        gradient: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
        losses: NDArray[Any] | None,
        logsumexp: NDArray[Any] | None,
    ) -> float:
        """Return the sum of losses, and fill the arrays."""
        to_W, to_H, to_b = gradient
        if not len(self.H):
            to_W[:], to_b[:] = 0, 0
        total = 0.0
        for rows, problem in self.blocks():
            sums = (to_W, to_b) if rows.start == 0 else (np.empty_like(to_W), np.empty_like(to_b))
            each = [None if part is None else part[rows] for part in (losses, logsumexp)]
            total += self._run(
                problem.loss_and_grad_into, self.W, self.H[rows], self.b, sums[0], to_H[rows], sums[1], *each
            )
            if rows.start > 0:
                to_W += sums[0]
                to_b += sums[1]
        return total

    def multiply(
        self, V_W: NDArray[Any], V_H: NDArray[Any], V_b: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Multiply the Hessian by a direction of all rows; return the product, that in H of the rows that are kept."""
        V_H = V_H if self.kept is None else V_H[self.kept]
        of_W, of_H, of_b = np.zeros_like(V_W), np.empty_like(V_H), np.zeros_like(V_b)
        for rows, problem in self.blocks():
            found = self._run(problem.hvp, self.W, self.H[rows], self.b, V_W, V_H[rows], V_b)
            of_W += found[0]
            of_H[rows] = found[1]
            of_b += found[2]
        return of_W, of_H, of_b

    def _run(self, method: Any, *arguments: Any) -> Any:
        """Call the compiled problem; small ones are done inline, where no BLAS is called."""
        small = self.W.size * len(self.H) <= core.small_product
        with nullcontext() if small else single_threaded_blas():
            return method(*arguments, 1 if small else self.threads or get_num_threads())


def _batch_of(
    W: Any, H: Any, labels: Any, b: Any, loss: str | Loss, weights: Any, ignore_index: Any, reduction: str, threads: Any
) -> _Batch:
    """Check the arguments, and leave out the rows that are to be ignored."""
    _check_arrays(W=W, H=H, b=b)
    K, N = len(W), len(H)
    function = as_loss(loss)
    if function.outputs(K) != K:
        raise ValueError(f"loss must have a logit a class, not {function.describe()}")
    function.check(K)
    ignored = as_ignored(ignore_index)
    kept: NDArray[np.bool_] | None = None
    if scipy.sparse.issparse(labels) or dimensions(labels, "labels") == 2:
        if len(ignored):
            raise ValueError("ignore_index must be None where labels are targets with a number a class")
        targets = checked_targets(labels, K) if scipy.sparse.issparse(labels) else _dense(labels, K)
        rows = len(targets[0]) - 1 if isinstance(targets, tuple) else len(targets)
        if rows != N:
            raise ValueError(f"labels must have {N} rows, as H has, not {rows}")
    else:
        if not len(ignored) and _are_rows_of_W(labels, N, K):
            targets = np.ascontiguousarray(labels)
        else:
            kept, targets = LabelRule(np.arange(K), ignored).rows(labels, N)
        function.check_rows(targets, K, True)
    each = np.ones(N) if weights is None else _checked_weights(weights, N)
    if kept is not None:
        H, each = H[kept], each[kept]
    if reduction == "mean":
        if not len(H):
            raise ValueError("labels must leave some rows for their mean, but all are left out, or there are none")
        each = each / len(H)
    threads = checked_threads(threads, "threads")
    return _Batch(W, H, np.zeros(K, W.dtype) if b is None else b, function, targets, each, kept, threads)


def _check_arrays(**arrays: Any) -> None:
    """Refuse what is no array of the type of W; shapes and layouts are checked where the arrays are used."""
    W = arrays["W"]
    for name, array in arrays.items():
        if array is None and name == "b":
            continue
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{name} must be a NumPy array of float32 or float64, not {kind}")
        if array.dtype != W.dtype:
            raise TypeError(f"{name} must be {W.dtype}, as W is, not {array.dtype}")
    for name in ("W", "H"):
        if arrays[name].ndim != 2:
            raise ValueError(f"{name} must have two dimensions, not shape {arrays[name].shape}")
    if not len(W):
        raise ValueError(f"W must have a row for each class, not shape {W.shape}")
    if W.shape[1] != arrays["H"].shape[1]:
        raise ValueError(f"H must have shape (N, {W.shape[1]}), as W has, not {arrays['H'].shape}")


def _are_rows_of_W(labels: Any, N: int, K: int) -> bool:
    """Whether nothing need be read into the labels: small batches take longer to check than to multiply."""
    if type(labels) is not np.ndarray or labels.dtype != np.int64 or labels.shape != (N,) or not N:
        return False
    return bool(labels.min() >= 0 and labels.max() < K)


def _dense(labels: Any, K: int) -> NDArray[Any]:
    """Return dense targets as they are, to be checked a block at a time."""
    array = np.asarray(labels)
    if array.shape[1] != K:
        raise ValueError(f"labels must have a column for each of the K = {K} rows of W, not shape {array.shape}")
    return array


def _checked_weights(weights: ArrayLike, N: int) -> NDArray[np.float64]:
    array: NDArray[np.float64] = real_array(weights, "weights", np.float64)
    if array.shape != (N,):
        raise ValueError(f"weights must have shape ({N},), not {array.shape}")
    wrong = ~((array >= 0) & np.isfinite(array))
    if wrong.any():
        raise ValueError(f"weights must be finite and not negative, but number {wrong.argmax()} is not")
    return array


def _new_like(
    W: NDArray[Any], H: NDArray[Any], b: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    empty = core.empty64 if W.dtype == np.float64 else core.empty32
    return empty(*W.shape), empty(*H.shape), np.empty(len(W), W.dtype)


def _checked_out(
    out: Any, W: NDArray[Any], H: NDArray[Any], b: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the arrays to write the gradient to; they may not overlap what is read."""
    to_W, to_H, to_b = _three(out, "out", b)
    for name, array in (("out[0]", to_W), ("out[1]", to_H), ("out[2]", to_b)):
        if any(x is not None and np.may_share_memory(array, x) for x in (W, H, b)):
            raise ValueError(f"{name} must not overlap W, H or b")
    if to_H.shape != H.shape:
        raise ValueError(f"out[1] must have shape {H.shape}, as H has, not {to_H.shape}")
    return to_W, to_H, np.empty(len(W), W.dtype) if to_b is None else to_b


def _checked_direction(
    v: Any, W: NDArray[Any], H: NDArray[Any], b: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    V_W, V_H, V_b = _three(v, "v", b)
    if V_H.shape != H.shape:
        raise ValueError(f"v[1] must have shape {H.shape}, as H has, not {V_H.shape}")
    return V_W, V_H, np.zeros(len(W), W.dtype) if V_b is None else V_b


def _three(arrays: Any, name: str, b: NDArray[Any] | None) -> tuple[Any, Any, Any]:
    """Take apart three arrays, of which the last is None where there is no bias."""
    if not isinstance(arrays, tuple | list) or len(arrays) != 3 or (arrays[2] is None) != (b is None):
        raise ValueError(f"{name} must be three: arrays like W and H, and {'None' if b is None else 'one like b'}")
    for i, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) and not (i == 2 and b is None):
            raise TypeError(f"{name}[{i}] must be a NumPy array, not {type(array).__name__}")
    return arrays[0], arrays[1], arrays[2]
