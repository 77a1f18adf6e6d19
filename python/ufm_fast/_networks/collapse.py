"""The neural-collapse metrics of a classifier and of moments of features, and what is undefined among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._numerics import class_geometry
from .._runtime.arrays import Array
from .moments import Moments, ratio
from .nc_metrics import NCMetrics

_EPS = float(np.finfo(np.float64).eps)
_UNCERTAIN = 0.01  # part of NC1
_UNRESOLVED = 0.1  # part of NC1 that roundings of S_W would be if all added up; measured ones are about a 300th of it


def measured(
    moments: Moments,
    W: Array,
    b: Array,
    eps: float,
    names: NDArray[np.int64],
    *,
    batches: Iterable[NDArray[Any]] | None,
    threads: int,
) -> tuple[NCMetrics, list[str]]:
    """Return all metrics, and what to say about those that are undefined; `names` are the classes' labels."""
    found = moments.variability() | classifier_metrics(W, b, moments, eps) | row_metrics(W, moments)
    found["nc4_agreement"] = np.nan
    if batches is not None and moments.between.rank > 0:
        found["nc4_agreement"] = moments.agreement(batches, W, b, threads)
    metrics = NCMetrics(
        K=len(W),
        d=W.shape[1],
        N=int(moments.counts.sum()),
        counts=moments.counts,
        centre=moments.centre,
        global_mean=moments.global_mean,
        class_means=moments.class_means,
        class_variances=moments.variances,
        **found,
    )
    return metrics, list(gaps(found, W, moments, names))


def classifier_metrics(W: Array, b: Array, moments: Moments, eps: float) -> dict[str, Any]:
    """Metrics of W alone, and of W beside the class means; eps is that of the type that W came in."""
    values = np.asarray(np.linalg.svd(W, compute_uv=False), dtype=np.float64)
    norm = float(np.linalg.norm(W))
    return {
        "bias_term": math.hypot(*(b + W @ moments.global_mean)),
        "norm_ratio": ratio(norm**2 / len(W), moments.mean_square),
        "rank_W": int((values > eps / 2 * norm + class_geometry.rounding_of_svd(W.shape, values)).sum()),
        "singular_values_W": values,
    }


def row_metrics(W: Array, moments: Moments) -> dict[str, float]:
    """NC2 and NC3, none of which depends on the size of W or of the features."""
    W, M, means = _scaled(W), _scaled(moments.centred), _scaled(moments.class_means)
    W_centred = _centred_rows(W)
    sets = {"W": W, "W_centred": W_centred, "means": M}
    angles = {name: class_geometry.angles(rows) for name, rows in sets.items()}
    return {
        **{f"nc2_{name}": class_geometry.distance_to_etf(rows, rows) for name, rows in sets.items()},
        "nc2_means_uncentred": class_geometry.distance_to_etf(means, means),
        **{f"equinorm_{name}": class_geometry.norm_spread(rows) for name, rows in sets.items()},
        **{f"cosine_mean_{name}": value.mean for name, value in angles.items()},
        **{f"cosine_std_{name}": value.std for name, value in angles.items()},
        **{f"equiangularity_{name}": value.from_etf for name, value in angles.items()},
        "nc3_product": class_geometry.distance_to_etf(W, M),
        "nc3_product_centred": class_geometry.distance_to_etf(W_centred, M),
        "nc3_duality": class_geometry.duality(W, M),
        "nc3_duality_centred": class_geometry.duality(W_centred, M),
    }


def gaps(found: dict[str, Any], W: Array, moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    """Say which metrics are undefined or leave something out, and why, with the classes' labels."""
    empty, single = moments.counts == 0, moments.counts == 1
    if empty.any():
        yield f"class means, and all metrics of them, are undefined: no samples of {_classes(names[empty])}"
    if single.any():
        yield f"within-class variation of {_classes(names[single])} cannot be measured: one sample"
    if not moments.mean_square > 0:
        yield "all features are zero: norm_ratio is undefined"
    if not empty.any():
        yield from _gaps_of_means(found, moments, names)
    W = _scaled(W)
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
        if np.isnan(found[name]) and moments.between.rank > 0 and rows.any():
            yield f"each row of W is orthogonal to each class mean: {name} is undefined"


def _gaps_of_means(found: dict[str, Any], moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    between = moments.between
    rounding = f"by no more than rounding may have done ({between.cut_off:.1e})"
    if between.rank == 0:
        how = f"differ {rounding}" if between.dropped else "coincide"
        yield f"class means {how}: metrics of their differences are undefined"
        return
    if between.dropped:
        yield (
            f"NC1 leaves out {between.dropped} of {between.rank + between.dropped} directions, in which class means "
            f"differ {rounding}"
        )
    parts, kept = between.whitened(moments.within), between.singular_values[: between.rank]
    if parts @ (2 * between.cut_off / kept) > _UNCERTAIN * parts.sum():
        yield (
            f"NC1 may be off by more than {_UNCERTAIN:.0%}: in some directions class means differ by little more than "
            f"rounding may have done ({between.cut_off:.1e})"
        )
    unresolved = moments.precision * found["spectrum_within"][0]
    if (unresolved * len(names) / kept**2).sum() > _UNRESOLVED * parts.sum():
        yield (
            "NC1 depends on directions in which classes vary less than the products of float32 features resolve: pass "
            "float64 features"
        )
    middle = ~moments.centred.any(axis=1)
    if middle.any():
        yield f"the mean of {_classes(names[middle])} is the global mean: cosines of class means are undefined"
    if not np.isfinite(found["cdnv"]) and (moments.counts > 1).sum() > 1:
        yield "two class means coincide: cdnv is infinite, or undefined where their classes do not vary"


def _centred_rows(W: Array) -> Array:
    """W minus the mean of its rows; rows that are no more than rounding are zero."""
    differences = W - W[0]
    centred: Array = differences - differences.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    centred[norms <= max(W.shape) * _EPS * norms.max()] = 0
    return centred


def _scaled(rows: Array) -> Array:
    """Divide by the power of two next to the largest entry, so that no product overflows or vanishes."""
    exponent = int(np.frexp(np.nan_to_num(np.abs(rows)).max())[1])
    return np.ldexp(rows, -exponent)


def _classes(labels: NDArray[np.int64]) -> str:
    shown = ", ".join(map(str, labels[:10]))
    return f"class{'es' if len(labels) > 1 else ''} {shown}{', ...' if len(labels) > 10 else ''}"
