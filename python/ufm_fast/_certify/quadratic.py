"""The dual problem of squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._runtime.arrays import Array
from .dual import TINY, Dual

if TYPE_CHECKING:
    from .._model.canonical import CanonicalProblem


class QuadraticDual(Dual):
    """-data*(Y) = -sum_i [ root_i <Y_i, T_i> + root_i^2 |Y_i|^2 / (2 weight_i) ] for real targets T.

    A sum of K terms is known to K/8 + 20 u of the sum of their sizes at worst, so (32 + max(M, K)/4) u times the sum of
    all sizes is subtracted. Where e = 0 is a constraint, subtracting root e^T / |root|^2 restores it and raises no
    norm; what that does to D is at most |e| times the slope of D along root, plus a square.
    """

    def __init__(self, problem: CanonicalProblem) -> None:
        super().__init__(problem)
        self.targets = problem.root[:, None] * problem.targets
        self.stiffness = (problem.root**2 / problem.weights)[:, None]

    def value(self, Y: Array) -> float:
        """Return D(Y) less the rounding allowances of the class's docstring."""
        problem = self.problem
        linear, square = Y * self.targets, self.stiffness * Y * Y
        value = -float(linear.sum()) - float(square.sum()) / 2
        value -= self.rounding * (float(abs(linear).sum()) + float(square.sum()) / 2)
        if problem.bias:
            imbalance = abs(problem.root @ Y) + self.rounding * (problem.root @ abs(Y))
            if self.balances:
                slope = problem.root @ (abs(self.targets) + self.stiffness * abs(Y)) / problem.samples
                stiffest = float(self.stiffness.max()) / problem.samples
                value -= float(imbalance @ (slope + stiffest * imbalance))
            else:
                value -= float(imbalance @ imbalance) / (2 * problem.lambda_b)
        return value - self.norm_rounding * max(value, 0)

    def feasible(self, G: Array) -> Array:
        """Return the nearest matrix with e = 0 where that is a constraint, else G itself."""
        return self._balanced(G) if self.balances else G

    def centred(self, Y: Array) -> Array:
        """Project onto e = 0 where that is a constraint."""
        return self._balanced(Y) if self.balances else Y

    def scaled(self, F: Array, norm: float) -> Array:
        """Return F times the best factor that keeps it in the ball."""
        problem = self.problem
        limit = problem.tau / max(norm, TINY)
        square = float((self.stiffness * F * F).sum())
        if problem.bias and not self.balances:
            square += float(((problem.root @ F) ** 2).sum()) / problem.lambda_b
        factor = -float((F * self.targets).sum()) / max(square, TINY)
        return F * min(limit, max(-limit, factor))

    def _balanced(self, Y: Array) -> Array:
        root = self.problem.root
        return Y - np.outer(root / self.problem.samples, root @ Y)
