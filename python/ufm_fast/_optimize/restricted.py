"""A model with one factor held fixed, as a function of one flat vector with all that Newton's method asks of it.

What is fixed multiplies what is free: with B_i = root_i h_i the scores are Z = B W^T, so the function is

    data(L x, b) + decay/2 |x|^2 + what is fixed,

L linear, x either B, or W and b. Hessian products take two matrix products and the difference of two gradients in the
scores, for any loss: rows do not interact there, so each has its own step. Preconditioners take the second derivatives
of a row's loss to be c_i times the identity and a matrix of rank one along the column of the row's anchor (its label,
say), with the anchor's own entry right; this column and, from one random direction, c_i are measured by differences.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from .._model.canonical import CanonicalProblem
from .._model.point import Point
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram, product
from .work import Work

_DIFFERENCE = 1e-5  # step of a difference in the logits: the curvature of a loss changes by about so much, relatively
_LEAST_DECAY = 1e-10  # of the bias, for the preconditioner, relative to the sum of the rows' weights
_NOISE = 1e-8  # of a column of second derivatives, in its own entry
_SMALLEST = 1e-200  # divisor


class State(NamedTuple):
    """Where the function was evaluated: x, the scores Z, and the gradients in Z and x."""

    x: Array
    Z: Array
    G: Array
    gradient: Array


class Curvature(NamedTuple):
    """Second derivatives of the data term in the scores, row by row.

    They are taken for `others`, (M,), times the identity and the outer square of `column`, (M, K).
    """

    others: Array
    column: Array


class RestrictedFunction(ABC):
    """The function; it falls apart into `groups` of equally many variables, which do not interact.

    `bias` is what is added to all logits, `decays` are those of the variables.

    Parameters
    ----------
    problem : CanonicalProblem
        Convex, of a model that has a feature a row.
    start : Point
        Of that model, in float64.
    work : Work
        Counts evaluations and matrix products.
    """

    groups: int
    bias: Array
    decays: Array | float

    def __init__(self, problem: CanonicalProblem, start: Point, work: Work) -> None:
        self.problem, self.start, self.work = problem, start, work
        self.outputs, self.bias = len(start.W), np.zeros_like(start.b)
        self.anchors = problem.rows.anchors(problem.K) if self.outputs > 1 else np.zeros(problem.M, dtype=np.int64)
        self.probe = np.random.default_rng(0).choice([-1.0, 1.0], (problem.M, self.outputs))
        self.probe[np.arange(problem.M), self.anchors] = 0.0

    @abstractmethod
    def at_start(self) -> Array:
        """Return the start as a flat vector."""

    @abstractmethod
    def scores(self, x: Array) -> Array:
        """Return the scores (M, K) of a flat vector, linear in it."""

    @abstractmethod
    def pulled_back(self, G: Array, x: Array) -> Array:
        """Return the gradient in x of a function of the scores that has the gradient G, and of the decay."""

    @abstractmethod
    def precondition(self, gradient: Array) -> Array:
        """Multiply by the preconditioner of the last `linearize`."""

    @abstractmethod
    def point(self, x: Array) -> tuple[Point, Array]:
        """Return the model's point and its features in isometric coordinates."""

    @abstractmethod
    def gradient_norm(self, gradient: Array) -> float:
        """Return the norm of a gradient in (W, sqrt(ridge_i) h_i, b), of what is free."""

    @abstractmethod
    def _prepare(self, state: State, curvature: Curvature) -> None:
        """Make the preconditioner."""

    def evaluate(self, x: Array) -> State:
        """Return the state at x."""
        Z = self.scores(x)
        _, G, _ = self.problem.data_term(Z, self.bias)
        self.work.evaluations += 1
        self.charge(2)
        return State(x, Z, G, self.pulled_back(G, x))

    def value(self, x: Array) -> float:
        """Return the function at x, without what is fixed."""
        self.charge(1)
        value, _, _ = self.problem.data_term(self.scores(x), self.bias)
        return value + 0.5 * float((self.decays * x) @ x)

    def linearize(self, state: State) -> None:
        """Make the Hessian that of a state."""
        self._state = state
        self._prepare(state, self._curvature())

    def hessian_product(self, v: Array) -> Array:
        """Multiply by the Hessian."""
        move = self.scores(v)
        largest = abs(move).max(axis=1, keepdims=True)
        length = _DIFFERENCE * self.problem.root[:, None] / np.maximum(largest, _SMALLEST)
        self.charge(2)
        return self.pulled_back(self._change(length * move) / length, v)

    def inner(self, x: Array, y: Array) -> Array:
        """Return the inner products of groups of variables, or of scores that belong to them, (groups, 1)."""
        products: Array = np.einsum("ij,ij->i", x.reshape(self.groups, -1), y.reshape(self.groups, -1))
        return products[:, None]

    def slopes(self, direction: Array) -> Slopes:
        """Return the derivatives of the groups' parts of the function along a direction."""
        self.charge(1)
        return Slopes(self, self._state, direction)

    def charge(self, products: int) -> None:
        """Count products of an M x K matrix with a factor."""
        self.work.charge(products * self.problem.M / self.problem.K, self.problem.d)

    def _change(self, move: Array) -> Array:
        """Return the change of the gradient in the scores from the state along a move."""
        _, G, _ = self.problem.data_term(self._state.Z + move, self.bias)
        return G - self._state.G

    def _curvature(self) -> Curvature:
        problem, rows = self.problem, np.arange(self.problem.M)
        length = _DIFFERENCE * problem.root[:, None]
        along = self._change(length * self.probe) / length
        at_anchor = np.zeros_like(self.probe)
        at_anchor[rows, self.anchors] = length[:, 0]
        column = self._change(at_anchor) / length
        own = column[rows, self.anchors]
        column[own <= _NOISE * abs(column).max(axis=1)] = 0.0
        own = np.maximum(own, _SMALLEST)
        of_column = np.einsum("ij,ij->i", column, self.probe) ** 2 / own
        if self.outputs == 1:
            return Curvature(own, np.zeros_like(column))
        others = np.maximum(np.einsum("ij,ij->i", along, self.probe) - of_column, 0.0) / (self.outputs - 1)
        return Curvature(others, column * (np.sqrt(np.maximum(own - others, 0.0)) / own)[:, None])


class Slopes:
    """The derivatives of the groups' parts of a function at x + t direction with respect to t, one t for each group."""

    def __init__(self, function: RestrictedFunction, state: State, direction: Array) -> None:
        self.function, self.state, self.move = function, state, function.scores(direction)
        decaying = function.decays * direction
        self._linear, self._quadratic = function.inner(state.x, decaying), function.inner(direction, decaying)

    def at(self, t: Array) -> Array:
        """Return them at t, (groups, 1)."""
        _, G, _ = self.function.problem.data_term(self.state.Z + t * self.move, self.function.bias)
        return self.function.inner(G, self.move) + self._linear + t * self._quadratic

    def at_zero(self) -> Array:
        """Return them at zero."""
        return self.function.inner(self.state.G, self.move) + self._linear


class OverH(RestrictedFunction):
    """W and b are fixed; x is B in the eigenbasis of W^T W, where a row's preconditioner is diagonal plus rank one."""

    def __init__(self, problem: CanonicalProblem, start: Point, work: Work) -> None:
        super().__init__(problem, start, work)
        self.groups, self.bias, self.decays = problem.M, start.b, problem.ufm.lambda_H
        W = np.ascontiguousarray(start.W)
        squares, self.basis = linalg.eigh(gram(W, self.problem.workers))
        self.squares = np.maximum(squares, 0.0)
        self.factor = product(W, self.basis, self.problem.workers)

    def at_start(self) -> Array:
        return product(self.start.H * self.problem.root[:, None], self.basis, self.problem.workers).ravel()

    def scores(self, x: Array) -> Array:
        return product(self._rows(x), self.factor.T, self.problem.workers)

    def pulled_back(self, G: Array, x: Array) -> Array:
        return product(G, self.factor, self.problem.workers).ravel() + self.decays * x

    def _prepare(self, state: State, curvature: Curvature) -> None:
        self._inverse = 1 / (np.outer(curvature.others, self.squares) + self.decays)
        self._along = product(curvature.column, self.factor, self.problem.workers)
        self._images = self._along * self._inverse
        self._heights = 1 + np.einsum("ij,ij->i", self._along, self._images)

    def precondition(self, gradient: Array) -> Array:
        rows = self._rows(gradient)
        weights = np.einsum("ij,ij->i", rows, self._images) / self._heights
        preconditioned: Array = rows * self._inverse - weights[:, None] * self._images
        return preconditioned.ravel()

    def point(self, x: Array) -> tuple[Point, Array]:
        H = product(self._rows(x), self.basis.T, self.problem.workers) / self.problem.root[:, None]
        return Point(self.start.W, H, self.start.b), H * self.problem.root[:, None]

    def gradient_norm(self, gradient: Array) -> float:
        return float(np.linalg.norm(gradient))

    def _rows(self, x: Array) -> Array:
        rows: Array = x.reshape(self.problem.M, -1)
        return rows


class OverW(RestrictedFunction):
    """H is fixed; x is W with one more column where there is a bias.

    This column is b / kappa, multiplies features kappa, and decays by lambda_b kappa^2. That is lambda_W; but where
    lambda_b is next to nothing, kappa is as if it were more, and only the preconditioner takes the decay for lambda_W.

    The preconditioner has a block for each class: its share of the curvature times a Gram matrix of the features that
    is the same for all, and a matrix of rank one for the rows with the class as their anchor.
    """

    groups = 1

    def __init__(self, problem: CanonicalProblem, start: Point, work: Work) -> None:
        super().__init__(problem, start, work)
        ufm = problem.ufm
        self.B = self.factor = start.H * problem.root[:, None]
        self.ridge, decays = ufm.lambda_W, [ufm.lambda_W] * problem.d
        if problem.bias:
            lambda_b = max(problem.lambda_b, _LEAST_DECAY * float(problem.weights.sum()))
            self.kappa = float(np.sqrt(ufm.lambda_W / lambda_b))
            self.factor = np.hstack([self.B, self.kappa * problem.root[:, None]])
            decays.append(ufm.lambda_W * (problem.lambda_b / lambda_b))
        self.decays = np.tile(decays, self.outputs)
        self.members = csr_array((np.ones(problem.M), (self.anchors, np.arange(problem.M))), (self.outputs, problem.M))

    def at_start(self) -> Array:
        W, _, b = self.start
        return np.hstack([W, b[:, None] / self.kappa]).ravel() if self.problem.bias else W.ravel()

    def scores(self, x: Array) -> Array:
        return product(self.factor, self._classes(x).T, self.problem.workers)

    def pulled_back(self, G: Array, x: Array) -> Array:
        return product(np.ascontiguousarray(G.T), self.factor, self.problem.workers).ravel() + self.decays * x

    def precondition(self, gradient: Array) -> Array:
        rows = product(self._classes(gradient), self._basis, self.problem.workers)
        weights = np.einsum("ij,ij->i", rows, self._images) / self._heights
        rows = rows * self._inverse - weights[:, None] * self._images
        return product(rows, self._basis.T, self.problem.workers).ravel()

    def point(self, x: Array) -> tuple[Point, Array]:
        W, b = self._split(x)
        b = b * self.kappa if self.problem.bias else b
        b = self.problem.loss.centred(b) if self.problem.bias_is_free else b
        return Point(np.ascontiguousarray(W), self.start.H, b), self.B

    def gradient_norm(self, gradient: Array) -> float:
        of_W, of_b = self._split(gradient)
        return float(np.hypot(np.linalg.norm(of_W), np.linalg.norm(of_b) / self.kappa if self.problem.bias else 0.0))

    def _prepare(self, state: State, curvature: Curvature) -> None:
        problem = self.problem
        of_bias = np.maximum(problem.curvature(state.G).bias, 0.0)
        own = curvature.column[np.arange(problem.M), self.anchors] ** 2
        counted = problem.root**2
        others = np.maximum(of_bias - self.members @ (counted * own), 0.0)
        total = float(counted @ curvature.others)
        shares = others / total if total > _SMALLEST else np.zeros_like(others)
        squares, self._basis = linalg.eigh(gram(np.sqrt(curvature.others)[:, None] * self.factor, problem.workers))
        self._inverse = 1 / (np.outer(shares, np.maximum(squares, 0.0)) + self.ridge)
        sums = np.sqrt(np.maximum(self.members @ own, _SMALLEST))
        means = (self.members @ (own[:, None] * self.factor)) / sums[:, None]
        self._along = product(means, self._basis, problem.workers)
        self._images = self._along * self._inverse
        self._heights = 1 + np.einsum("ij,ij->i", self._along, self._images)

    def _classes(self, x: Array) -> Array:
        rows: Array = x.reshape(self.outputs, -1)
        return rows

    def _split(self, x: Array) -> tuple[Array, Array]:
        """Return the columns of W, and the one of the bias, zeros without one."""
        rows, d = self._classes(x), self.problem.d
        return rows[:, :d], rows[:, d] if self.problem.bias else np.zeros(len(rows))
