"""The relative gaps that a run can be asked to certify."""

from __future__ import annotations

import numpy as np

from .._model.model import UFM
from .._runtime.arguments import real_number


def checked_tolerance(tol: float, *models: UFM) -> float:
    """Return a tolerance as a float if runs on these models can be asked for it, otherwise raise an error."""
    return real_number(tol, "tol", least=max(map(tolerance_of, models), default=smallest_tolerance(0)), below=1)


def tolerance_of(ufm: UFM) -> float:
    """Return the least relative gap that a run on a model can be asked for."""
    return smallest_tolerance(max(ufm.K, ufm.M if ufm.counts is None else 0))


def smallest_tolerance(K: int) -> float:
    """Four times the relative allowance that a bound on K classes, or so many rows, makes for rounding.

    A loss has one of that order.
    """
    return 4 * (100 + 4 * K) * float(np.finfo(float).eps)
