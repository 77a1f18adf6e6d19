"""The data term of a network's UFM over all samples, and the weight decays that fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._model.loss import Loss
from .._model.rows import Rows
from .._numerics.gram_spectra import leading_pair
from .._runtime.arrays import Array
from .._runtime.blas import fitting_threads, gram, product

_EPS = float(np.finfo(float).eps)
_LEAST_SQUARE, _LARGEST_SQUARE = 1e-60, 1e60  # of norms whose fourth powers neither vanish nor overflow
_LEAST_DECAY, _LARGEST_DECAY = 1e-50, 1e50  # of decays whose squares times these do neither


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
        In use: given or fitted; NaN where none fits.
    fitted : tuple of str
        The names of those fitted.
    slope : float
        ``<G W, H>``, the derivative of the data loss in a factor on all W h_i: ``-lambda_W |W|^2`` and
        ``-lambda_H |H|^2`` at a critical point. Where it is not negative the data loss does not ask for larger W h_i,
        and there is nothing that decays hold back.
    residual_W, residual_H, residual_b : float
        ``|G^T H + lambda_W W| / |G^T H|`` and so on: 0 if the decay explains everything, about 1 if nothing. NaN where
        the decay is, or there is nothing to explain.
    imbalance : float
        ``|lambda_W W^T W - lambda_H H^T H|`` over the larger of the two norms; 0 at a critical point.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(300) % 3
    >>> W = rng.standard_normal((3, 8))
    >>> H = W[labels] + 0.1 * rng.standard_normal((300, 8))
    >>> decays = uf.inspect(W, H, labels, lambda_W=1e-2).decays
    >>> decays.lambda_W, decays.fitted
    (0.01, ('lambda_H',))
    """

    lambda_W: float
    lambda_H: float
    lambda_b: float
    fitted: tuple[str, ...]
    slope: float
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
        self.slope = self.square_H = 0.0  # <G W, H> and |G W|^2

    def add(self, H: Array, rows: NDArray[np.int64]) -> None:
        """Add a batch of features of these classes."""
        if not len(H):
            return
        ones = np.ones(len(H))
        weights = ones if self._weights is None else self._weights[rows]
        problem = Rows(rows, weights / self.N, ones).compiled(
            self._loss, *self.W.shape, scales=ones, ridges=0 * ones, lambda_W=0.0, lambda_b=0.0, bias=self.has_bias
        )
        scores = product(H, self._classifier.T, self.threads)
        value, G, gradient = problem.gradient_at_scores(self._classifier, H, self.b, scores, self.threads)
        to_W, to_H, to_b = np.split(gradient, np.cumsum([self.W.size, H.size]))
        self.gram += gram(G, self.threads)
        self.value += value
        self.to_W += to_W.reshape(self.W.shape)
        if self.has_bias:
            self.to_b += to_b
        self.squares += gram(H, self.threads)
        self.slope += float(np.vdot(to_H, H.ravel()))
        self.square_H += float(np.vdot(to_H, to_H))

    @property
    def _norms(self) -> tuple[float, float, float]:
        """|W|^2, |H|^2, |b|^2."""
        return float(np.vdot(self.W, self.W)), float(np.trace(self.squares)), float(self.b @ self.b)

    def spectral_norm(self) -> float:
        """Return |G|_2."""
        size = float(self.gram.diagonal().max())
        if size == 0:
            return 0.0
        return math.sqrt(size * leading_pair(self.gram / size, fitting_threads(len(self.gram), self.threads))[0])

    def decays(self, lambda_W: float | None, lambda_H: float | None, lambda_b: float | None) -> tuple[Decays, str]:
        """Complete the decays given and measure the fit of all; say why, where none fits."""
        given = {"lambda_W": lambda_W, "lambda_H": lambda_H, "lambda_b": lambda_b}
        gram_W, reason = self.W.T @ self.W, ""
        try:
            lambda_W, lambda_H = self._complete(lambda_W, lambda_H, gram_W)
        except ValueError as error:
            reason = str(error)
            lambda_W, lambda_H = (math.nan if value is None else value for value in (lambda_W, lambda_H))
        if lambda_b is None:
            b2 = self._norms[2]
            lambda_b = max(0.0, -float(self.to_b @ self.b) / b2) if b2 > _LEAST_SQUARE else 0.0
        found = {"lambda_W": lambda_W, "lambda_H": lambda_H} | ({"lambda_b": lambda_b} if self.has_bias else {})
        left, right = lambda_W * gram_W, lambda_H * self.squares
        size = max(float(np.linalg.norm(left)), float(np.linalg.norm(right)))
        decays = Decays(
            lambda_W=lambda_W,
            lambda_H=lambda_H,
            lambda_b=lambda_b,
            fitted=tuple(name for name, value in found.items() if given[name] is None and not math.isnan(value)),
            slope=self.slope,
            residual_W=_relative(self.to_W + lambda_W * self.W, self.to_W),
            residual_H=math.sqrt(self._gradient_H2(lambda_H) / self.square_H) if self.square_H > 0 else math.nan,
            residual_b=_relative(self.to_b + lambda_b * self.b, self.to_b),
            imbalance=float(np.linalg.norm(left - right)) / size if size > 0 else math.nan,
        )
        return decays, reason

    def _complete(self, lambda_W: float | None, lambda_H: float | None, gram_W: Array) -> tuple[float, float]:
        """Fit lambda_W and lambda_H, or the one that is not given, or raise ValueError; `gram_W` is W^T W."""
        W2, H2, _ = self._norms
        if H2 > 0:
            check_size(H2, "H")
        if lambda_W is not None and lambda_H is not None:
            return lambda_W, lambda_H
        if W2 == 0 or H2 == 0:
            raise ValueError(f"no decays fit, because {'W is zero' if W2 == 0 else 'all features are zero'}")
        if lambda_W is None and lambda_H is None:
            if not self.slope < 0:
                raise ValueError(f"no decays fit, because {self._push()}")
            return usable(-self.slope / W2, "the fitted lambda_W"), usable(-self.slope / H2, "the fitted lambda_H")
        size_W, size_H = float(np.linalg.norm(gram_W)), float(np.linalg.norm(self.squares))
        common = float(np.vdot(gram_W, self.squares))
        if not common > len(gram_W) * _EPS * size_W * size_H:
            raise ValueError("no decays fit, because W and H have no direction in common")
        if lambda_W is not None:
            return lambda_W, usable(lambda_W * common / size_H**2, "the fitted lambda_H")
        assert lambda_H is not None
        return usable(lambda_H * common / size_W**2, "the fitted lambda_W"), lambda_H

    def _push(self) -> str:
        """Say where the data loss goes when W h_i grow, if it does not fall."""
        if self.slope == 0 and not self.gram.any():
            return "the gradient of the data loss is zero"
        if self.slope == 0:
            return "the data loss does not change to first order when the logits W h_i grow or shrink"
        return (
            "the data loss falls when the logits W h_i shrink, which decays do anyway (its derivative in a factor on "
            f"them is {self.slope:+.3g})"
        )

    def _gradient_H2(self, lambda_H: float) -> float:
        """Return |G W + lambda_H H|^2."""
        _, H2, _ = self._norms
        return max(self.square_H + 2 * lambda_H * self.slope + lambda_H**2 * H2, 0.0)  # or NaN

    def loss(self, decays: Decays) -> float:
        """Evaluate f."""
        W2, H2, b2 = self._norms
        return self.value + (decays.lambda_W * W2 + decays.lambda_H * H2 + decays.lambda_b * b2) / 2

    def stationarity(self, decays: Decays) -> float:
        """Return |gradient| / (|data part| + |ridge part|) in canonical coordinates; 0 if the gradient is rounding."""
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
        rounding = _EPS**2 * self.N * float(np.trace(self.gram))  # of the sum of G's rows
        return math.sqrt(total) / (math.sqrt(data) + math.sqrt(ridge)) if total > rounding else 0.0


def check_size(square: float, name: str) -> None:
    """Refuse norms whose fourth powers, from which decays follow, overflow or vanish."""
    if not _LEAST_SQUARE < square < _LARGEST_SQUARE:
        raise ValueError(f"{name} must be zero or have a norm between 1e-30 and 1e30, not {math.sqrt(square):.1e}")


def usable(decay: float, name: str) -> float:
    """Return a decay whose square times squared norms neither vanishes nor overflows; refuse others."""
    if not _LEAST_DECAY < decay < _LARGEST_DECAY:
        raise ValueError(f"{name} must lie between {_LEAST_DECAY:g} and {_LARGEST_DECAY:g}, not be {decay:.1e}")
    return decay


def _relative(residual: Array, whole: Array) -> float:
    norm = float(np.linalg.norm(whole))
    return float(np.linalg.norm(residual)) / norm if norm > 0 else math.nan
