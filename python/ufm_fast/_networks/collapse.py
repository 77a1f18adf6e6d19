"""The neural-collapse metrics of a classifier and of moments of features, and what is undefined among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._numerics import class_geometry
from .._runtime import linalg
from .._runtime.arrays import Array
from .agreement import Seen, agreement
from .arrays import precision_of
from .features import as_classifier
from .moments import Moments, ratio
from .nc_metrics import SHAPES, NCMetrics

_EPS = float(np.finfo(np.float64).eps)
_MODERATE = 200  # exponents of two: sums of fourth powers of such numbers are far from over- and underflow
_UNCERTAIN = 0.01  # part of NC1
_UNRESOLVED = 0.1  # part of NC1 that roundings of S_W would be if all added up; measured ones are about a 300th of it


class Classifier(NamedTuple):
    """W (K, d) and b (K,) in float64, and eps of the type that W came in."""

    W: Array
    b: Array
    eps: float


def classifier_of(W: Any, b: Any, K: int | None = None, d: int | None = None) -> Classifier | None:
    """Check W, of shape (K, d) if these are known, and b; None if there is no W."""
    if W is not None:
        return Classifier(*as_classifier(W, b, K, d), precision_of(W))
    if b is not None:
        raise ValueError("b must be None where W is")
    return None


def measured(
    moments: Moments,
    classifier: Classifier | None,
    names: NDArray[np.int64],
    *,
    batches: Iterable[Seen] | None,
    left_out: int,
) -> tuple[NCMetrics, list[str]]:
    """Return all metrics, and what to say about those that are undefined; `names` are the classes' labels.

    Without a classifier they are of the features alone.
    """
    found = moments.variability() | mean_metrics(moments)
    W = None
    if classifier is not None:
        W, b = moments.rows_of_present(classifier.W), moments.rows_of_present(classifier.b)
        found |= classifier_metrics(W, b, moments, classifier.eps) | row_metrics(W, moments)
        if batches is not None and moments.between.rank.kept > 0:
            found["nc4_agreement"] = agreement(moments, batches, classifier.W, classifier.b)
    metrics = NCMetrics(
        K=len(names),
        d=len(moments.global_mean),
        N=int(moments.all_counts.sum()),
        left_out=left_out,
        counts=moments.all_counts,
        missing=names[moments.all_counts == 0],
        centre=moments.centre,
        global_mean=moments.global_mean,
        class_means=moments.of_all_classes(moments.class_means),
        class_variances=moments.of_all_classes(moments.variances),
        **found,
    )
    return metrics, list(gaps(found, W, moments, names))


def classifier_metrics(W: Array, b: Array, moments: Moments, eps: float) -> dict[str, Any]:
    """Metrics of W alone, and of W beside the global mean; eps is that of the type that W came in."""
    values = np.asarray(linalg.svd(W, compute_uv=False), dtype=np.float64)
    norm = float(np.linalg.norm(W))
    rank = class_geometry.Rank.of(values, W, len(values), eps / 2 * norm)
    row_sum = float(np.linalg.norm(W.sum(axis=0)))
    return {
        "nc0": row_sum,
        "nc0_relative": ratio(row_sum, math.sqrt(len(W)) * norm),
        "bias_term": math.hypot(*(b + W @ moments.global_mean)),
        "norm_ratio": ratio(norm**2 / len(W), moments.mean_square),
        "rank_W": rank.kept,
        "dropped_W": rank.dropped,
        "singular_values_W": values,
    }


def mean_metrics(moments: Moments) -> dict[str, float]:
    """NC2 of the class means, none of which depends on their size."""
    M, exponent = _scaled(moments.centred)
    means, _ = _scaled(moments.class_means)
    roundings = np.ldexp(moments.roundings + moments.global_rounding, -exponent)
    return _shape("means", M, moments, roundings) | {
        "nc2_means_uncentred": class_geometry.distance_to_etf(means, means, moments.threads)
    }


def row_metrics(W: Array, moments: Moments) -> dict[str, float]:
    """NC2 of W and NC3, none of which depends on the size of W or of the features."""
    W, M = _scaled(W)[0], _scaled(moments.centred)[0]
    found: dict[str, float] = {}
    for suffix, rows in (("", W), ("_centred", _centred_rows(W))):
        mean, std = class_geometry.alignment(rows, M)
        found |= _shape(f"W{suffix}", rows, moments) | {
            f"nc3_product{suffix}": class_geometry.distance_to_etf(rows, M, moments.threads),
            f"nc3_duality{suffix}": class_geometry.duality(rows, M),
            f"nc3_cosine_mean{suffix}": mean,
            f"nc3_cosine_std{suffix}": std,
        }
    return found


def _shape(name: str, rows: Array, moments: Moments, roundings: Array | None = None) -> dict[str, float]:
    angles = class_geometry.angles(rows, roundings, moments.threads)
    values = (
        class_geometry.distance_to_etf(rows, rows, moments.threads), class_geometry.norm_spread(rows),
        angles.mean, angles.std, angles.from_etf, angles.log_mean, angles.log_std,
    )  # fmt: skip
    return {f"{metric}_{name}": value for metric, value in zip(SHAPES, values, strict=True)}


def gaps(found: dict[str, Any], W: Array | None, moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    """Say which metrics are undefined or leave something out, and why, with the classes' labels.

    W has the rows of the present classes.
    """
    missing = moments.all_counts == 0
    names, single = names[moments.present], moments.counts == 1
    if missing.any():
        yield f"{missing.sum()} of {len(missing)} classes have no samples: metrics are those of the others"
    if single.any():
        yield f"within-class variation of {_classes(names[single])} cannot be measured: one sample"
    if W is not None and not moments.mean_square > 0:
        yield "all features are zero: norm_ratio is undefined"
    if len(names) == 1:
        yield f"only {_classes(names)} has samples: metrics of several classes are undefined"
        return
    yield from _gaps_of_means(found, moments, names)
    if W is not None:
        yield from _gaps_of_rows(found, _scaled(W)[0], moments, names)


def _gaps_of_rows(found: dict[str, Any], W: Array, moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    W_centred = _centred_rows(W)
    for rows, whole, one, metrics in (
        (W, "W is zero", "W is zero in the row of", "W"),
        (W_centred, "all rows of W are equal", "the mean of W's rows is the row of", "centred W"),
    ):
        zero = ~rows.any(axis=1)
        if zero.all():
            yield f"{whole}: metrics of {metrics} are undefined"
        elif zero.any():
            yield f"{one} {_classes(names[zero])}: cosines of {metrics} are undefined"
    for name, rows in (("nc3_product", W), ("nc3_product_centred", W_centred)):
        if np.isnan(found[name]) and moments.between.rank.kept > 0 and rows.any():
            yield f"each row of W is orthogonal to each class mean: {name} is undefined"
    for suffix, rows in (("W", W), ("W_centred", W_centred)):
        if np.isinf(found[f"uniformity_mean_{suffix}"]):
            yield f"two rows of {'centred ' if rows is W_centred else ''}W have one direction: uniformity is infinite"


def _gaps_of_means(found: dict[str, Any], moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    between = moments.between
    kept, dropped, cut_off = between.rank
    rounding = f"by no more than rounding may have done ({cut_off:.1e})"
    if kept == 0:
        how = f"differ {rounding}" if dropped else "coincide"
        yield f"class means {how}: metrics of their differences are undefined"
        return
    if dropped and moments.whitened is not None:
        yield f"NC1 leaves out {dropped} of {kept + dropped} directions, in which class means differ {rounding}"
    yield from _gaps_of_nc1(moments)
    middle = ~moments.centred.any(axis=1)
    if middle.any():
        yield f"the mean of {_classes(names[middle])} is the global mean: cosines of class means are undefined"
    if not np.isfinite(found["cdnv"]) and (moments.counts > 1).sum() > 1:
        yield "two class means coincide: cdnv is infinite, or undefined where their classes do not vary"
    if np.isinf(found["uniformity_mean_means"]):
        yield "two class means have one direction from the global mean: uniformity is infinite"


def _gaps_of_nc1(moments: Moments) -> Iterator[str]:
    parts, between = moments.whitened, moments.between
    if parts is None:
        return
    kept = between.singular_values[: between.rank.kept]
    if parts @ (2 * between.rank.cut_off / kept) > _UNCERTAIN * parts.sum():
        yield (
            f"NC1 may be off by more than {_UNCERTAIN:.0%}: in some directions class means differ by little more than "
            f"rounding may have done ({between.rank.cut_off:.1e})"
        )
    unresolved = moments.precision * moments.spectrum_within[0]
    if (unresolved * len(moments.present) / kept**2).sum() > _UNRESOLVED * parts.sum():
        yield (
            "NC1 depends on directions in which classes vary less than the products of float32 features resolve: pass "
            "float64 features"
        )


def _centred_rows(W: Array) -> Array:
    """W minus the mean of its rows; rows that are no more than rounding are zero."""
    differences = W - W[0]
    centred: Array = differences - differences.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    centred[norms <= max(W.shape) * _EPS * norms.max()] = 0
    return centred


def _scaled(rows: Array) -> tuple[Array, int]:
    """Divide by a power of two near the largest entry, if products might overflow or vanish; return its exponent."""
    exponent = int(np.frexp(np.abs(rows).max())[1])
    return (rows, 0) if abs(exponent) < _MODERATE else (np.ldexp(rows, -exponent), exponent)


def _classes(labels: NDArray[np.int64]) -> str:
    shown = ", ".join(map(str, labels[:10]))
    return f"class{'es' if len(labels) > 1 else ''} {shown}{', ...' if len(labels) > 10 else ''}"
