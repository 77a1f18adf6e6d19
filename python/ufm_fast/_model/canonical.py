"""The canonical problem of a model: rows in isometric coordinates, where certificate, classification and solver live.

With ``rho = (lambda_H / lambda_W)^(1/4)``, ``A = W / rho`` and ``B_i = rho sqrt(ridge_i) h_i``, a model's loss is

    F(A, B, b) = sum_i weight_i loss(Z_i / sqrt(ridge_i) + b; target_i) + tau/2 (|A|^2 + |B|^2) + lambda_b/2 |b|^2,

Z = B A^T, with one decay tau for both factors. Values, critical points and the signs of Hessian eigenvalues are those
of the original problem. In a model with a row a sample, the rows here are the means of classes: at critical points the
features of a class coincide.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._runtime import core, linalg
from .._runtime.arrays import Array
from .._runtime.blas import fitting_threads, gram, product
from .model import UFM, rows_of_classes
from .point import Point, checked_point

_NEWTON_STEPS = 60
_LARGEST_STEP = 4.0
_ROUNDING = 1e-14  # of a data term, relative
_UNIT = float(np.finfo(float).eps)
_LONGEST_SUM = 1024
_LARGEST_SQUARE = 1e306
_SINGULAR = 1e-14
_FAR_BELOW = 50.0


class Curvature(NamedTuple):
    """Sums of diagonal second derivatives of the data term: with respect to b, (K,), and, all the others, to Z, (M, K).

    `rows` (M,) and `columns` (K,) are the sums of the rows and columns of the latter.
    """

    total: float
    at_labels: float
    largest: float
    bias: Array
    rows: Array
    columns: Array


class CanonicalProblem:
    """The canonical problem of a UFM, in float64.

    Attributes
    ----------
    ufm : UFM
    rows : Rows
        What B, Z, G and the targets have their rows from.
    K, M, d, biases : int
        Logits, rows, features, and the length of b.
    weights, root : ndarray, shape (M,)
        Of the rows in the loss, and the square roots of those in the ridge.
    samples : float
        Sum of the ridges: the number of samples, where each has the ridge 1.
    tau, lambda_b : float
    bias : bool
    loss : Loss
    core
        The compiled problem.
    """

    def __init__(self, ufm: UFM) -> None:
        self.ufm = ufm
        self.rows = rows = rows_of_classes(ufm)
        self.K, self.M, self.d, self.biases = ufm.layout.K, rows.M, ufm.d, ufm.layout.biases
        self.samples = float(rows.ridges.sum())
        self.weights, self.root = rows.weights, np.sqrt(rows.ridges)
        self.tau, self.lambda_b, self.bias = ufm.tau, ufm.lambda_b, ufm.bias
        self.loss = ufm.loss_function
        self.core = rows.compiled(
            self.loss,
            ufm.K,
            self.d,
            scales=1 / self.root,
            ridges=np.full(self.M, self.tau),
            lambda_W=self.tau,
            lambda_b=self.lambda_b,
            bias=self.bias,
        )

    @property
    def workers(self) -> int:
        """Threads for passes over M x K numbers."""
        return fitting_threads(max(self.K, self.M), self.ufm.threads)

    @cached_property
    def has_classes(self) -> bool:
        """Whether row k is class k."""
        return self.rows.are_classes(self.ufm.K)

    @property
    def targets(self) -> Array:
        """Targets as the loss takes them, (M, K); or (M, levels)."""
        return self.loss.prepared(self.rows.target_matrix(self.ufm.K))

    @cached_property
    def anchor_targets(self) -> Array:
        """The targets at the anchors of the rows, as the loss takes them, (M,)."""
        if self.rows.labels is not None:
            return np.repeat(self.loss.prepared(np.eye(1, self.ufm.K))[0, 0], self.M)
        taken: Array = self.targets[np.arange(self.M), self.rows.anchors(self.ufm.K)]
        return taken

    @property
    def sum_rounding(self) -> float:
        """Relative error allowed for in a term and in sums of K or M terms: see the classes of `_certify`."""
        return (32 + max(self.K, self.M) / 4) * _UNIT

    @cached_property
    def largest_ratio(self) -> float:
        """Largest weight / ridge of a row: a curvature of the loss times this bounds that of the data term in Z."""
        return float((self.weights / self.root**2).max())

    @cached_property
    def class_weights(self) -> Array:
        """What the targets give each class in total, (K,)."""
        if self.has_classes:
            total = self.weights.sum()
            of_labels: Array = self.loss.prepared(self.weights[None, :] / total)[0] * total
            return of_labels
        received: Array = self.weights @ self.targets
        return received

    @cached_property
    def absent(self) -> NDArray[np.bool_]:
        """Which classes no target gives anything, (K,)."""
        absent: NDArray[np.bool_] = self.class_weights == 0
        return absent

    @cached_property
    def bias_is_free(self) -> bool:
        """Whether lambda_b |b|^2 is nothing beside the rounding of the loss, or zero.

        The biases of two classes differ by about the logarithm of the ratio of what the targets give them.
        """
        if not self.bias or self.lambda_b == 0:
            return self.bias
        given = np.maximum(self.class_weights, np.finfo(float).tiny)
        size = 1 + float(np.linalg.norm(np.log(given / given.mean())))
        return self.lambda_b * size <= self.sum_rounding * float(np.linalg.norm(self.class_weights))

    def without_bias_decay(self) -> CanonicalProblem:
        """Return this problem with lambda_b = 0, for its dual: the compiled problem keeps its lambda_b."""
        twin = copy.copy(self)
        twin.lambda_b = 0.0
        vars(twin).pop("bias_is_free", None)
        return twin

    def coordinates(self, p: Point) -> tuple[Array, Array, Array]:
        """Return A (K, d), B (M, d) and b of a point of the model; with class means if it has a row a sample.

        FloatingPointError where squares of these, which all algorithms need, come near overflow.
        """
        ufm = self.ufm
        W, H, b = checked_point(p, ufm.layout, ufm.dtype) if ufm.collapse_classes else ufm.collapse(p)
        A = np.divide(W, ufm.rho, dtype=np.float64)
        B = np.multiply(H, ufm.rho * self.root[:, None], dtype=np.float64)
        if not self.square(A) + self.square(B) < _LARGEST_SQUARE:
            raise FloatingPointError(
                f"|W / rho|^2 + |rho H|^2 overflows {_LARGEST_SQUARE:g}, where their products still fit into float64 "
                f"(rho = {ufm.rho:.3g})"
            )
        return A, B, b.astype(np.float64)

    def point(self, A: Array, B: Array, b: Array) -> Point:
        """Return the model's point with these coordinates, in its dtype, with a row a sample if it has them."""
        ufm = self.ufm
        parts = (A * ufm.rho, B / (ufm.rho * self.root[:, None]), b)
        p = Point(*(np.ascontiguousarray(part, dtype=ufm.dtype) for part in parts))
        return p if ufm.collapse_classes else ufm.expand(p)

    def data_term(self, Z: Array, b: Array) -> tuple[float, Array, Array]:
        """Return the data term at scores Z (M, K) and b, its gradient G with respect to Z, and that to b."""
        term: tuple[float, Array, Array]
        term = self.core.data_term(np.ascontiguousarray(Z), np.ascontiguousarray(b), self.workers)
        return term

    def evaluate(self, A: Array, B: Array, b: Array, Z: Array) -> tuple[float, Array, Array]:
        """Return F, the gradient matrix G, and the gradient of F as one vector (A, B, b); the scores Z are B A^T.

        A and B have any number of columns. Two products.
        """
        found: tuple[float, Array, Array] = self.core.gradient_at_scores(A, B, b, Z, self.workers)
        return found

    def penalty(self, A: Array, B: Array, b: Array) -> float:
        """Return the ridge terms."""
        squares = self.square(A) + self.square(B)
        return 0.5 * self.tau * squares + 0.5 * self.lambda_b * self.square(b)

    def rounding(self, A: Array, B: Array, b: Array, loss: float, root: Array | float | None = None) -> float:
        """Bound the rounding error of the loss computed at a point; the rows of B belong to `root`, or the problem's.

        A logit is a sum of d products (of which at most 1024 are added one by one: matrix products go in blocks) plus a
        bias, without what all biases share if the loss does not feel that, and so is wrong by at most as many units as
        it has terms, relative to |w| |h| + |b| and what the loss adds; `Loss.change` tells what that does to the data
        term. Sums over samples, classes and entries add a unit for every row, every 8 classes, every 1024 entries, and
        some hundreds.
        """
        lengths = np.linalg.norm(B, axis=1) / (self.root if root is None else root)
        direction = self.loss.invariant_direction(self.K)
        centred = direction is not None and bool((direction == 1).all())  # as the core does it
        shared = b.min() / 2 + b.max() / 2 if centred else 0.0
        reach = float(np.linalg.norm(A, axis=1).max() * lengths.max() + abs(b - shared).max()) + self.loss.offset
        terms = min(self.d, _LONGEST_SUM) + self.d / 256 + 8
        data = min(loss, max(0.0, loss - self.penalty(A, B, b)) + _ROUNDING * loss)
        summed = len(B) + self.K / 8 + (A.size + B.size) / 1024 + 256
        labels, weight = self.rows.labels is not None, float(self.weights.sum())
        moved = self.loss.change(data, _UNIT / 2 * terms * reach, self.K, weight, labels)
        return moved + _UNIT / 2 * summed * loss

    def square(self, X: Array) -> float:
        """Return the squared norm of a contiguous array, on threads that do not keep spinning as those of BLAS do."""
        flat = X.reshape(-1)
        return float(core.inner_products([flat], [flat], self.workers)[0, 0])

    def curvature(self, G: Array) -> Curvature:
        """Return sums of the diagonal second derivatives of the data term at G; bounds if G tells none."""
        if not self.loss.gradient_tells_state:
            return self._curvature_bounds()
        return Curvature._make(core.curvature_sums(self.core, G, self.workers))

    def _curvature_bounds(self) -> Curvature:
        bounds = self.loss.curvature * self.weights / self.root**2
        total, in_bias = float(bounds.sum()), self.loss.curvature * float(self.weights.sum())
        each = np.full(self.K, total)
        return Curvature(
            self.K * total, total, float(bounds.max()), np.full(self.biases, in_bias), self.K * bounds, each
        )

    def curvature_along(self, G: Array, dZ: Array) -> float:
        """Return the second derivative of the data term at G along scores dZ; a bound if G tells none."""
        if not self.loss.gradient_tells_state:
            return self.loss.curvature * float((self.weights / self.root**2) @ (dZ * dZ).sum(axis=1))
        return core.curvature_along(self.core, G, np.ascontiguousarray(dZ), self.workers)

    def best_bias(self, Z: Array, b: Array, tolerance: float = 0.0) -> Array:
        """Return the bias that minimises F at fixed scores Z (M, K).

        No entry of its gradient exceeds the tolerance, or 1e-10 of the least weight of a row, or what rounding allows.

        By the loss's formula, if it has one. Otherwise by damped Newton steps from b, each a few products of an M x K
        matrix with a vector; without decay the bias is determined up to the loss's invariant direction and comes back
        without a component along it: for cross-entropy, with mean zero. Without decay the best bias of a class that no
        target gives anything is -infinity; it comes back so low that its logits are below all others by 50.
        """
        if not self.bias:
            return np.zeros(self.biases)
        if self.loss.has_best_bias:
            return self.loss.best_bias(Z / self.root[:, None], self.targets, self.weights, self.lambda_b, b)
        free = self.lambda_b == 0 and self.loss.invariant_direction(self.K) is not None
        if self.lambda_b == 0 and self.absent.any():
            largest = max(float(Z.max()), -float(Z.min())) / float(self.root.min())
            b = np.where(self.absent, self._far_below(largest, b), b)
        if free:
            b = self.loss.centred(b)
        value, G, gradient = self._ridged_data_term(Z, b)
        tolerance = max(tolerance, 1e-10 * self.weights.min(), 4e-16)
        for _ in range(_NEWTON_STEPS):
            if np.abs(gradient).max() < tolerance:
                break
            step = -self._solve_bias_hessian(G, gradient)
            step *= min(1.0, _LARGEST_STEP / max(np.abs(step).max(), np.finfo(float).tiny))
            if free:
                step = self.loss.centred(step)
            slope = gradient @ step
            length = 1.0
            while length > 1e-3:
                trial = b + length * step
                trial_value, trial_G, trial_gradient = self._ridged_data_term(Z, trial)
                if trial_value <= value + 1e-4 * length * slope + _ROUNDING * abs(value):
                    break
                length /= 2
            else:
                break
            b, value, G, gradient = trial, trial_value, trial_G, trial_gradient
        return b

    def _far_below(self, scores: float, b: Array) -> Array:
        """Return biases that make a class's logits less than all others by `_FAR_BELOW`, for scores of this size."""
        present = ~self.absent
        v = self.loss.invariant_direction(self.K)
        if v is None:
            return np.full(self.K, -scores - _FAR_BELOW)
        centre = float(np.median((b / v)[present])) * v
        largest = scores + float(abs(b - centre)[present].max()) + 2 * self.loss.offset
        return centre - scores - (largest / float(v.min()) + _FAR_BELOW) * v

    def polish(self, A: Array, B: Array, b: Array) -> tuple[Array, Array]:
        """Move the bias and the part of the features that acts as one; returns (B, b), at no higher loss.

        The bias becomes optimal; then B - root x^T, b + A x, which have the same logits, with the x of least penalty;
        then the bias again. For lambda_b = 0 this removes from B what b does for free.
        Cost O(K d^2) where the bias has a decay, else O(K d).
        """
        if not self.bias:
            return B, b
        b = self.best_bias(product(B, A.T, self.workers), b)
        if not self.loss.adds_bias:  # none of the features acts as the bias
            return B, b
        x = B.T @ self.root / self.samples
        if self.lambda_b > 0:
            ridges = np.array([self.lambda_b, self.tau * self.samples])
            of_bias, of_features = ridges / ridges.sum()
            matrix = of_bias * gram(A, self.workers)
            # more than the ridge proper where that drowns in rounding: a shorter step, which does not raise the loss
            matrix += (of_features + _SINGULAR * np.trace(matrix)) * np.eye(A.shape[1])
            x = linalg.solve(matrix, of_features * x - of_bias * (A.T @ b))
        B = B - np.outer(self.root, x)
        return B, self.best_bias(product(B, A.T, self.workers), b + A @ x)

    def _ridged_data_term(self, Z: Array, b: Array) -> tuple[float, Array, Array]:
        value, G, gradient = self.data_term(Z, b)
        if self.lambda_b == 0:  # b may be so large that its square overflows
            return value, G, gradient
        return value + 0.5 * self.lambda_b * float(b @ b), G, gradient + self.lambda_b * b

    def _solve_bias_hessian(self, G: Array, right: Array) -> Array:
        """Solve, to 1e-3, with the Hessian in b by conjugate gradients.

        It is the Laplacian of a dense graph, so its diagonal preconditions it well: two or three passes over G.
        """
        ridge = self.lambda_b + 1e-14 / self.K  # saturated rows have no curvature
        diagonal = np.maximum(self.curvature(G).bias, 0) + ridge
        solution, residual = np.zeros_like(right), right.copy()
        direction = residual / diagonal
        square = first = residual @ direction
        for _ in range(self.K):
            image = core.bias_curvature_product(self.core, G, direction, self.workers) + ridge * direction
            curvature = direction @ image
            if not (square > 1e-6 * first and curvature > 0):
                break
            solution += (square / curvature) * direction
            residual -= (square / curvature) * image
            scaled = residual / diagonal
            square, last = residual @ scaled, square
            direction = scaled + (square / last) * direction
        return solution if solution.any() else right / diagonal
