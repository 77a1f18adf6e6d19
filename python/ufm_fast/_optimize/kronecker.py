"""The metric of the factors that takes the curvature of the data term for the product of its row and column sums."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from .._model.canonical import CanonicalProblem
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram, product
from .._runtime.threads import concurrently


@dataclass(frozen=True, eq=False)
class KroneckerSides:
    """What inverts (columns_k B^T R B + tau I) for row k of A and (rows_i A^T C A + tau I) for row i of B.

    R and C are the diagonal matrices of `rows` and `columns`, with rows_i columns_k for the second derivative of the
    data term in Z_ik; the matrices of either side are diagonal, with `values`, in the axes that `turn` has as columns.
    `bias` are the data term's second derivatives in the entries of b.
    """

    rows: Array
    columns: Array
    values_A: Array
    turn_A: Array
    values_B: Array
    turn_B: Array
    bias: Array

    @classmethod
    def at(cls, problem: CanonicalProblem, A: Array, B: Array, G: Array) -> KroneckerSides:
        """Summarise the curvature at factors and their gradient matrix: two products, two eigendecompositions."""
        sums = problem.curvature(G)
        rows, columns = np.maximum(sums.rows, 0), np.maximum(sums.columns, 0)
        columns = columns / max(rows.sum(), np.finfo(float).tiny)
        grams = [gram(np.sqrt(scale)[:, None] * X, problem.workers) for scale, X in ((rows, B), (columns, A))]
        (values_A, turn_A), (values_B, turn_B) = concurrently(
            [partial(linalg.eigh, X) for X in grams], min(2, problem.workers)
        )
        return cls(rows, columns, np.maximum(values_A, 0), turn_A, np.maximum(values_B, 0), turn_B, sums.bias)

    def saved(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return asdict(self)

    def apply(self, problem: CanonicalProblem, gA: Array, gB: Array, outA: Array, outB: Array) -> None:
        """Apply the inverse to gradients of both factors: two products each."""
        for scale, values, turn, g, out in (
            (self.columns, self.values_A, self.turn_A, gA, outA),
            (self.rows, self.values_B, self.turn_B, gB, outB),
        ):
            turned = product(g, turn, problem.workers)
            turned /= np.multiply.outer(scale, values) + problem.tau
            product(turned, turn.T, problem.workers, out=out)
