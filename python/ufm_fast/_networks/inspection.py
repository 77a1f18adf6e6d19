"""inspect: a trained network's features and classifier, seen as a point of the UFM of their class counts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._certify.certificate import certificate_at
from .._certify.linearization import Linearization
from .._curvature.critical import CERTIFICATE_TOLERANCE, GRADIENT_TOLERANCE, CriticalPoint, classified
from .._model.facts import lower_branch
from .._model.losses import Loss, as_loss
from .._model.model import UFM
from .._model.point import Point
from .._model.rows import Rows
from .._optimize.global_minimum import global_minimum
from .._runtime.arguments import choice, flag, real_number
from .._runtime.arrays import Array
from .._runtime.blas import gram, single_threaded_blas
from .._runtime.threads import get_num_threads
from .._runtime.warnings import ConvergenceWarning
from .features import Samples, as_classifier
from .metrics import CENTRES, NCAccumulator
from .nc_metrics import NCMetrics


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


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes
    ----------
    metrics : NCMetrics
    ufm : UFM
        The model with these class counts and decays, features collapsed to class means.
    decays : Decays
    loss : float
        f(W, H, b) over all samples; `data_loss` is its first term, without the ridges.
    data_loss : float
    mean_loss : float
        f at the class means: `loss` minus what within-class variation costs.
    lower_bound : float
        Proven lower bound on the global minimum of the UFM.
    gap, relative_gap : float
        ``loss - lower_bound``, and over loss: how far above the global minimum (W, H, b) can be.
    spectral_norm, threshold : float
        |G|_2 over all samples, and tau. A critical point with ``spectral_norm <= threshold`` is a global minimum.
    stationarity : float
        |gradient| of f over the sum of the norms of its two terms, data and ridge, in coordinates in which both decays
        are tau: 0 at a critical point, 1 if nothing cancels.
    near_critical : bool
        ``stationarity <= 0.01``.
    lowest_eigenvalue_bound : float
        Lower bound L on the Hessian's lowest eigenvalue in (W, H) at this point, critical or not; negative if and only
        if |G|_2 > tau, and attained where W and H leave a direction of feature space unused.
    critical : CriticalPoint
        `classify` at the class means: kind, bounds on the lowest eigenvalue, the direction out of a saddle.
    """

    metrics: NCMetrics
    ufm: UFM = field(repr=False)
    decays: Decays
    loss: float
    data_loss: float
    mean_loss: float
    lower_bound: float
    gap: float
    relative_gap: float
    spectral_norm: float
    threshold: float
    stationarity: float
    near_critical: bool
    lowest_eigenvalue_bound: float
    critical: CriticalPoint = field(repr=False)

    def __str__(self) -> str:
        m = self.metrics
        return (
            f"NC1 {m.nc1:.3g}, NC2 {m.nc2_means:.3g} (means) {m.nc2_W:.3g} (W), NC3 {m.nc3_product:.3g}, "
            f"NC4 {m.nc4_agreement:.4g}; UFM loss {self.loss:.8g}, global minimum at least {self.lower_bound:.8g} "
            f"(relative gap {self.relative_gap:.1e}), |G|_2 / tau = {self.spectral_norm / self.threshold:.4g}"
        )


_NEAR = 0.01


@single_threaded_blas()
def inspect(
    W: ArrayLike,
    H: Any,
    labels: ArrayLike,
    b: ArrayLike | None = None,
    *,
    lambda_W: float | None = None,
    lambda_H: float | None = None,
    lambda_b: float | None = None,
    loss: str | Loss = "cross_entropy",
    classes: ArrayLike | None = None,
    ignore_index: int | None = None,
    centre: Literal["samples", "classes"] = "samples",
    solve: bool = True,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Measure how collapsed a trained network's last layer is, and how far from the optimum of its UFM.

    Parameters
    ----------
    W, H, labels, b, classes, ignore_index, centre, threads
        As for `nc_metrics`; H is read twice, 4096 rows at a time. Every class must have a sample. With ``b=None`` the
        model has no bias.
    lambda_W, lambda_H, lambda_b : float, optional
        Decays of the UFM, in its convention: penalties lambda_W/2 |W|^2, lambda_H/2 sum_i |h_i|^2 and lambda_b/2 |b|^2
        beside the mean loss. Those not given are fitted, see `Decays`: a network penalises the weights below the
        features, not the features, so its lambda_H is what the balance of W and H implies.
    loss : {"cross_entropy", "mse"} or loss object, optional
    solve : bool, optional
        True: find the UFM's global minimum, for a lower bound tight to about 1e-8. False: take the certificate at the
        class means, cheaper and looser.
    progress : callable, optional
        Called with the batches done and their number, over both readings.

    Returns
    -------
    Inspection

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, a class has no samples, or no positive decay fits where one is to be fitted; W and
        H must be zero or have a norm between 1e-30 and 1e30.

    Warns
    -----
    RuntimeWarning
        As `nc_metrics` does.

    Notes
    -----
    Always in float64. Cost: six products K x d x N and one K x K x N, a batch at a time, then that of `global_minimum`.
    Memory: O(d^2 + K d + K^2), and a batch.
    """
    loss_function, solve = as_loss(loss), flag(solve, "solve")
    choice(centre, "centre", CENTRES)
    given = {
        "lambda_W": None if lambda_W is None else real_number(lambda_W, "lambda_W", above=0),
        "lambda_H": None if lambda_H is None else real_number(lambda_H, "lambda_H", above=0),
        "lambda_b": None if lambda_b is None else real_number(lambda_b, "lambda_b", least=0),
    }
    classifier, bias = as_classifier(W, b)
    if classifier.any():
        _check_size(float((classifier**2).sum()), "W")
    K, d = classifier.shape
    samples = Samples(H, labels, K, d, classes=classes, ignore_index=ignore_index)
    _check_counts(samples, K)
    parts = _Gradient(classifier, bias, loss_function, len(samples.rows), b is not None, threads or get_num_threads())
    metrics = _read(samples, parts, W, b, centre, threads, progress)
    decays = parts.decays(**given)
    ufm = UFM(
        K, d, metrics.counts, loss=loss_function, lambda_W=decays.lambda_W, lambda_H=decays.lambda_H,
        lambda_b=decays.lambda_b, bias=b is not None, threads=threads,
    )  # fmt: skip
    return _compared(ufm, Point(classifier, metrics.class_means, bias), metrics, parts, decays, solve)


def _read(
    samples: Samples,
    parts: _Gradient,
    W: ArrayLike,
    b: ArrayLike | None,
    centre: Literal["samples", "classes"],
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> NCMetrics:
    """Go through the samples twice: add them to the gradient's parts, and measure how collapsed they are."""
    accumulator = NCAccumulator(*parts.W.shape, classes=samples.classes, threads=threads)
    batches = _Batches(samples, progress)
    for features, rows in batches:
        accumulator.update(features, samples.classes[rows])
        parts.add(features.astype(np.float64), rows)
    return accumulator.result(W, b, batches=(features for features, _ in batches), centre=centre)


def _compared(ufm: UFM, means: Point, metrics: NCMetrics, parts: _Gradient, decays: Decays, solve: bool) -> Inspection:
    """Compare the samples, and their class means, with what the model's critical points and global minimum are."""
    critical, here = classified(ufm, means, GRADIENT_TOLERANCE, CERTIFICATE_TOLERANCE)
    loss = parts.loss(decays)
    # Only rounding brings the loss below a bound: logits that lose more have ridges far above the minimum.
    lower_bound = min(loss, _lower_bound(ufm, here, solve))
    spectral_norm = math.sqrt(max(0.0, float(np.linalg.eigvalsh(parts.gram)[-1])))
    stationarity = parts.stationarity(decays)
    return Inspection(
        metrics=metrics,
        ufm=ufm,
        decays=decays,
        loss=loss,
        data_loss=parts.data,
        mean_loss=critical.certificate.loss,
        lower_bound=lower_bound,
        gap=loss - lower_bound,
        relative_gap=(loss - lower_bound) / loss,
        spectral_norm=spectral_norm,
        threshold=ufm.tau,
        stationarity=stationarity,
        near_critical=stationarity <= _NEAR,
        lowest_eigenvalue_bound=lower_branch(ufm, spectral_norm),
        critical=critical,
    )


def _check_counts(samples: Samples, K: int) -> None:
    counts = np.bincount(samples.rows, minlength=K)
    if not counts.all():
        raise ValueError(
            f"every class needs a sample, but class {samples.classes[np.argmin(counts)]} has none: drop its row of W"
        )


def _lower_bound(ufm: UFM, here: Linearization, solve: bool) -> float:
    """Bound the global minimum at the class means and, to solve, where it is."""
    bound = certificate_at(here).lower_bound
    if solve:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # its bound is valid all the same
            bound = max(bound, global_minimum(ufm).certificate.lower_bound)
    return bound


class _Batches:
    """The batches of the samples, to be gone through twice, with reports on how far that is."""

    def __init__(self, samples: Samples, progress: Callable[[int, int], None] | None) -> None:
        self._samples, self._progress = samples, progress
        self._done, self._total = 0, 2 * sum(1 for _ in samples.slices())

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        for batch in self._samples.batches():
            yield batch
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)


class _Gradient:
    """The data term over all samples, its gradient, and inner products from which any decays' terms follow."""

    def __init__(self, W: Array, b: Array, loss: Loss, N: int, has_bias: bool, threads: int) -> None:
        self.W, self.b, self.N, self.has_bias, self.threads = W, b, N, has_bias, threads
        self._loss = loss
        # The loss may be blind to what all logits have in common, but their rounding is not; the core minds the bias.
        self._classifier = W - W.mean(axis=0) if loss.shift_invariant else W
        K, d = W.shape
        self.data = 0.0
        self.to_W, self.to_b = np.zeros((K, d)), np.zeros(K)
        self.gram = np.zeros((K, K))  # G^T G
        self.squares = np.zeros((d, d))  # H^T H
        self.inner_H = self.square_H = 0.0  # <G W, H> and |G W|^2

    def add(self, H: Array, rows: NDArray[np.int64]) -> None:
        """Add a batch of features of these classes."""
        if not len(H):
            return
        ones = np.ones(len(H))
        problem = Rows(rows, ones / self.N, ones).compiled(
            self._loss, *self.W.shape, scales=ones, ridges=0 * ones, lambda_W=0.0, lambda_b=0.0, bias=self.has_bias
        )
        value, to_W, to_H, to_b = problem.loss_and_grad(self._classifier, H, self.b, self.threads)
        self.gram += problem.gradient_gram(self._classifier, H, self.b, self.threads)
        self.data += value
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
        W2, H2, b2 = self._norms
        if H2 > 0:
            _check_size(H2, "H")
        gram_W, gram_H = self.W.T @ self.W, self.squares
        product = float(np.vdot(gram_W, gram_H))
        fitted = tuple(
            name
            for name, value in (("lambda_W", lambda_W), ("lambda_H", lambda_H), ("lambda_b", lambda_b))
            if value is None and (name != "lambda_b" or self.has_bias)
        )
        if lambda_H is None:
            if lambda_W is not None:
                lambda_H = _balancing(lambda_W, product, gram_H, "lambda_H")
            elif self.inner_H < 0:
                lambda_W, lambda_H = -self.inner_H / W2, -self.inner_H / H2
            else:
                raise ValueError(
                    "lambda_W or lambda_H must be given: none fit, because the data term does not ask for larger "
                    "logits, which is what decays hold back"
                )
        elif lambda_W is None:
            lambda_W = _balancing(lambda_H, product, gram_W, "lambda_W")
        if lambda_b is None:
            lambda_b = max(0.0, -float(self.to_b @ self.b) / b2) if b2 > 0 else 0.0
        to_H2 = self._gradient_H2(lambda_H)
        left, right = lambda_W * gram_W, lambda_H * gram_H
        sizes = float(np.linalg.norm(left)), float(np.linalg.norm(right))
        return Decays(
            lambda_W=lambda_W,
            lambda_H=lambda_H,
            lambda_b=float(lambda_b),
            fitted=fitted,
            residual_W=_relative(self.to_W + lambda_W * self.W, self.to_W),
            residual_H=math.sqrt(to_H2 / self.square_H) if self.square_H > 0 else math.nan,
            residual_b=_relative(self.to_b + lambda_b * self.b, self.to_b),
            imbalance=float(np.linalg.norm(left - right)) / max(sizes) if max(sizes) > 0 else math.nan,
        )

    def _gradient_H2(self, lambda_H: float) -> float:
        """Return |G W + lambda_H H|^2."""
        _, H2, _ = self._norms
        return max(0.0, self.square_H + 2 * lambda_H * self.inner_H + lambda_H**2 * H2)

    def loss(self, decays: Decays) -> float:
        """Evaluate f."""
        W2, H2, b2 = self._norms
        return self.data + (decays.lambda_W * W2 + decays.lambda_H * H2 + decays.lambda_b * b2) / 2

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


def _check_size(square: float, name: str) -> None:
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
