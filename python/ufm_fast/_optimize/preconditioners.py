"""Metrics for L-BFGS: pairs of classes for class-aligned square factors, Kronecker for any factors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .._runtime import core
from .._runtime.blas import gram, product
from .._runtime.threads import concurrently
from .objective import Array, Objective, State

RENEWAL = 20  # iterations
_MOST_DAMPING = 1e100  # its square must not overflow


class PairMetric:
    """Inverts, elementwise, the 4 x 4 Hessian block of (A_jk, B_jk, A_kj, B_kj) for every pair of classes.

    In the class-aligned gauge (column k of A and B belongs to class k) A and B are nearly diagonal, and the Hessian of
    F is nearly block diagonal over pairs of classes. The block is tau [[m, c_j], [c_j, m]] + tau [[m, c_k], [c_k, m]]
    plus one rank-one term for each of Z_jk and Z_kj, inverted by the Woodbury identity. m = 1 + damping, where the
    damping grows after rejected unit steps (Levenberg-Marquardt). Columns beyond the K-th, if any, must be zero.
    """

    scaled = False

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.damping = 0.0

    def carried(self) -> dict[str, Any]:
        """What goes from one iteration to the next."""
        return {"damping": self.damping}

    def restore(self, carried: dict[str, Any]) -> None:
        self.damping = float(carried["damping"])

    def update(self, state: State) -> None:
        q = self.objective.q
        self.G, self.x, curvature = state.G, state.x, q.curvature(state.G)
        self.least_curvature = 1e-8 * curvature.largest
        c, m = np.clip(np.diag(state.G) / q.tau, -0.5, 0.0), 1 + self.damping
        determinant = q.tau * (m * m - c * c)
        self.e, self.o = m / determinant, -c / determinant
        self.bias = curvature.bias + q.lambda_b

    def adapt(self, unit_step_rejected: bool) -> None:
        self.damping = min(max(4 * self.damping, 1.0), _MOST_DAMPING) if unit_step_rejected else 0.9 * self.damping

    def apply(self, gradient: Array) -> Array:
        objective, q = self.objective, self.objective.q
        out = core.pair_metric(
            q.core,
            self.G,
            self.x,
            self.e,
            self.o,
            self.least_curvature,
            gradient,
            objective.columns,
            q.workers,
        )
        gb, outb = objective.split(gradient)[2], objective.split(out)[2]
        if gb is not None and outb is not None:
            outb[:] = gb / self.bias
        return out


class KroneckerMetric:
    """Inverts (w B^T B + tau I) x I for A and (w A^T A + tau I) x I for B, w the mean curvature of the data term in Z.

    Invariant under rotations of the feature space and good at any point (scaled gradient descent, Tong, Ma and Chi,
    arXiv:2005.08898, with the ridge added). Renewed every RENEWAL iterations: left alone meanwhile, it is cheaper, and
    L-BFGS corrects it better.
    """

    scaled = True

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.age = 0

    def carried(self) -> dict[str, Any]:
        """What goes from one iteration to the next."""
        if self.age == 0:
            return {"age": 0}
        return {"age": self.age, "for_A": self.for_A, "for_B": self.for_B, "bias": self.bias}

    def restore(self, carried: dict[str, Any]) -> None:
        self.age = int(carried["age"])
        if self.age > 0:
            self.for_A, self.for_B, self.bias = carried["for_A"], carried["for_B"], carried["bias"]

    def update(self, state: State) -> None:
        if self.age % RENEWAL == 0:
            self._renew(state)
        self.age += 1

    def _renew(self, state: State) -> None:
        objective, q = self.objective, self.objective.q
        curvature = q.curvature(state.G)
        w, ridge = curvature.total / q.K**2, q.tau * np.eye(objective.columns)
        grams = [w * gram(X, q.workers) + ridge for X in (state.B, state.A)]
        self.for_A, self.for_B = concurrently([partial(np.linalg.inv, M) for M in grams], min(2, q.workers))
        self.bias = curvature.bias + q.lambda_b
        ratio = objective.columns / q.K
        objective.run.charge(2 * ratio + 2 * ratio**2, objective.columns)

    def adapt(self, unit_step_rejected: bool) -> None:
        pass

    def apply(self, gradient: Array) -> Array:
        objective = self.objective
        out = np.empty_like(gradient)
        gA, gB, gb = objective.split(gradient)
        outA, outB, outb = objective.split(out)
        product(gA, self.for_A, objective.q.workers, out=outA)
        product(gB, self.for_B, objective.q.workers, out=outB)
        if outb is not None and gb is not None:
            outb[:] = gb / self.bias
        objective.run.charge(2 * objective.columns / objective.q.K, objective.columns)
        return out
