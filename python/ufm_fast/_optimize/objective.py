"""The collapsed problem in canonical coordinates as a smooth function of one flat vector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .._certify.dual import Dual
from .._model.canonical import ClassProblem
from .._runtime.blas import product
from .run import Run

Array = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """A point, its loss and what is reused there. A and B are views of x, as is b where it is a variable."""

    x: Array
    A: Array
    B: Array
    b: Array
    Z: Array
    loss: float
    G: Array
    gradient: Array


class Objective:
    """F(A, B, b) with A and B of shape (K, columns), and its gradient, as a function of one flat vector.

    A bias with little decay beside the curvature that the loss gives it (at most about 1/K) makes a narrow valley with
    the common part of the features, so it is not a variable but eliminated exactly in each evaluation. So it is for
    squared error, where that costs nothing.
    """

    def __init__(self, q: ClassProblem, columns: int, run: Run) -> None:
        self.q, self.columns, self.run = q, columns, run
        self.bias_is_free = q.bias and q.lambda_b * q.K >= 1 and q.loss.name == "cross_entropy"

    def split(self, x: Array) -> tuple[Array, Array, Array | None]:
        """A, B and b as views of x (b None where it is not a variable)."""
        K, half = self.q.K, self.q.K * self.columns
        A, B = x[:half].reshape(K, self.columns), x[half : 2 * half].reshape(K, self.columns)
        return A, B, x[2 * half :] if self.bias_is_free else None

    def join(self, A: Array, B: Array, b: Array) -> Array:
        return np.concatenate([A.ravel(), B.ravel(), b] if self.bias_is_free else [A.ravel(), B.ravel()])

    def evaluate(self, x: Array, b: Array) -> State:
        """Loss and gradient: three products. b is the first guess where the bias is eliminated, else it is in x."""
        q = self.q
        A, B, free = self.split(x)
        Z = product(B, A.T, q.workers)
        b = q.best_bias(Z, b) if free is None else free
        loss, G, gradient = q.evaluate(A, B, b, Z)
        self.run.evaluations += 1
        self.run.charge(3, self.columns)
        return State(x, A, B, b, Z, loss, G, gradient[: x.size])

    def at(self, A: Array, B: Array, b: Array) -> State:
        return self.evaluate(self.join(A, B, b), b)

    def polished(self, state: State, dual: Dual) -> State:
        """The state with the bias and, if its decay is small, what of the features acts as one, at their best.

        The gradient is not updated.
        """
        if not self.q.bias:
            return state
        q, B, Z = self.q, state.B, state.Z
        if q.lambda_b < q.tau:
            B, b = dual.polish(state.A, B, state.b)
            Z = product(B, state.A.T, q.workers)
            self.run.charge(2, self.columns)
        else:
            b = q.best_bias(Z, state.b)
        value, G, _ = q.data_term(Z, b)
        return replace(state, B=B, b=b, Z=Z, G=G, loss=value + q.penalty(state.A, B, b))

    def gradient_norm(self, state: State) -> float:
        """Norm of the gradient in the plain, full-sample isometric coordinates (W, sqrt(n_k) h_k, b)."""
        gA, gB, gb = self.split(state.gradient)
        square = self.q.square(gA) / self.q.rho**2 + self.q.square(gB) * self.q.rho**2
        return float(np.sqrt(square + (0.0 if gb is None else gb @ gb)))
