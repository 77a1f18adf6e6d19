"""Metrics for L-BFGS: pairs of classes for class-aligned square factors, Kronecker for any factors."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .._runtime import core
from .._runtime.arrays import Array
from .kronecker import KroneckerSides
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
    """Inverts (column_k B^T R B + tau I) for row k of A and (row_i A^T C A + tau I) for row i of B.

    The diagonal second derivatives of the data term in Z, (M, K), are taken for the product of a number of the row and
    one of the column; R and C are the diagonal matrices of these. Invariant under rotations of the feature space and
    good at any point (scaled gradient descent, Tong, Ma and Chi, arXiv:2005.08898, with the ridge and with weights
    added). Renewed every RENEWAL iterations: left alone meanwhile, it is cheaper, and L-BFGS corrects it better.
    """

    name, scaled = "kronecker", True

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.age = 0

    def saved(self) -> dict[str, Any]:
        """Return what goes from one iteration to the next."""
        return {"age": self.age, **(self.sides.saved() if self.age > 0 else {})}

    def restore(self, saved: dict[str, Any]) -> None:
        self.age = int(saved["age"])
        if self.age > 0:
            self.sides = KroneckerSides(**{name: saved[name] for name in KroneckerSides.__dataclass_fields__})

    def update(self, state: State) -> None:
        if self.age % RENEWAL == 0:
            objective = self.objective
            self.sides = KroneckerSides.at(objective.problem, state.A, state.B, state.G)
            objective.work.charge(2 + 16 * objective.columns / objective.problem.K, objective.columns)
        self.age += 1

    def adapt(self, unit_step_rejected: bool) -> None:
        pass

    def apply(self, gradient: Array) -> Array:
        objective = self.objective
        out = np.empty_like(gradient)
        gA, gB, gb = objective.split(gradient)
        outA, outB, outb = objective.split(out)
        self.sides.apply(objective.problem, gA, gB, outA, outB)
        if outb is not None and gb is not None:
            outb[:] = gb / (self.sides.bias + objective.problem.lambda_b)
        objective.work.charge(4 * objective.columns / objective.problem.K, objective.columns)
        return out


METRICS: dict[str, type[PairMetric] | type[KroneckerMetric]] = {
    metric.name: metric for metric in (PairMetric, KroneckerMetric)
}
