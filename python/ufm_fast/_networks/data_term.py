"""The data term of a network's UFM over all samples, and the weight decays that fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._model.loss import Loss
from .._model.rows import Rows
from .._runtime.arrays import Array
from .._runtime.blas import gram


@dataclass(frozen=True)
class Decays:
    """Weight decays under which features and classifier come closest to a critical point, and how close.

    At a critical point of the UFM the gradient of the data term cancels the ridges, ``G^T H = -lambda_W W`` and
    ``G W = -lambda_H H`` (row i of G is the data term's gradient with respect to W h_i), and so
    ``lambda_W W^T W = lambda_H H^T H``. If neither lambda_W nor lambda_H is given, each is the least-squares solution
    of its first equation; if one is, the other is that of the balance. lambda_b is fitted to ``G^T 1 = -lambda_b b``.

    Attributes
    ----------
    lambda_W, lambda_H, lambda_b : float
        In use: given or fitted.
    fitted : tuple of str
        The names of those fitted.
    residual_W, residual_H, residual_b : float
        ``|G^T H + lambda_W W| / |G^T H|`` and so on: 0 if the decay explains everything, about 1 if
        nothing.
    imbalance : float
        ``|lambda_W W^T W - lambda_H H^T H|`` over the larger of the two norms; 0 at a critical point.
    """

    lambda_W: float
    lambda_H: float
    lambda_b: float
    fitted: tuple[str, ...]
    residual_W: float
    residual_H: float
    residual_b: float
    imbalance: float


class DataTerm:
    """The data term over all samples, its gradient, and inner products from which any decays' terms follow."""

    def __init__(
        self, W: Array, b: Array, loss: Loss, N: int, has_bias: bool, weights: Array | None, threads: int
    ) -> None:
        self.W, self.b, self.N, self.has_bias, self.threads = W, b, N, has_bias, threads
        self._loss, self._weights = loss, weights
        # The loss may be blind to a direction of the logits, but their rounding is not; the core minds the bias.
        self._classifier = loss.centred(W)
        K, d = W.shape
        self.value = 0.0
        self.to_W, self.to_b = np.zeros((K, d)), np.zeros(K)
        self.gram = np.zeros((K, K))  # G^T G
        self.squares = np.zeros((d, d))  # H^T H
        self.inner_H = self.square_H = 0.0  # <G W, H> and |G W|^2

    def add(self, H: Array, rows: NDArray[np.int64]) -> None:
        """Add a batch of features of these classes."""
        if not len(H):
            return
        ones = np.ones(len(H))
        weights = ones if self._weights is None else self._weights[rows]
        problem = Rows(rows, weights / self.N, ones).compiled(
            self._loss, *self.W.shape, scales=ones, ridges=0 * ones, lambda_W=0.0, lambda_b=0.0, bias=self.has_bias
        )
        value, to_W, to_H, to_b = problem.loss_and_grad(self._classifier, H, self.b, self.threads)
        self.gram += problem.gradient_gram(self._classifier, H, self.b, self.threads)
        self.value += value
        self.to_W += to_W
        self.to_b += to_b
        self.squares += gram(H, self.threads)
        self.inner_H += float(np.vdot(to_H, H))
        self.square_H += float(np.vdot(to_H, to_H))

    @property
    def _norms(self) -> tuple[float, float, float]:
        """|W|^2, |H|^2, |b|^2."""
        return float(np.vdot(self.W, self.W)), float(np.trace(self.squares)), float(self.b @ self.b)

    def decays(self, lambda_W: float | None, lambda_H: float | None, lambda_b: float | None) -> Decays:
        """Complete the decays given, and measure the fit of all."""
        given = {"lambda_W": lambda_W, "lambda_H": lambda_H, "lambda_b": lambda_b}
        fitted = tuple(name for name, value in given.items() if value is None and (name != "lambda_b" or self.has_bias))
        gram_W = self.W.T @ self.W
        lambda_W, lambda_H = self._complete(lambda_W, lambda_H, gram_W)
        if lambda_b is None:
            b2 = self._norms[2]
            lambda_b = max(0.0, -float(self.to_b @ self.b) / b2) if b2 > 0 else 0.0
        left, right = lambda_W * gram_W, lambda_H * self.squares
        size = max(float(np.linalg.norm(left)), float(np.linalg.norm(right)))
        return Decays(
            lambda_W=lambda_W,
            lambda_H=lambda_H,
            lambda_b=float(lambda_b),
            fitted=fitted,
            residual_W=_relative(self.to_W + lambda_W * self.W, self.to_W),
            residual_H=math.sqrt(self._gradient_H2(lambda_H) / self.square_H) if self.square_H > 0 else math.nan,
            residual_b=_relative(self.to_b + lambda_b * self.b, self.to_b),
            imbalance=float(np.linalg.norm(left - right)) / size if size > 0 else math.nan,
        )

    def _complete(self, lambda_W: float | None, lambda_H: float | None, gram_W: Array) -> tuple[float, float]:
        """Fit lambda_W and lambda_H, or the one that is not given; `gram_W` is W^T W."""
        W2, H2, _ = self._norms
        if H2 > 0:
            check_size(H2, "H")
        product = float(np.vdot(gram_W, self.squares))
        if lambda_W is not None and lambda_H is not None:
            return lambda_W, lambda_H
        if lambda_W is not None:
            return lambda_W, _balancing(lambda_W, product, self.squares, "lambda_H")
        if lambda_H is not None:
            return _balancing(lambda_H, product, gram_W, "lambda_W"), lambda_H
        if self.inner_H < 0:
            return -self.inner_H / W2, -self.inner_H / H2
        raise ValueError(
            "lambda_W or lambda_H must be given: none fit, because the data term does not ask for larger "
            "logits, which is what decays hold back"
        )

    def _gradient_H2(self, lambda_H: float) -> float:
        """Return |G W + lambda_H H|^2."""
        _, H2, _ = self._norms
        return max(0.0, self.square_H + 2 * lambda_H * self.inner_H + lambda_H**2 * H2)

    def loss(self, decays: Decays) -> float:
        """Evaluate f."""
        W2, H2, b2 = self._norms
        return self.value + (decays.lambda_W * W2 + decays.lambda_H * H2 + decays.lambda_b * b2) / 2

    def stationarity(self, decays: Decays) -> float:
        """Return |gradient| / (|data part| + |ridge part|) in canonical coordinates."""
        W2, H2, b2 = self._norms
        rho2 = math.sqrt(decays.lambda_H / decays.lambda_W)
        to_W2, to_b2 = float((self.to_W**2).sum()), float(self.to_b @ self.to_b)
        data = rho2 * to_W2 + self.square_H / rho2 + to_b2
        ridge = rho2 * decays.lambda_W**2 * W2 + decays.lambda_H**2 * H2 / rho2 + decays.lambda_b**2 * b2
        total = (
            rho2 * float(((self.to_W + decays.lambda_W * self.W) ** 2).sum())
            + self._gradient_H2(decays.lambda_H) / rho2
            + float(((self.to_b + decays.lambda_b * self.b) ** 2).sum())
        )
        return math.sqrt(total) / (math.sqrt(data) + math.sqrt(ridge)) if data + ridge > 0 else 0.0


def check_size(square: float, name: str) -> None:
    """Refuse norms whose fourth powers, from which decays follow, overflow or vanish."""
    if not 1e-60 < square < 1e60:
        raise ValueError(f"{name} must be zero or have a norm between 1e-30 and 1e30, not {math.sqrt(square):.1e}")


def _balancing(other: float, product: float, gram: Array, name: str) -> float:
    """Return the decay whose multiple of ``gram`` is closest to the other decay's, ``product`` being <W^T W, H^T H>."""
    if not product > 0:
        raise ValueError(f"{name} must be given: W and H have no direction in common, so no balance fits it")
    return other * product / float(np.vdot(gram, gram))


def _relative(residual: Array, whole: Array) -> float:
    norm = float(np.linalg.norm(whole))
    return float(np.linalg.norm(residual)) / norm if norm > 0 else math.nan
