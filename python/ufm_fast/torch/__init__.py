"""Losses for PyTorch: functions of tensors that are computed by the core and differentiable twice.

The module is imported only when asked for, ``import ufm_fast.torch``, and needs PyTorch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

import ufm_fast as uf

from .._model.functions import check_functions
from .._model.loss import Loss
from .checks import check_head, check_labels, check_parts, check_weight
from .compiled import Opaque, number_of
from .functions import Call, RowValues, Value
from .terms import Head, Model, Term

__all__ = ["linear_cross_entropy", "loss"]


def loss(ufm: uf.UFM, W: Tensor, H: Tensor, b: Tensor | None = None) -> Tensor:
    """Evaluate the loss f of a model.

    Parameters
    ----------
    ufm : UFM
    W : Tensor, shape (K, d), of the model's dtype, on the CPU
    H : Tensor, shape (M, d)
    b : Tensor, shape (K,)
        None, and only then, in a model without bias.

    Returns
    -------
    Tensor
        A number, differentiable twice in W, H and b; a third derivative is an error.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or holds a NaN or an infinity.
    FloatingPointError
        If f overflows.
    RuntimeError
        For a third derivative, and for forward mode nested in forward mode. By the call that takes it.

    Notes
    -----
    Cost: that of `UFM.loss_and_grad`, where a gradient is going to be wanted, and that of `UFM.loss` otherwise; the
    gradient is kept for the backward pass. A Hessian product costs that of `UFM.hvp`. Contiguous tensors are not
    copied, others are. `torch.vmap` evaluates one entry after the other, and `torch.compile` does not look inside.

    Examples
    --------
    >>> import torch, ufm_fast as uf, ufm_fast.torch
    >>> ufm = uf.UFM(4, 4, [5, 3, 2, 1], lambda_W=1e-2, lambda_H=1e-2)
    >>> p = ufm.random_point(seed=0)
    >>> W, H, b = (torch.from_numpy(part).requires_grad_() for part in p)
    >>> uf.torch.loss(ufm, W, H, b).backward()
    >>> bool((W.grad.numpy() == ufm.loss_and_grad(p)[1].W).all())
    True
    """
    check_functions(ufm)
    if ufm.bias != (b is not None):
        raise ValueError(f"b must be {'given' if ufm.bias else 'None'}: the model has {'a' if ufm.bias else 'no'} bias")
    check_parts(("W", "H", "b"), (W, H, b))
    if torch.compiler.is_compiling():
        return _compiled(number_of(Model, ufm), None, None, W, H, b)
    return _applied(Model(ufm), None, None, W, H, b)


def linear_cross_entropy(
    H: Tensor,
    W: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    *,
    loss: str | Loss = "cross_entropy",
    weight: Tensor | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    threads: int | None = None,
) -> Tensor:
    """Evaluate a loss of the logits H W^T + bias without an array of the logits.

    It stands for ``torch.nn.functional.cross_entropy(torch.nn.functional.linear(H, W, bias), labels)``.

    Parameters
    ----------
    H : Tensor of float32 or float64, shape (..., d), on the CPU
        Features.
    W : Tensor of the same type, shape (K, d)
        The weight of a `torch.nn.Linear`.
    labels : Tensor of integers, shape (...), or of floats, shape (..., K)
        In [0, K), or ignored; or targets, distributions for cross-entropy. They are constants.
    bias : Tensor of the type of H, shape (K,), optional
    loss : {"cross_entropy", "mse", "bce"} or loss object, optional
        One with a logit a class; `ufm_fast.losses` has those of long-tailed learning.
    weight : Tensor, shape (K,), optional
        Of classes, for labels without smoothing. The mean is then over the sum of the rows' weights.
    reduction : {"mean", "sum", "none"}, optional
    ignore_index : int, optional
        Rows with this label are left out.
    label_smoothing : float, optional
        In [0, 1), for cross-entropy that is given by its name.
    threads : int, optional
        None follows `ufm_fast.set_num_threads`; PyTorch's own number does not matter.

    Returns
    -------
    Tensor
        A number or, for "none", losses of the shape (...). Differentiable twice in H, W and bias; a third
        derivative is an error.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or holds a NaN or an infinity; for "mean", if all rows are left out.
    FloatingPointError, RuntimeError
        As for `loss`.

    Notes
    -----
    Cost: three K x d x N products, the gradient among them; for "none" three more for the backward pass. A Hessian
    product costs seven. Beyond inputs and gradients, memory is that of `ufm_fast.linear_cross_entropy`.

    Examples
    --------
    >>> import torch, ufm_fast.torch
    >>> head = torch.nn.Linear(16, 1000)
    >>> H, labels = torch.randn(2, 8, 16), torch.randint(1000, (2, 8))
    >>> value = ufm_fast.torch.linear_cross_entropy(H, head.weight, labels, head.bias)
    >>> bool(torch.isclose(value, torch.nn.functional.cross_entropy(head(H).flatten(0, 1), labels.flatten())))
    True
    """
    check_parts(("H", "W", "bias"), (H, W, bias))
    check_head(H, W, bias)
    soft = check_labels(labels, H, W)
    K, d = W.shape
    rows, targets = H.reshape(-1, d), labels.reshape(-1, K) if soft else labels.reshape(-1)
    ignored = None if soft else ignore_index
    weights = None
    if weight is not None:
        check_weight(weight, W, soft or label_smoothing != 0)
        weights = _weights_of_rows(weight, targets, ignored)
        if reduction == "mean":
            weights, reduction = weights / weights.sum(), "sum"
    smoothing = label_smoothing if label_smoothing else 0  # while it compiles, a float can be a symbol
    options = loss, smoothing, ignored, reduction, threads
    if torch.compiler.is_compiling():
        value = _compiled(number_of(Head, *options), targets, weights, W, rows, bias)
    else:
        value = _applied(Head(*options), targets, weights, W, rows, bias)
    return value.reshape(labels.shape[: H.ndim - 1]) if reduction == "none" else value


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def _compiled(number: int, *inputs: Tensor | None) -> Tensor:
    return _applied(Opaque(number), *inputs)


def _applied(term: Term, *inputs: Any) -> Tensor:
    *_, W, H, b = inputs
    wanted = torch.is_grad_enabled() and (W.requires_grad or H.requires_grad or (b is not None and b.requires_grad))
    rule = RowValues if term.of_rows else Value
    value: Tensor = rule.apply(Call(term, wants_gradient=wanted), *inputs)[0]
    return value


def _weights_of_rows(weight: Tensor, labels: Tensor, ignored: int | None) -> Tensor:
    """Return the weights of the labels' classes, zero where a label is ignored."""
    weights = weight[labels.long().clamp(0, len(weight) - 1)]
    return weights if ignored is None else weights.masked_fill(labels == ignored, 0)
