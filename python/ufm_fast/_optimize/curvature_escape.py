"""The way down from a saddle at which W and H leave no direction of the feature space empty."""

from __future__ import annotations

import numpy as np

from .._curvature.eigenpairs import lowest_eigenpairs
from .._model.canonical import CanonicalProblem
from .._model.facts import curvature_unit
from .._model.model import in_double
from .._runtime.warnings import held_convergence_warnings
from .objective import Objective, State

_NEGATIVE = 1e-6  # in units of 2 lambda_W lambda_H / (lambda_W + lambda_H)
_PRODUCTS = 1000
_HALVINGS = 40


def escape_by_curvature(objective: Objective, state: State) -> State | None:
    """The state after a step along a direction of negative curvature, either way; None where none was found.

    For widths at which the theory leaves strict saddles of full rank and local minima. The direction is the lowest
    eigenvector of the Hessian, or what the eigen-solver has on the way to it: any negative Ritz value will do.
    """
    problem, work = objective.problem, objective.work
    ufm = in_double(problem.ufm, collapse=True, d=objective.columns)
    means = CanonicalProblem(ufm)
    p = means.point(state.A, state.B, state.b)
    with held_convergence_warnings():
        found = lowest_eigenpairs(ufm, p, tol=1e-5, deflate=True, max_products=_PRODUCTS)
    work.charge(6 * found.products, objective.columns)
    curvature, v = float(found.eigenvalues[0]), found.vectors[0]
    if curvature >= -_NEGATIVE * curvature_unit(ufm):
        return None
    VA, VB, vb = means.coordinates(v)
    best = None
    for sign in (1.0, -1.0):
        step = sign * max(1.0, float(np.sqrt(np.sum(state.A**2) + np.sum(state.B**2))))
        for _ in range(_HALVINGS):
            if work.exhausted:
                break
            new = objective.at(state.A + step * VA, state.B + step * VB, state.b + step * vb)
            if new.loss <= state.loss + 0.25 * curvature * step**2:
                best = new if best is None or new.loss < best.loss else best
                break
            step /= 2
    if best is not None:
        work.escapes += 1
    return best
