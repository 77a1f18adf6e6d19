"""A row of a path: what is recorded of the minimum of one model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from .._model.canonical import CanonicalProblem
from .._model.model import UFM
from .._numerics import class_geometry
from .._runtime.arrays import Array
from .kept_directions import classes_together, kept_directions

FIELDS = np.dtype([
    ("value", float), ("loss", float), ("lower_bound", float), ("relative_gap", float), ("certified", bool),
    ("rank", np.int64), ("collapsed", np.int64), ("norm_W", float), ("norm_H", float), ("spectral_ratio", float),
    ("nc2_W_centred", float), ("nc2_means", float), ("nc3_duality_centred", float), ("minority_cosine_mean", float),
    ("minority_cosine_least", float), ("evaluations", np.int64), ("seconds", float),
])  # fmt: skip

_RAREST = 0.1  # part of the classes


def row_of(ufm: UFM, value: float, result: OptimizeResult) -> NDArray[Any]:
    """Return a row, an array of FIELDS without axes, from what `minimize` found."""
    problem, certificate = CanonicalProblem(ufm), result.certificate
    A, B, b = problem.coordinates(result.point)
    directions = kept_directions(problem, A, B, b)
    geometry = _geometry(ufm, A * ufm.rho, B / (ufm.rho * problem.root[:, None]))
    row = {
        "value": value,
        **{name: getattr(certificate, name) for name in ("loss", "lower_bound", "relative_gap")},
        "certified": result.success,
        "rank": directions.shape[1],
        "collapsed": classes_together(directions) if len(A) == ufm.K else 0,
        "norm_W": ufm.rho * math.sqrt(problem.square(A)),
        "norm_H": math.sqrt(problem.square(B)) / ufm.rho,
        "spectral_ratio": certificate.spectral_norm / certificate.threshold,
        **geometry,
        "evaluations": result.nfev,
        "seconds": result.seconds,
    }
    return np.array(tuple(row[name] for name in FIELDS.names or ()), dtype=FIELDS)


def rarest_classes(counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the classes with the fewest samples: a tenth of all and at least two, and those with as few as these."""
    number = max(2, math.ceil(_RAREST * len(counts)))
    return np.flatnonzero(counts <= np.sort(counts)[number - 1])


def _geometry(ufm: UFM, W: Array, H: Array) -> dict[str, float]:
    """Measure the classifier and class means (K, d); NaN in a model without classes."""
    names = "nc2_W_centred", "nc2_means", "nc3_duality_centred", "minority_cosine_mean", "minority_cosine_least"
    if ufm.counts is None or len(W) != ufm.K:
        return dict.fromkeys(names, math.nan)
    centred, means = W - W.mean(axis=0), H - ufm.counts @ H / ufm.N
    values = (
        class_geometry.distance_to_etf(centred, centred),
        class_geometry.distance_to_etf(means, means),
        class_geometry.duality(centred, means),
        *_cosines(W[rarest_classes(ufm.counts)]),
    )
    return dict(zip(names, values, strict=True))


def _cosines(rows: Array) -> tuple[float, float]:
    """Return the mean and the least of the cosines between different rows; NaN if a row vanishes."""
    norms = np.linalg.norm(rows, axis=1)
    if not norms.min() > 0:
        return math.nan, math.nan
    unit = rows / norms[:, None]
    cosines = (unit @ unit.T)[~np.eye(len(rows), dtype=bool)]
    return float(cosines.mean()), float(cosines.min())
