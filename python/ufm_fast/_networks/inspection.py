"""inspect: a trained network's features and classifier, seen as a point of the UFM of their class counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._certify.certificate import certificate_at, relative_to
from .._certify.linearization import Linearization
from .._curvature.critical import CERTIFICATE_TOLERANCE, GRADIENT_TOLERANCE, CriticalPoint, classified
from .._model.facts import largest_rank, lower_branch
from .._model.loss import Loss
from .._model.losses import as_loss
from .._model.model import UFM, in_double
from .._model.point import Point
from .._optimize.global_minimum import global_minimum
from .._runtime.arguments import choice, flag, function, positive_numbers, real_number
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.threads import checked_threads, get_num_threads
from .._runtime.warnings import held_convergence_warnings, warn
from .accumulator import CENTRES, NCAccumulator
from .data_term import DataTerm, Decays, check_size, usable
from .features import Readings, Samples, as_classifier
from .nc_metrics import NCMetrics


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `inspect` found.

    Where W and H cannot be compared with a UFM, `reason` says why, and all that needs decays is NaN, None or False.

    Attributes
    ----------
    metrics : NCMetrics
    decays : Decays
    data_loss : float
        Mean loss of the samples, the first term of f(W, H, b).
    spectral_norm : float
        |G|_2 over all samples. A critical point with ``spectral_norm <= threshold`` is a global minimum.
    reason : str
        Why there is nothing of what follows; empty otherwise.
    ufm : UFM or None
        The model with these class counts and decays, features collapsed to class means. Where classes have no samples,
        a model of rows, one for each class that has, with logits for all classes.
    loss : float
        f(W, H, b) over all samples: `data_loss` and the ridges.
    mean_loss : float
        f at the class means: `loss` minus what within-class variation costs.
    lower_bound : float
        Proven lower bound on the global minimum of the UFM, over every feature dimension.
    gap, relative_gap : float
        ``loss - lower_bound``, and over loss: how far above the global minimum (W, H, b) can be, up to the rounding of
        the loss.
    threshold : float
        tau.
    stationarity : float
        |gradient| of f over the sum of the norms of its two terms, data and ridge, in coordinates in which both decays
        are tau: 0 at a critical point, which rounding leaves 1e-8 of, and 1 if nothing cancels.
    near_critical : bool
        ``stationarity <= 0.01``.
    lowest_eigenvalue_bound : float
        Lower bound L on the Hessian's lowest eigenvalue in (W, H) at this point, critical or not; negative if and only
        if |G|_2 > tau, and attained where W and H leave a direction of feature space unused.
    critical : CriticalPoint or None
        `classify` at the class means: kind, bounds on the lowest eigenvalue, the direction out of a saddle.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(300) % 3
    >>> W = rng.standard_normal((3, 8))
    >>> H = W[labels] + 0.1 * rng.standard_normal((300, 8))
    >>> found = uf.inspect(W, H, labels, lambda_W=1e-2)
    >>> found.lower_bound <= found.loss, found.near_critical
    (True, False)
    """

    metrics: NCMetrics
    decays: Decays
    data_loss: float
    spectral_norm: float
    reason: str = ""
    ufm: UFM | None = field(default=None, repr=False)
    loss: float = math.nan
    mean_loss: float = math.nan
    lower_bound: float = math.nan
    gap: float = math.nan
    relative_gap: float = math.nan
    threshold: float = math.nan
    stationarity: float = math.nan
    near_critical: bool = False
    lowest_eigenvalue_bound: float = math.nan
    critical: CriticalPoint | None = field(default=None, repr=False)

    def __str__(self) -> str:
        m, absent = self.metrics, len(self.metrics.missing)
        collapse = (
            f"NC1 {m.nc1:.3g}, NC2 {m.nc2_means:.3g} (means) {m.nc2_W:.3g} (W), NC3 {m.nc3_product:.3g}, "
            f"NC4 {m.nc4_agreement:.4g}" + (f", {absent} of {m.K} classes without samples" if absent else "")
        )
        if self.reason:
            return f"{collapse}; data loss {self.data_loss:.8g}; not compared with a UFM: {self.reason}"
        return (
            f"{collapse}; UFM loss {self.loss:.8g}, global minimum at least {self.lower_bound:.8g} "
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
        As for `nc_metrics`; H is read twice, a batch at a time. With ``b=None`` the model has no bias. Classes without
        samples have logits like all others, and so a part in the loss, but no class mean.
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
        True: find the global minimum, over every feature dimension, for a lower bound tight to about 1e-8. False: take
        the certificate at the class means, cheaper and looser.
    progress : callable, optional
        Called with the batches done and their number, over both readings.

    Returns
    -------
    Inspection

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit: before H is read, but for what is in H. The norm of W must be zero or between 1e-30
        and 1e30, and decays between 1e-50 and 1e50 (lambda_b may be zero).
    FloatingPointError
        If the loss overflows.
    MemoryError
        If there is less memory than this needs, before H is read. `nc_metrics` needs far less.

    Warns
    -----
    RuntimeWarning
        As `nc_metrics` does. If there is no comparison with a UFM, saying what `Inspection.reason` says: decays are to
        be fitted, but no positive ones fit; or the norm of H is neither zero nor between 1e-30 and 1e30. If memory does
        not suffice to solve, and the bound is that of the class means.

    Notes
    -----
    Always in float64. Cost: five products K x d x N and, of symmetric results, a K x K x N and two d x d x N; then that
    of `classify` and of `global_minimum`, with d no less than the largest rank that a minimum can have. Memory: two
    K x K, four batch x K and some K x d and d x d arrays while H is read, then about 30 M x K and four K x K ones for
    M classes with samples (more in `global_minimum`, for some losses), and never all of H.

    Examples
    --------
    Samples that scatter about the minimum, so that the features cost more than they need to:

    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> W, means, b = uf.global_minimum(uf.UFM(5, 6, 20, lambda_W=1e-2, lambda_H=1e-4)).point
    >>> labels = np.repeat(range(5), 20)
    >>> H = means[labels] + 0.3 * np.random.default_rng(0).standard_normal((100, 6))
    >>> found = uf.inspect(W, H, labels, b, lambda_W=1e-2, lambda_H=1e-4, lambda_b=0)
    >>> found.critical.kind, f"{found.relative_gap:.2f}", f"{found.metrics.nc1:.2f}"
    ('not_critical', '0.06', '0.03')
    """
    loss_function, solve = _checked_loss(loss), flag(solve, "solve")
    choice(centre, "centre", CENTRES)
    threads = checked_threads(threads, "threads")
    if progress is not None:
        function(progress, "progress")
    given = _given_decays(lambda_W, lambda_H, lambda_b)
    classifier, bias = as_classifier(W, b)
    K, d = classifier.shape
    if classifier.any():
        check_size(float((classifier**2).sum()), "W")
    loss_function.check(K)
    each = None if weights is None else positive_numbers(weights, "weights", K, "classes")
    samples = Samples(H, labels, K, d, classes=classes, ignore_index=ignore_index)
    counts = np.bincount(samples.rows, minlength=K)
    model = partial(_model, counts, d, each, loss=loss_function, bias=b is not None, threads=threads)
    model(**{name: float(name != "lambda_b") if value is None else value for name, value in given.items()})
    workers = threads or get_num_threads()
    _require_memory(K, int(np.count_nonzero(counts)), d, next(iter(samples.slices())).stop, workers)
    data = DataTerm(classifier, bias, loss_function, len(samples.rows), b is not None, each, workers)
    metrics = _read(samples, data, W, b, centre, threads, progress)
    means = Point(classifier, metrics.class_means[counts > 0], bias)
    return _compared(model, means, metrics, data, *data.decays(**given), solve)


def _checked_loss(loss: str | Loss) -> Loss:
    checked = as_loss(loss)
    if checked.outputs(2) < 2:
        raise ValueError(f"loss must have a logit a class, as neural collapse is of class vectors, not {checked}")
    if not checked.convex:
        raise ValueError(f"loss must be convex in the logits, for a bound on the global minimum, not {checked}")
    return checked


def _given_decays(lambda_W: float | None, lambda_H: float | None, lambda_b: float | None) -> dict[str, float | None]:
    given: dict[str, float | None] = {}
    for name, value in (("lambda_W", lambda_W), ("lambda_H", lambda_H)):
        given[name] = None if value is None else usable(real_number(value, name, above=0), name)
    given["lambda_b"] = None if lambda_b is None else real_number(lambda_b, "lambda_b", least=0)
    if given["lambda_b"]:
        usable(given["lambda_b"], "lambda_b")
    return given


def _model(counts: NDArray[np.int64], d: int, weights: Array | None, **options: Any) -> UFM:
    """Return the UFM of classes; where some have no samples, one of rows for the others, with the logits of all."""
    K, present = len(counts), np.flatnonzero(counts)
    if len(present) == K:
        return UFM(K, d, counts, weights=weights, **options)
    kept = None if weights is None else weights[present]
    return UFM(K, d, targets=present, n=counts[present], weights=kept, **options)


def _require_memory(K: int, M: int, d: int, batch: int, threads: int) -> None:
    """Raise MemoryError if there is less than was measured for reading, and for comparing class means."""
    reading = 2 * K * K + 5 * d * d + (8 + threads) * K * d + batch * (4 * K + 6 * d)
    comparing = 30 * M * K + 4 * K * K + 2 * d * d + 8 * (M + K) * d
    require_memory("inspect", max(reading, comparing), K=K, M=M, d=d)


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
    batches = Readings(samples, 2, progress)
    for batch in batches:
        accumulator.update(batch.features, batch.labels)
        data.add(batch.counted.astype(np.float64), batch.rows)
    del batch  # the last one, before the second pass
    second = ((batch.features, batch.labels) for batch in batches)
    return accumulator.result(W, b, batches=second, centre=centre)


def _compared(
    model: Callable[..., UFM],
    means: Point,
    metrics: NCMetrics,
    data: DataTerm,
    decays: Decays,
    reason: str,
    solve: bool,
) -> Inspection:
    """Compare the samples, and their class means, with what the model's critical points and global minimum are."""
    norm, comparison = data.spectral_norm(), {}
    if not reason:
        ufm = model(lambda_W=decays.lambda_W, lambda_H=decays.lambda_H, lambda_b=decays.lambda_b)
        try:
            comparison = _comparison(ufm, means, data, decays, norm, solve)
        except MemoryError as error:
            reason = str(error) or "memory does not suffice"
    if reason:
        warn(f"there is no comparison with a UFM: {reason}", RuntimeWarning)
    return Inspection(
        metrics=metrics, decays=decays, data_loss=data.value, spectral_norm=norm, reason=reason, **comparison
    )


def _comparison(
    ufm: UFM, means: Point, data: DataTerm, decays: Decays, spectral_norm: float, solve: bool
) -> dict[str, Any]:
    critical, here = classified(ufm, means, GRADIENT_TOLERANCE, CERTIFICATE_TOLERANCE)
    loss = data.loss(decays)
    # Only rounding brings the loss below a bound: logits that lose more have ridges far above the minimum.
    lower_bound = min(loss, _lower_bound(ufm, here, solve))
    stationarity = data.stationarity(decays)
    return {
        "ufm": ufm,
        "loss": loss,
        "mean_loss": critical.certificate.loss,
        "lower_bound": lower_bound,
        "gap": loss - lower_bound,
        "relative_gap": relative_to(loss, loss - lower_bound),
        "threshold": ufm.tau,
        "stationarity": stationarity,
        "near_critical": stationarity <= _NEAR,
        "lowest_eigenvalue_bound": lower_branch(ufm, spectral_norm),
        "critical": critical,
    }


def _lower_bound(ufm: UFM, here: Linearization, solve: bool) -> float:
    """Bound the global minimum at the class means and, to solve, where it is, in as many features as that needs."""
    bound = certificate_at(here).lower_bound
    if solve:
        wide = in_double(ufm, collapse=True, d=max(ufm.d, largest_rank(ufm)))
        try:
            with held_convergence_warnings():  # its bound is valid all the same
                return max(bound, global_minimum(wide).certificate.lower_bound)
        except MemoryError as error:
            warn(f"the lower bound is that of the class means: {error}", RuntimeWarning)
    return bound
