"""The canonical problem as a smooth function of one flat vector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .._model.canonical import CanonicalProblem
from .._model.packing import Layout
from .._runtime.arrays import Array
from .._runtime.blas import product
from .work import Work

_BIAS_TOLERANCE = 1e-6  # of the bias's gradient, relative to tau; the loss feels the square of it


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
    """F(A, B, b) with A (K, columns) and B (M, columns), and its gradient, as a function of one flat vector.

    A bias with little decay beside the curvature that the loss gives it (at most about 1/K) makes a narrow valley with
    the common part of the features, so it is not a variable but eliminated exactly in each evaluation. So it is where a
    formula gives the best bias.
    """

    def __init__(self, problem: CanonicalProblem, columns: int, work: Work) -> None:
        self.problem, self.columns, self.work = problem, columns, work
        sought = problem.lambda_b * problem.K < 1 and problem.loss.gradient_tells_state
        variable = problem.bias and not (sought or problem.loss.has_best_bias)
        self.layout = Layout(problem.K, problem.M, columns, variable, problem.biases)

    def split(self, x: Array) -> tuple[Array, Array, Array | None]:
        """Return A, B and b as views of x (b None where it is not a variable)."""
        A, B, b = self.layout.unpack(x)
        return A, B, b if self.layout.bias else None

    def evaluate(self, x: Array, b: Array) -> State:
        """Loss and gradient: three products. b is the first guess where the bias is eliminated, else it is in x."""
        problem = self.problem
        A, B, variable = self.split(x)
        Z = product(B, A.T, problem.workers)
        b = problem.best_bias(Z, b, _BIAS_TOLERANCE * problem.tau) if variable is None else variable
        loss, G, gradient = problem.evaluate(A, B, b, Z)
        self.work.evaluations += 1
        self.work.charge(3, self.columns, problem.K)
        return State(x, A, B, b, Z, loss, G, gradient[: x.size])

    def at(self, A: Array, B: Array, b: Array) -> State:
        """Evaluate at factors and a bias (a first guess where that is eliminated)."""
        return self.evaluate(self.layout.pack(A, B, b), b)

    def polished(self, state: State) -> State:
        """Return the state with the bias and, if its decay is small, what of the features acts as one, at their best.

        The gradient is not updated.
        """
        problem, B, Z = self.problem, state.B, state.Z
        if not problem.bias:
            return state
        if problem.lambda_b < problem.tau:
            B, b = problem.polish(state.A, B, state.b)
            Z = product(B, state.A.T, problem.workers)
            self.work.charge(2, self.columns, problem.K)
        else:
            b = problem.best_bias(Z, state.b)
        value, G, _ = problem.data_term(Z, b)
        return replace(state, B=B, b=b, Z=Z, G=G, loss=value + problem.penalty(state.A, B, b))

    def gradient_norm(self, state: State) -> float:
        """Norm of the gradient in the plain, full-sample isometric coordinates (W, sqrt(ridge_i) h_i, b)."""
        problem, rho = self.problem, self.problem.ufm.rho
        gA, gB, gb = self.split(state.gradient)
        square = problem.square(gA) / rho**2 + problem.square(gB) * rho**2
        return float(np.sqrt(square + (0.0 if gb is None else gb @ gb)))
