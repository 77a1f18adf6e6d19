"""From the options that describe a problem to a `UFM`, for every command that takes one."""

from __future__ import annotations

import typer

import ufm_fast as uf

from .data import Data
from .losses import LossMaker
from .options import DEFAULT_LAMBDA_B, FloatType


def build_ufm(
    data: Data,
    *,
    d: int | None,
    loss: LossMaker,
    lambda_W: float,
    lambda_H: float | None,
    lambda_b: float | None,
    no_bias: bool,
    threads: int | None = None,
    dtype: FloatType = FloatType.float64,
) -> uf.UFM:
    """Build the model the options describe; its classes are collapsed (exact, and N / K times cheaper).

    Raises
    ------
    typer.BadParameter
        If the options contradict each other or the model rejects a value.
    """
    if no_bias and lambda_b is not None:
        raise typer.BadParameter("a model without a bias has no bias decay", param_hint="--lambda-b")
    loss_function = loss(data.sizes)
    try:
        return uf.UFM(
            data.K,
            data.K if d is None else d,
            **data.arguments,
            loss=loss_function,
            lambda_W=lambda_W,
            lambda_H=lambda_W / (data.samples / data.K) if lambda_H is None else lambda_H,
            lambda_b=DEFAULT_LAMBDA_B if lambda_b is None and not no_bias else lambda_b or 0.0,
            bias=not no_bias,
            dtype=dtype.value,
            threads=threads,
        )
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from error
