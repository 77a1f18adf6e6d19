"""From the options that describe a problem to a `UFM`, for every command that takes one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

import ufm_fast as uf

from .._io.files import FileError
from .._model.loss import Loss
from .._model.losses import LOSSES, as_loss, described_loss, parameters_of
from .files import read_counts
from .options import DEFAULT_COUNTS, DEFAULT_K, DEFAULT_LAMBDA_B, FloatType, LossName


def class_counts(K: int | None, n: int | None, counts: str | None, imbalance: float | None) -> NDArray[np.int64]:
    """Find the samples per class that the options ask for.

    Raises
    ------
    typer.BadParameter
        If the options contradict each other, or what they name does not exist or is no list of positive integers.
    """
    if counts is None and K is None and n is None:
        counts = DEFAULT_COUNTS
    if counts is None:
        return exponential_counts(DEFAULT_K if K is None else K, 1 if n is None else n, imbalance)
    if n is not None:
        raise typer.BadParameter("give either --n or --counts, not both", param_hint="--n")
    if not Path(counts).exists() or Path(counts).is_dir():
        try:
            sizes = uf.counts(counts, imbalance)
        except ValueError as error:
            raise typer.BadParameter(f"no such file, and as a data set: {error}", param_hint="--counts") from error
    elif imbalance is not None:
        raise typer.BadParameter("counts from a file are taken as they are", param_hint="--imbalance")
    else:
        try:
            sizes = read_counts(Path(counts))
        except (FileError, OSError) as error:
            raise typer.BadParameter(str(error), param_hint="--counts") from error
    if K not in (None, len(sizes)):
        raise typer.BadParameter(f"{K} classes, but --counts {counts} has {len(sizes)}", param_hint="--K")
    return sizes


def exponential_counts(K: int, n: int, imbalance: float | None) -> NDArray[np.int64]:
    """Let class sizes fall exponentially from `n` to `n` / `imbalance`, rounded down as in long-tailed data sets."""
    if K < 2:
        raise typer.BadParameter(f"at least 2 classes are needed, not {K}", param_hint="--K")
    if n < 1:
        raise typer.BadParameter(f"at least 1 sample a class is needed, not {n}", param_hint="--n")
    if imbalance is None:
        return np.full(K, n)
    if not 1 <= imbalance <= n:
        raise typer.BadParameter(f"it must lie between 1 and n = {n}, not {imbalance:g}", param_hint="--imbalance")
    return np.array([int(n * imbalance ** (-k / (K - 1))) for k in range(K)])


def build_losses(names: Iterable[LossName], **parameters: float) -> list[Loss]:
    """Make the losses with these names, each with those of the parameters that it has; 0 is the same as not given.

    Raises
    ------
    typer.BadParameter
        If no loss has a parameter that is given, or one refuses its value.
    """
    losses = [as_loss(name.value) for name in names]
    for parameter, value in parameters.items():
        if value and not any(parameter in loss.parameters for loss in losses):
            takers = " or ".join(name for name, cls in LOSSES.items() if parameter in parameters_of(cls))
            others = " or ".join(loss.name for loss in losses)
            option = f"--{parameter.replace('_', '-')}"
            raise typer.BadParameter(f"it goes with {takers}, not {others}", param_hint=option)
    try:
        return [described_loss({"loss": loss.name, **parameters}) for loss in losses]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def build_ufm(
    *,
    K: int | None,
    d: int | None,
    n: int | None,
    counts: str | None,
    imbalance: float | None,
    loss: Loss,
    lambda_W: float,
    lambda_H: float | None,
    lambda_b: float | None,
    no_bias: bool,
    threads: int | None,
    dtype: FloatType,
) -> uf.UFM:
    """Build the model the options describe; its classes are collapsed (exact, and N / K times cheaper).

    Raises
    ------
    typer.BadParameter
        If the options contradict each other or the model rejects a value.
    """
    sizes = class_counts(K, n, counts, imbalance)
    if no_bias and lambda_b is not None:
        raise typer.BadParameter("a model without a bias has no bias decay", param_hint="--lambda-b")
    try:
        return uf.UFM(
            len(sizes),
            len(sizes) if d is None else d,
            sizes,
            loss=loss,
            lambda_W=lambda_W,
            lambda_H=lambda_W / float(np.mean(sizes)) if lambda_H is None else lambda_H,
            lambda_b=DEFAULT_LAMBDA_B if lambda_b is None and not no_bias else lambda_b or 0.0,
            bias=not no_bias,
            dtype=dtype.value,
            threads=threads,
        )
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from error
