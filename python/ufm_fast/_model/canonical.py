"""The problem on class means in canonical isometric coordinates, where certificate, classification and solver live.

With the features of each class at their mean, ``rho = (lambda_H / lambda_W)^(1/4)``, ``A = W / rho`` and
``B_k = rho sqrt(n_k) h_k``, the objective is

    F(A, B, b) = sum_k (n_k/N) loss(Z_k / sqrt(n_k) + b, k) + tau/2 (|A|^2 + |B|^2) + lambda_b/2 |b|^2,    Z = B A^T,

with one decay tau for both factors. Values, critical points and the signs of Hessian eigenvalues are those of the
original problem.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._runtime import core
from .._runtime.blas import fitting_threads, single_threaded_blas
from .model import UFM, Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEWTON_STEPS = 60
_LARGEST_STEP = 4.0
_ROUNDING = 1e-14  # of a data term, relative
_UNIT = float(np.finfo(float).eps)
_LONGEST_SUM = 1024
_LARGEST_SQUARE = 1e306


class Curvature(NamedTuple):
    """Sums of diagonal second derivatives of the data term: with respect to Z, (K, K), and b, (K,)."""

    total: float
    at_labels: float
    largest: float
    bias: NDArray[np.float64]


class ClassProblem:
    """The collapsed problem of a UFM, in float64. Row k of B, Z, G, P and of the targets belongs to class k."""

    def __init__(self, ufm: UFM) -> None:
        self.ufm = ufm
        self.K, self.d, self.N = ufm.K, ufm.d, float(ufm.N)
        self.counts: NDArray[np.float64] = ufm.counts.astype(np.float64)
        self.weights: NDArray[np.float64] = self.counts / self.N
        self.root: NDArray[np.float64] = np.sqrt(self.counts)
        self.tau, self.lambda_b, self.bias = ufm.tau, ufm.lambda_b, ufm.bias
        self.rho = math.sqrt(math.sqrt(ufm.lambda_H / ufm.lambda_W))
        self.loss = ufm.loss_function
        self.core = core.Problem64(
            self.K,
            self.d,
            labels=np.arange(self.K, dtype=np.int64),
            weights=self.weights,
            scales=1 / self.root,
            ridges=np.full(self.K, self.tau),
            loss=self.loss.name,
            label_smoothing=self.loss.label_smoothing,
            lambda_W=self.tau,
            lambda_b=self.lambda_b,
            bias=self.bias,
        )

    @property
    def workers(self) -> int:
        """Threads for passes over K x K numbers."""
        return fitting_threads(self.K, self.ufm.threads)

    @property
    def targets(self) -> NDArray[np.float64]:
        """Target distributions, (K, K)."""
        smoothing = self.loss.label_smoothing
        return (1 - smoothing) * np.eye(self.K) + smoothing / self.K

    def coordinates(self, p: Point) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return A (K, d), B (K, d) and b of a point of the model; its class means if it has a row a sample.

        FloatingPointError where squares of these, which all algorithms need, come near overflow.
        """
        W, H, b = self.ufm._checked(p, self.ufm.M) if self.ufm.collapse_classes else self.ufm.collapse(p)
        A = np.divide(W, self.rho, dtype=np.float64)
        B = np.multiply(H, self.rho * self.root[:, None], dtype=np.float64)
        if not self.square(A) + self.square(B) < _LARGEST_SQUARE:
            raise FloatingPointError(
                f"|W / rho|^2 + |rho H|^2 overflows {_LARGEST_SQUARE:g}, where their products still fit into float64 "
                f"(rho = {self.rho:.3g})"
            )
        return A, B, b.astype(np.float64)

    def point(self, A: NDArray[np.float64], B: NDArray[np.float64], b: NDArray[np.float64]) -> Point:
        """Return the model's point with these coordinates, in its dtype, with a row a sample if it has them."""
        parts = (A * self.rho, B / (self.rho * self.root[:, None]), b)
        p = Point(*(np.ascontiguousarray(part, dtype=self.ufm.dtype) for part in parts))
        return p if self.ufm.collapse_classes else self.ufm.expand(p)

    def data_term(self, Z: NDArray[Any], b: NDArray[Any]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return the data term at scores Z (K, K) and b, its gradient G with respect to Z, and that to b."""
        value, G, grad_b = self.core.data_term(np.ascontiguousarray(Z), np.ascontiguousarray(b), self.workers)
        return value, G, grad_b

    def evaluate(
        self, A: NDArray[Any], B: NDArray[Any], b: NDArray[Any], Z: NDArray[Any]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return F, the gradient matrix G, and the gradient of F as one vector (A, B, b); the scores Z are B A^T.

        A and B have any number of columns. Two products.
        """
        with single_threaded_blas():
            return self.core.gradient_at_scores(A, B, b, Z, self.workers)

    def penalty(self, A: NDArray[np.float64], B: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        """Return the ridge terms."""
        squares = self.square(A) + self.square(B)
        return 0.5 * self.tau * squares + 0.5 * self.lambda_b * self.square(b)

    def rounding(self, A: NDArray[np.float64], B: NDArray[np.float64], b: NDArray[np.float64], loss: float) -> float:
        """Bound the rounding error of the loss computed at a point; B has a row a class or a row a sample.

        A logit is a sum of d products (of which at most 1024 are added one by one: matrix products go in blocks) plus a
        bias, without what all biases share if the loss does not feel that, and so is wrong by at most as many units as
        it has terms, relative to |w| |h| + |b|; `Loss.change` tells what that does to the data term. Sums over samples,
        classes and entries add a unit for every row, every 8 classes, every 1024 entries, and some hundreds.
        """
        lengths = np.linalg.norm(B, axis=1) / (self.root if len(B) == self.K else 1.0)
        shared = b.min() / 2 + b.max() / 2 if self.loss.shift_invariant else 0.0
        reach = float(np.linalg.norm(A, axis=1).max() * lengths.max() + abs(b - shared).max())
        terms = min(self.d, _LONGEST_SUM) + self.d / 256 + 8
        data = min(loss, max(0.0, loss - self.penalty(A, B, b)) + _ROUNDING * loss)
        summed = len(B) + self.K / 8 + (A.size + B.size) / 1024 + 256
        return self.loss.change(data, _UNIT / 2 * terms * reach, self.K) + _UNIT / 2 * summed * loss

    def square(self, X: NDArray[np.float64]) -> float:
        """Return the squared norm of a contiguous array, on threads that do not keep spinning as those of BLAS do."""
        flat = X.reshape(-1)
        return float(core.inner_products([flat], [flat], self.workers)[0, 0])

    def curvature(self, G: NDArray[np.float64]) -> Curvature:
        """Return sums of the diagonal second derivatives of the data term at a gradient matrix."""
        return Curvature(*core.curvature_sums(self.core, G, self.workers))

    def probabilities(self, G: NDArray[np.float64]) -> NDArray[np.float64]:
        """Recover the softmax rows from a gradient matrix of the cross-entropy."""
        return G * (self.root / self.weights)[:, None] + self.targets

    def best_bias(self, Z: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the bias that minimises F at fixed scores Z (K, K).

        Squared error has a closed form. Cross-entropy takes damped Newton steps from b, each a few products of a K x K
        matrix with a vector; without decay the bias is determined up to a constant and comes back with mean zero.
        """
        if not self.bias:
            return np.zeros(self.K)
        if self.loss.name == "mse":
            residual: NDArray[np.float64] = self.weights @ (self.targets - Z / self.root[:, None])
            return residual / (1 + self.lambda_b)
        free = self.lambda_b == 0
        if free:
            b = b - b.mean()
        value, G, gradient = self._ridged_data_term(Z, b)
        tolerance = max(1e-10 * self.weights.min(), 4e-16)
        for _ in range(_NEWTON_STEPS):
            if np.abs(gradient).max() < tolerance:
                break
            step = -self._solve_bias_hessian(G, gradient)
            step *= min(1.0, _LARGEST_STEP / max(np.abs(step).max(), np.finfo(float).tiny))
            if free:
                step -= step.mean()
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

    def _ridged_data_term(self, Z: NDArray[Any], b: NDArray[Any]) -> tuple[float, NDArray[Any], NDArray[Any]]:
        value, G, gradient = self.data_term(Z, b)
        if self.lambda_b == 0:  # b may be so large that its square overflows
            return value, G, gradient
        return value + 0.5 * self.lambda_b * (b @ b), G, gradient + self.lambda_b * b

    def _solve_bias_hessian(self, G: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
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
