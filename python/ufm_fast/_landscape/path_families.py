"""The families of models that a path can go through, by what changes along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._model.losses import CrossEntropy
from .._model.model import UFM
from .._runtime.arrays import Array

Family = Callable[[UFM, float], UFM]


def altered(ufm: UFM, **options: Any) -> UFM:
    """Return the same model with other options."""
    constructor, arguments = ufm.__reduce__()
    model: UFM = constructor(*arguments, **options)
    return model


def _class_counts(ufm: UFM) -> Array:
    if ufm.counts is None:
        raise ValueError("this path needs a model with samples per class, not one of rows")
    counts: Array = ufm.counts.astype(float)
    return counts


def _both_decays(ufm: UFM, value: float) -> UFM:
    return altered(ufm, lambda_W=value * ufm.lambda_W, lambda_H=value * ufm.lambda_H)


def power_weights(counts: NDArray[Any], power: float) -> Array:
    """Return class weights proportional to this power of the counts, with mean 1 over all samples."""
    weights = (counts / counts.mean()) ** power
    normalised: Array = weights * counts.sum() / (counts @ weights)
    return normalised


def _weight_exponent(ufm: UFM, value: float) -> UFM:
    return altered(ufm, weights=power_weights(_class_counts(ufm), -value))


def _shift_strength(ufm: UFM, value: float) -> UFM:
    if type(ufm.loss_function) is not CrossEntropy:
        raise ValueError(f"the logits of cross-entropy can be shifted, not those of {ufm.loss_function.title}")
    shift = value * np.log(_class_counts(ufm) / ufm.N)
    return altered(ufm, loss=replace(ufm.loss_function, shift=shift))


FAMILIES: dict[str, Family] = {
    "lambda_W": lambda ufm, value: altered(ufm, lambda_W=value),
    "lambda_H": lambda ufm, value: altered(ufm, lambda_H=value),
    "lambda": _both_decays,
    "lambda_b": lambda ufm, value: altered(ufm, lambda_b=value),
    "weight_exponent": _weight_exponent,
    "shift_strength": _shift_strength,
}
