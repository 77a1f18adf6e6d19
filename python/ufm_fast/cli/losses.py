"""Losses from their names and parameters: those of the registry, and those that follow from the samples per class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from .._model.loss import Loss
from .._model.losses import LOSSES
from ..losses import cdt, ldam, logit_adjusted, vector_scaling

_OF_COUNTS: dict[str, Callable[..., Loss]] = {
    method.__name__: method for method in (logit_adjusted, ldam, cdt, vector_scaling)
}

#: What makes a loss, by name.
CONSTRUCTORS: dict[str, Callable[..., Loss]] = {**LOSSES, **_OF_COUNTS}

#: Makes a loss for so many samples per class; None where the rows are no classes.
LossMaker = Callable[[NDArray[np.int64] | None], Loss]


def loss_makers(names: Iterable[str], parameters: Sequence[str], label_smoothing: float) -> list[LossMaker]:
    """Prepare the losses with these names, each with those of the parameters, KEY=VALUE, that it takes.

    Raises
    ------
    typer.BadParameter
        If a parameter is no KEY=VALUE, or none of the losses takes it.
    """
    options = {"--parameter": dict(map(_parameter, parameters))}
    options["--label-smoothing"] = {"label_smoothing": label_smoothing} if label_smoothing else {}
    chosen = list(names)
    for option, given in options.items():
        for key in given:
            if not any(key in _taken_by(name) for name in chosen):
                takers = " or ".join(name for name in CONSTRUCTORS if key in _taken_by(name)) or "no loss"
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
    taken = dict(inspect.signature(CONSTRUCTORS[name]).parameters)
    if name in _OF_COUNTS:
        del taken["n"]
    return taken


def _make(name: str, given: dict[str, Any], sizes: NDArray[np.int64] | None) -> Loss:
    taken = _taken_by(name)
    missing = [key for key, word in taken.items() if word.default is word.empty and key not in given]
    if missing:
        raise typer.BadParameter(f"{name} needs {missing[0]}=VALUE", param_hint="--parameter")
    if name in _OF_COUNTS and sizes is None:
        raise typer.BadParameter(f"{name} needs samples per class, which --targets does not give", param_hint="--loss")
    of_counts = (sizes,) if name in _OF_COUNTS else ()
    try:
        return CONSTRUCTORS[name](*of_counts, **{key: value for key, value in given.items() if key in taken})
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error), param_hint="--parameter") from error
