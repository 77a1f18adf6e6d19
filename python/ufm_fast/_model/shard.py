"""Some rows of a model: a part of f, of which the parts of all rows add up to the whole."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .functions import Functions
from .loss import Loss
from .rows import Rows


class RowShard(Functions):
    """Rows [start, stop) of a model, with their weights in the whole. Made by `UFM.rows`.

    It is a function of W, of the rows [start, stop) of H and of b,

        f_shard(W, H, b) = sum_i (n_i/N) weight_i loss(z_i, target_i) + lambda_H/2 sum_i ridge_i |h_i|^2
                           [ + lambda_W/2 |W|^2 + lambda_b/2 |b|^2, if start is 0 ],

    N being that of the whole model. Its points, loss, gradient and Hessian products are as those of a `UFM`.

    Attributes
    ----------
    K, d, M : int
        M is the number of rows, stop - start.
    start, stop : int
    data : Rows
        The targets, loss weights and ridges of these rows.
    lambda_W, lambda_H, lambda_b : float
        lambda_W and lambda_b are zero where start is not.
    loss_function : Loss
    bias : bool
    size : int
        Length of a packed point.
    dtype : numpy.dtype
    threads : int or None
    """

    def __init__(
        self,
        K: int,
        d: int,
        rows: Rows,
        start: int,
        *,
        loss: Loss,
        lambda_W: float,
        lambda_H: float,
        lambda_b: float,
        bias: bool,
        dtype: DTypeLike,
        threads: int | None,
    ) -> None:
        self.K, self.d, self.start, self.stop = K, d, start, start + rows.M
        self.loss_function, self.bias, self.dtype, self.threads = loss, bias, np.dtype(dtype), threads
        self.lambda_H = lambda_H
        self.lambda_W, self.lambda_b = (0.0, 0.0) if start else (lambda_W, lambda_b)
        self._compile(rows)

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {
            "loss": self.loss_function, "lambda_W": self.lambda_W, "lambda_H": self.lambda_H,
            "lambda_b": self.lambda_b, "bias": self.bias, "dtype": self.dtype.name, "threads": self.threads,
        }  # fmt: skip
        return partial(RowShard, **options), (self.K, self.d, self.data, self.start)

    def __repr__(self) -> str:
        return f"RowShard(rows {self.start} to {self.stop}, K={self.K}, d={self.d}, loss={self.loss_function})"
