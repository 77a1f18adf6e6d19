"""inspect: a trained network's features and classifier, seen as a point of the UFM of their class counts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .._certify.certificate import certificate_at
from .._certify.linearization import Linearization
from .._curvature.critical import CERTIFICATE_TOLERANCE, GRADIENT_TOLERANCE, CriticalPoint, classified
from .._model.facts import lower_branch
from .._model.loss import Loss
from .._model.losses import as_loss
from .._model.model import UFM
from .._model.point import Point
from .._optimize.global_minimum import global_minimum
from .._runtime.arguments import choice, flag, positive_numbers, real_number
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import get_num_threads
from .._runtime.warnings import ConvergenceWarning
from .accumulator import CENTRES, NCAccumulator
from .data_term import DataTerm, Decays, check_size
from .features import Batch, Samples, as_classifier
from .nc_metrics import NCMetrics


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
    weights: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    ignore_index: ArrayLike | None = None,
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
    loss : {"cross_entropy", "mse", "bce"} or loss object, optional
        What the network was trained with: `ufm_fast.losses` makes those of logit adjustment, LDAM, CDT and VS. It must
        be convex in the logits, a logit a class.
    weights : positive number or K of them, optional
        Weights of the classes in the loss, as for `UFM`.
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
    if loss_function.outputs(2) < 2:
        raise ValueError(f"loss must have a logit a class, as neural collapse is of class vectors, not {loss_function}")
    if not loss_function.convex:
        raise ValueError(f"loss must be convex in the logits, for a bound on the global minimum, not {loss_function}")
    given = {
        "lambda_W": None if lambda_W is None else real_number(lambda_W, "lambda_W", above=0),
        "lambda_H": None if lambda_H is None else real_number(lambda_H, "lambda_H", above=0),
        "lambda_b": None if lambda_b is None else real_number(lambda_b, "lambda_b", least=0),
    }
    classifier, bias = as_classifier(W, b)
    if classifier.any():
        check_size(float((classifier**2).sum()), "W")
    K, d = classifier.shape
    loss_function.check(K)
    each = None if weights is None else positive_numbers(weights, "weights", K, "classes")
    samples = Samples(H, labels, K, d, classes=classes, ignore_index=ignore_index)
    _check_counts(samples, K)
    data = DataTerm(
        classifier, bias, loss_function, len(samples.rows), b is not None, each, threads or get_num_threads()
    )
    metrics = _read(samples, data, W, b, centre, threads, progress)
    decays = data.decays(**given)
    ufm = UFM(
        K, d, metrics.counts, loss=loss_function, lambda_W=decays.lambda_W, lambda_H=decays.lambda_H,
        lambda_b=decays.lambda_b, bias=b is not None, weights=each, threads=threads,
    )  # fmt: skip
    return _compared(ufm, Point(classifier, metrics.class_means, bias), metrics, data, decays, solve)


def _read(
    samples: Samples,
    data: DataTerm,
    W: ArrayLike,
    b: ArrayLike | None,
    centre: Literal["samples", "classes"],
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> NCMetrics:
    """Go through the samples twice: add them to the data term, and measure how collapsed they are."""
    accumulator = NCAccumulator(*data.W.shape, classes=samples.classes, threads=threads)
    batches = _Batches(samples, progress)
    for batch in batches:
        accumulator.update(batch.features, batch.labels)
        data.add(batch.counted.astype(np.float64), batch.rows)
    return accumulator.result(W, b, batches=(batch.counted for batch in batches), centre=centre)


def _compared(ufm: UFM, means: Point, metrics: NCMetrics, data: DataTerm, decays: Decays, solve: bool) -> Inspection:
    """Compare the samples, and their class means, with what the model's critical points and global minimum are."""
    critical, here = classified(ufm, means, GRADIENT_TOLERANCE, CERTIFICATE_TOLERANCE)
    loss = data.loss(decays)
    # Only rounding brings the loss below a bound: logits that lose more have ridges far above the minimum.
    lower_bound = min(loss, _lower_bound(ufm, here, solve))
    spectral_norm = math.sqrt(max(0.0, float(np.linalg.eigvalsh(data.gram)[-1])))
    stationarity = data.stationarity(decays)
    return Inspection(
        metrics=metrics,
        ufm=ufm,
        decays=decays,
        loss=loss,
        data_loss=data.value,
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

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._samples.batches():
            yield batch
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)
