"""One run of a census: a start, a descent, and what the points are that it met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._curvature.critical import classify
from .._model.model import UFM
from .._model.point import Point
from .._optimize.minimize import minimize
from .._runtime import linalg
from .._runtime.blas import single_threaded_blas
from .._runtime.warnings import held_convergence_warnings
from .saddles import saddle

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

_SCALES = -6.0, 1.0  # decimal exponents of the random starts' scales
_PERTURBATIONS = -12.0, -1.0


class Task(NamedTuple):
    """A run to be done, by whatever process: the model, which of all it is, and the settings of the census."""

    ufm: UFM
    model: int
    run: int
    settings: dict[str, Any]


def _start(ufm: UFM, run: int, generator: np.random.Generator) -> tuple[str, float, Point]:
    """Return the kind of start, its scale and the point."""
    if run == 0:
        return "zero", 0.0, ufm.unpack(np.zeros(ufm.size))
    kind = ("random", "saddle", "near")[run % 3]
    if kind == "random":
        scale = 10 ** generator.uniform(*_SCALES)
        return kind, scale, ufm.random_point(generator, scale)
    p = _random_saddle(ufm, generator)
    if kind == "saddle":
        return kind, 0.0, p
    scale = 10 ** generator.uniform(*_PERTURBATIONS)
    noise = ufm.random_point(generator, scale)
    return kind, scale, Point(*(part + change for part, change in zip(p, noise, strict=True)))


def _random_saddle(ufm: UFM, generator: np.random.Generator) -> Point:
    """Return a saddle of random rank; where there is none of the rank drawn, of a lower one; zero if there are none."""
    rank = min(ufm.d, ufm.K)
    while rank > 0:
        rank = int(generator.integers(rank))
        try:
            return saddle(ufm, rank, int(generator.integers(2**32)))
        except (ValueError, ArithmeticError):
            continue
    return ufm.unpack(np.zeros(ufm.size))


@single_threaded_blas()
def explore(task: Task) -> dict[str, Any]:
    """Do one run and return its record."""
    ufm, model, run, settings = task
    met: list[Point] = []
    before: tuple[Point | None, int] = None, 0

    def watch(intermediate_result: OptimizeResult) -> None:
        nonlocal before
        point, escapes = before
        if intermediate_result.escapes > escapes:
            assert point is not None
            met.append(point)
        before = intermediate_result.point, intermediate_result.escapes

    tol = settings["tol"]
    with held_convergence_warnings():
        start, scale, x0 = _start(ufm, run, np.random.default_rng((settings["seed"], run)))
        result = minimize(ufm, x0, tol=tol, max_evaluations=settings["max_evaluations"], callback=watch)
        points = [_row(ufm, p, tol) | {"end": False} for p in met]
        end = _row(ufm, result.point, tol) | {"end": True, "relative_gap": result.certificate.relative_gap}
    if result.success:
        end["kind"] = "global_minimum"
    return {
        "model": model, "run": run, "start": start, "scale": scale, "evaluations": int(result.nfev),
        "points": [*points, end],
    }  # fmt: skip


def _row(ufm: UFM, p: Point, tol: float) -> dict[str, Any]:
    found = classify(ufm, p, certificate_tol=tol)
    certificate, eigenvalue = found.certificate, found.lowest_eigenvalue
    return {
        "kind": found.kind,
        "rank": rank_at_tolerance(ufm, p, certificate.loss, tol),
        "loss": certificate.loss,
        "relative_gap": certificate.relative_gap,
        "relative_gradient_norm": found.relative_gradient_norm,
        "lowest_eigenvalue": None if np.isnan(eigenvalue) else eigenvalue,
        "norm_excess": certificate.spectral_norm / certificate.threshold - 1,
    }


def rank_at_tolerance(ufm: UFM, p: Point, loss: float, tol: float) -> int:
    """Count the singular values s of W that matter to the loss at a tolerance: ``lambda_W s^2 > tol |loss|``."""
    return int(np.sum(ufm.lambda_W * linalg.svd(p.W, compute_uv=False) ** 2 > tol * abs(loss)))
