"""Losses for JAX: of a model and of a batch, with first and second derivatives, also in compiled programs.

Imported only when asked for, ``import ufm_fast.jax``; needs JAX. The work is done on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import jax
import numpy as np

from .. import linear_cross_entropy as evaluate
from .._model.functions import Functions, check_functions
from .._model.loss import Loss
from .._model.losses import as_loss
from .._networks.labels import as_ignored
from .._runtime.arguments import choice, refuse_masked
from . import operations
from .functions import BatchLoss, ModelLoss

__all__ = ["linear_cross_entropy", "loss"]

_REDUCTIONS = ("mean", "sum", "none")


def loss(ufm: Functions, W: Any, H: Any, b: Any = None) -> jax.Array:
    """Evaluate the loss of a model as a function that JAX differentiates and compiles.

    Parameters
    ----------
    ufm : UFM
        Of float32 or, where ``jax_enable_x64`` is on, float64. In a compiled function the object itself is a constant.
    W : array, shape (K, d)
        Of JAX or NumPy, of the model's dtype.
    H : array, shape (M, d)
    b : array, shape (K,), optional
        Given if and only if the model has a bias.

    Returns
    -------
    jax.Array
        A number.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; where W, H or b holds a NaN or an infinity.
    FloatingPointError
        If the loss or a derivative overflows.
    NotImplementedError
        If a third derivative is asked for.

    Notes
    -----
    Inside of a compiled function what depends on values is raised as ``jax.errors.JaxRuntimeError``, with the message.

    Cost: as `UFM.loss`; with a first derivative `UFM.loss_and_grad` instead, for each second one `UFM.hvp`. `jax.vmap`
    does one element after the other.

    Examples
    --------
    >>> import jax
    >>> import ufm_fast as uf
    >>> import ufm_fast.jax
    >>> ufm = uf.UFM(3, 4, [9, 3, 1], lambda_W=1e-2, lambda_H=1e-2, dtype="float32")
    >>> p = ufm.random_point()
    >>> value, (to_W, to_H, to_b) = jax.value_and_grad(uf.jax.loss, argnums=(1, 2, 3))(ufm, *p)
    >>> bool(abs(value - ufm.loss(p)) < 1e-6)
    True
    """
    check_functions(ufm)
    if jax.dtypes.canonicalize_dtype(ufm.dtype) != ufm.dtype:
        raise ValueError(f"ufm must be of float32, not {ufm.dtype}, while jax_enable_x64 is off")
    layout = ufm.layout
    d = layout.columns
    parts: dict[str, tuple[Any, tuple[int, ...]]] = {"W": (W, (layout.K, d)), "H": (H, (layout.M, d))}
    if layout.bias:
        parts["b"] = b, (layout.biases,)
    elif b is not None:
        raise ValueError("b must be None: the model has no bias")
    x = []
    for name, (array, shape) in parts.items():
        _check_array(array, name)
        if array.dtype != ufm.dtype:
            raise TypeError(f"{name} must be {ufm.dtype}, as the model is, not {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
        x.append(array)
    found: jax.Array = operations.loss(ModelLoss(ufm), x, (), ())[0]
    return found


def linear_cross_entropy(
    H: Any,
    W: Any,
    labels: Any,
    bias: Any = None,
    *,
    loss: str | Loss = "cross_entropy",
    weights: Any = None,
    ignore_index: int | Sequence[int] | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    threads: int | None = None,
) -> jax.Array:
    """Evaluate a loss of the logits H W^T + bias of a batch, without an array of the logits; JAX differentiates it.

    Parameters
    ----------
    H : array of float32 or float64, shape (N, d)
        Of JAX or NumPy; a feature a row.
    W : array of the same type, shape (K, d)
    labels : array of ints, shape (N,), or of float32 or float64, shape (N, K)
        In [0, K); or targets: distributions for cross-entropy. There is no derivative with respect to them.
    bias : array of the type of H, shape (K,), optional
    loss : {"cross_entropy", "mse", "bce"} or loss object, optional
        One with a logit a class.
    weights : array of the type of H, shape (N,), optional
        Of the rows, of any sign.
    ignore_index : int or several, optional
        Rows with these labels are left out.
    reduction : {"mean", "sum", "none"}, optional
        "mean": the weighted sum over the number of rows that are not left out (not over the sum of weights). "none":
        an array of the weighted losses, (N,).
    threads : int, optional
        None follows `ufm_fast.set_num_threads`.

    Returns
    -------
    jax.Array
        A number, or (N,) of them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or holds a NaN or an infinity; for "mean", if all rows are left out.
    FloatingPointError
        If the value or a derivative overflows.
    NotImplementedError
        If a third derivative is asked for, or one with respect to labels.

    Notes
    -----
    Inside of a compiled function what depends on values is raised as ``jax.errors.JaxRuntimeError``, with the message.

    Cost: three K x d x N products for a value, with its gradient or not; seven for a Hessian product. With "none", or
    for derivatives in `weights`, a first derivative costs up to twice as much, and a second one up to three times.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import ufm_fast.jax
    >>> H, W = jax.random.normal(jax.random.key(0), (7, 3)), jax.random.normal(jax.random.key(1), (5, 3))
    >>> labels = jnp.array([0, 4, 1, 1, 2, 3, 0])
    >>> value, to_W = jax.value_and_grad(ufm_fast.jax.linear_cross_entropy, argnums=1)(H, W, labels)
    >>> expected = -jnp.mean(jax.nn.log_softmax(H @ W.T)[jnp.arange(7), labels])
    >>> bool(abs(value - expected) < 1e-6)
    True
    """
    _check_batch(H, W, labels, bias, weights)
    function, ignored = as_loss(loss), tuple(as_ignored(ignore_index).tolist())
    choice(reduction, "reduction", _REDUCTIONS)
    _check_options(W.shape[0], labels.ndim, function, ignored, threads)
    x = (W, H) if bias is None else (W, H, bias)
    batch = BatchLoss(function, ignored, "sum" if reduction == "none" else reduction, threads, bias is not None)
    each = np.ones(len(H), H.dtype) if weights is None else weights
    operation = operations.rows if reduction == "none" else operations.loss
    found: jax.Array = operation(batch, x, (labels,), (each,))[0]
    return found


def _check_array(value: Any, name: str) -> None:
    """Refuse what is no array, or would be rounded on its way into JAX."""
    refuse_masked(value, name)
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array of JAX or NumPy, not {type(value).__name__}")
    if isinstance(value, np.ndarray) and jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        limits = np.iinfo(np.int32)
        if value.dtype.kind not in "iu" or (value.size and not limits.min <= value.min() <= value.max() <= limits.max):
            raise TypeError(f"{name} must have 32 bits a number, not {value.dtype}, while jax_enable_x64 is off")


def _check_batch(H: Any, W: Any, labels: Any, bias: Any, weights: Any) -> None:
    arrays = {"H": H, "W": W, "labels": labels, "bias": bias, "weights": weights}
    for name, array in arrays.items():
        if array is None and name in ("bias", "weights"):
            continue
        _check_array(array, name)
        if name != "labels" and array.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name} must be float32 or float64, not {array.dtype}")
        if name != "labels" and array.dtype != H.dtype:
            raise TypeError(f"{name} must be {H.dtype}, as H is, not {array.dtype}")
    for name in ("H", "W"):
        if arrays[name].ndim != 2:
            raise ValueError(f"{name} must have two dimensions, not shape {arrays[name].shape}")
    if 0 in W.shape:
        raise ValueError(f"W must have a row for each class and a column for each feature, not shape {W.shape}")
    (N, d), K = H.shape, W.shape[0]
    wanted = {"W": (K, d), "labels": (N, K) if labels.ndim == 2 else (N,), "bias": (K,), "weights": (N,)}
    for name, shape in wanted.items():
        if arrays[name] is not None and arrays[name].shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {arrays[name].shape}: H has shape {H.shape}")
    soft = labels.ndim == 2 and labels.dtype in (np.float32, np.float64)
    if not soft and not jax.numpy.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be ints, or targets of float32 or float64 and shape {(N, K)}, not {labels.dtype}")


@lru_cache
def _check_options(K: int, axes: int, loss: Loss, ignored: tuple[int, ...], threads: int | None) -> None:
    """Raise what an empty batch raises: errors that do not depend on values come before a program is compiled."""
    labels = np.zeros((0, K)) if axes == 2 else np.zeros(0, np.int64)
    W, H = np.zeros((K, 1)), np.zeros((0, 1))
    evaluate(W, H, labels, loss=loss, ignore_index=ignored or None, reduction="sum", threads=threads)
