"""From the options that describe a problem to a `UFM`, for every command that takes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

import ufm_fast as uf

from .._model.losses import LOSSES, Loss
from .data import Data
from .options import DEFAULT_LAMBDA_B, FloatType, LossName

#: Makes a loss for so many samples per class; None where the rows are no classes.
LossMaker = Callable[[NDArray[np.int64] | None], Loss]


def loss_makers(names: Iterable[LossName], parameters: Sequence[str], label_smoothing: float) -> list[LossMaker]:
    """Prepare the losses with these names, each with those of the parameters, KEY=VALUE, that it takes.

    Raises
    ------
    typer.BadParameter
        If a parameter is no KEY=VALUE, or none of the losses takes it.
    """
    options = {"--parameter": dict(map(_parameter, parameters))}
    options["--label-smoothing"] = {"label_smoothing": label_smoothing} if label_smoothing else {}
    chosen = [name.value for name in names]
    for option, given in options.items():
        for key in given:
            if not any(key in _taken_by(name) for name in chosen):
                takers = " or ".join(name for name in LOSSES if key in _taken_by(name)) or "no loss"
                raise typer.BadParameter(f"{key} goes with {takers}, not {' or '.join(chosen)}", param_hint=option)
    return [partial(_make, name, options["--parameter"] | options["--label-smoothing"]) for name in chosen]


def _parameter(words: str) -> tuple[str, Any]:
    """Split KEY=VALUE; the value is a number, a list of numbers between commas, or a word."""
    key, sign, value = words.partition("=")
    if not (key and sign and value):
        raise typer.BadParameter(f"{words!r} must be KEY=VALUE", param_hint="--parameter")
    try:
        numbers = [float(number) for number in value.split(",")]
    except ValueError:
        return key, value
    return key, numbers if "," in value else numbers[0]


def _taken_by(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(LOSSES[name]).parameters)


def _make(name: str, given: dict[str, Any], sizes: NDArray[np.int64] | None) -> Loss:
    taken = _taken_by(name)
    missing = [key for key, word in taken.items() if word.default is word.empty and key not in given]
    if missing:
        raise typer.BadParameter(f"{name} needs {missing[0]}=VALUE", param_hint="--parameter")
    try:
        return LOSSES[name](**{key: value for key, value in given.items() if key in taken})
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error), param_hint="--parameter") from error


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
