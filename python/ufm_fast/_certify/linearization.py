"""A point in canonical coordinates, with what certificate and classification both need there."""

from __future__ import annotations

from typing import NamedTuple

from .._model.canonical import CanonicalProblem
from .._model.model import UFM
from .._model.narrowed import narrowed
from .._model.point import Point
from .._numerics.gram_spectra import leading_singular_pair
from .._runtime.arrays import Array
from .._runtime.blas import product


class Linearization(NamedTuple):
    """A (K, d), B (M, d) and b, the loss with a bound on its rounding error, and the gradient matrix G (M, K).

    `norm` is |G|_2 and `right` its right singular vector. Loss and rounding are those of the point that was given;
    where that has a row a sample, all else belongs to its class means.
    """

    problem: CanonicalProblem
    A: Array
    B: Array
    b: Array
    loss: float
    rounding: float
    G: Array
    norm: float
    right: Array


def linearized(ufm: UFM, p: Point) -> Linearization:
    """Evaluate a model in float64 at a point of it."""
    narrow, q, axes = narrowed(ufm, p)
    problem = CanonicalProblem(narrow)
    A, B, b = problem.coordinates(q)
    if axes is None:
        loss = ufm.loss(p)
        rounding = rounding_at(problem, p, A, B, b, loss)
    else:
        loss, rounding = loss_at(ufm, p)
    _, G, _ = problem.data_term(product(B, A.T, problem.workers), b)
    norm, right = leading_singular_pair(G, problem.workers)
    return Linearization(problem, A, B, b, loss, rounding, G, norm, right)


def loss_at(ufm: UFM, p: Point) -> tuple[float, float]:
    """Return the loss of p and a bound on its rounding error."""
    problem, loss = CanonicalProblem(ufm), ufm.loss(p)
    A, B, b = problem.coordinates(p)
    return loss, rounding_at(problem, p, A, B, b, loss)


def rounding_at(problem: CanonicalProblem, p: Point, A: Array, B: Array, b: Array, loss: float) -> float:
    """Bound the rounding error of the loss of p, which has the canonical coordinates A, B, b."""
    if problem.ufm.collapse_classes:
        return problem.rounding(A, B, b, loss)
    return problem.rounding(A, p.H * problem.ufm.rho, b, loss, root=1.0)
