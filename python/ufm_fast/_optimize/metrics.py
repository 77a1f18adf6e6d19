"""Metrics for L-BFGS: pairs of classes for class-aligned square factors, Kronecker for any factors."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np

from .._runtime import core
from .._runtime.arrays import Array
from .._runtime.blas import gram, product
from .._runtime.threads import concurrently
from .objective import Objective, State

RENEWAL = 20  # iterations
_MOST_DAMPING = 1e100  # its square must not overflow


class Metric(Protocol):
    """An approximate inverse Hessian. `scaled`: whether the last pair of L-BFGS sets its scale."""

    name: str
    scaled: bool

    def update(self, state: State) -> None: ...

    def apply(self, gradient: Array) -> Array: ...

    def adapt(self, unit_step_rejected: bool) -> None: ...

    def saved(self) -> dict[str, Any]: ...

    def restore(self, saved: dict[str, Any]) -> None: ...


class PairMetric:
    """Inverts, elementwise, the 4 x 4 Hessian block of (A_jk, B_jk, A_kj, B_kj) for every pair of classes.

    In the class-aligned gauge (column k of A and B belongs to class k) A and B are nearly diagonal, and the Hessian of
    F is nearly block diagonal over pairs of classes. The block is tau [[m, c_j], [c_j, m]] + tau [[m, c_k], [c_k, m]]
    plus one rank-one term for each of Z_jk and Z_kj, inverted by the Woodbury identity. m = 1 + damping, where the
    damping grows after rejected unit steps (Levenberg-Marquardt). Columns beyond the K-th, if any, must be zero.
    """

    name, scaled = "pair", False

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.damping = 0.0

    def saved(self) -> dict[str, Any]:
        """Return what goes from one iteration to the next."""
        return {"damping": self.damping}

    def restore(self, saved: dict[str, Any]) -> None:
        self.damping = float(saved["damping"])

    def update(self, state: State) -> None:
        problem = self.objective.problem
        self.G, self.x, curvature = state.G, state.x, problem.curvature(state.G)
        self.least_curvature = 1e-8 * curvature.largest
        c, m = np.clip(np.diag(state.G) / problem.tau, -0.5, 0.0), 1 + self.damping
        determinant = problem.tau * (m * m - c * c)
        self.e, self.o = m / determinant, -c / determinant
        self.bias = curvature.bias + problem.lambda_b

    def adapt(self, unit_step_rejected: bool) -> None:
        self.damping = min(max(4 * self.damping, 1.0), _MOST_DAMPING) if unit_step_rejected else 0.9 * self.damping

    def apply(self, gradient: Array) -> Array:
        objective, problem = self.objective, self.objective.problem
        out = core.pair_metric(
            problem.core,
            self.G,
            self.x,
            self.e,
            self.o,
            self.least_curvature,
            gradient,
            objective.columns,
            problem.workers,
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

    name, scaled = "kronecker", True

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.age = 0

    def saved(self) -> dict[str, Any]:
        """Return what goes from one iteration to the next."""
        if self.age == 0:
            return {"age": 0}
        return {"age": self.age, "for_A": self.for_A, "for_B": self.for_B, "bias": self.bias}

    def restore(self, saved: dict[str, Any]) -> None:
        self.age = int(saved["age"])
        if self.age > 0:
            self.for_A, self.for_B, self.bias = saved["for_A"], saved["for_B"], saved["bias"]

    def update(self, state: State) -> None:
        if self.age % RENEWAL == 0:
            self._renew(state)
        self.age += 1

    def _renew(self, state: State) -> None:
        objective, problem = self.objective, self.objective.problem
        curvature = problem.curvature(state.G)
        w, ridge = curvature.total / (problem.K * problem.M), problem.tau * np.eye(objective.columns)
        grams = [w * gram(X, problem.workers) + ridge for X in (state.B, state.A)]
        self.for_A, self.for_B = concurrently([partial(np.linalg.inv, M) for M in grams], min(2, problem.workers))
        self.bias = curvature.bias + problem.lambda_b
        ratio = objective.columns / problem.K
        objective.work.charge(2 * ratio + 2 * ratio**2, objective.columns)

    def adapt(self, unit_step_rejected: bool) -> None:
        pass

    def apply(self, gradient: Array) -> Array:
        objective = self.objective
        out = np.empty_like(gradient)
        gA, gB, gb = objective.split(gradient)
        outA, outB, outb = objective.split(out)
        product(gA, self.for_A, objective.problem.workers, out=outA)
        product(gB, self.for_B, objective.problem.workers, out=outB)
        if outb is not None and gb is not None:
            outb[:] = gb / self.bias
        objective.work.charge(2 * objective.columns / objective.problem.K, objective.columns)
        return out


METRICS: dict[str, type[PairMetric] | type[KroneckerMetric]] = {
    metric.name: metric for metric in (PairMetric, KroneckerMetric)
}
