"""Metrics of neural regression collapse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._numerics.class_geometry import rounding_of_svd
from .._runtime import linalg
from .._runtime.arguments import flag
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.warnings import warn
from .arrays import as_real, precision_of
from .feature_batches import FeatureBatches
from .tables import aligned, short

_COINCIDING = 64  # roundings of the largest feature: a feature that is no farther from the centre has no direction


@dataclass(frozen=True)
class NRCMetrics:
    """How collapsed the features and the last layer of a regression network are.

    With features h_i (d,), targets y_i (n,) and the last layer W (n, d) of a network with a bias, the features less
    their mean are divided by their norms, ``g_i = (h_i - mean) / |h_i - mean|``, and Sigma is the covariance of the
    targets, ``(1/N) sum_i (y_i - mean)(y_i - mean)^T``, with eigenvalues s_1 >= ... >= s_n. Without a bias nothing is
    taken about its mean. What is undefined is NaN, with a warning.

    Attributes
    ----------
    n, d, N : int
    nrc1 : float
        Mean squared distance of the g_i to the span of the n principal directions of the features.
    nrc2 : float
        Mean squared distance of the g_i to the row space of W, of dimension `rank_W`.
    nrc3 : float
        ``| W W^T / |W W^T|_F - A / |A|_F |_F^2`` with ``A = Sigma^(1/2) - gamma^(1/2) I``, the least that it comes to
        for gamma in (0, s_n).
    gamma : float
        Where it does (an end of the interval, if that is where it tends to the least).
    nrc3_positive, gamma_positive : float
        The same for ``A = (Sigma^(1/2) - gamma^(1/2) I)_+``, eigenvalues below zero replaced by it, and gamma in
        (0, s_1). If several gamma do as well, the least.
    rank_W : int
        Number of singular values of W above ``u |W|_F``, which rounding of its entries (to their own type, of relative
        precision u) can make of zeros, and above what the decomposition leaves, ``max(n, d) 2^-52`` of the largest.
    left_out : int
        Features that do not differ from the mean (zeros, without a bias) by more than their rounding: they have no
        direction, and NRC1 and NRC2 are means over the others.
    spectrum_targets : ndarray, shape (n,)
        Eigenvalues of Sigma, descending.
    spectrum_features : ndarray, shape (d,)
        Of the features' covariance.

    Notes
    -----
    The metrics are those of Andriopoulos et al. 2024, arXiv:2409.04180 (their code does not centre the features that it
    normalises). Sigma^(1/2) is the symmetric square root, not a Cholesky factor. At the minimum of the model
    ``(1/2N) sum_i |W h_i + b - y_i|^2 + lambda_W/2 |W|^2 + lambda_H/2 sum_i |h_i|^2``

        W W^T = sqrt(N lambda_H / lambda_W) (Sigma^(1/2) - gamma^(1/2) I)_+,    gamma = N lambda_W lambda_H,

    (and the same without a bias and means; a bias with a decay between zero and infinity has another optimum). Where
    some s_j is below gamma the positive part counts: `nrc3_positive` vanishes at every minimum but W = 0 and `nrc3`,
    as published, only if gamma < s_n.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> Y, W = rng.standard_normal((100, 2)), rng.standard_normal((2, 6))
    >>> metrics = uf.nrc_metrics(W, Y @ W, Y)
    >>> metrics.nrc1 < 1e-12, metrics.rank_W  # the features lie in the row space of W
    (True, 2)
    """

    n: int
    d: int
    N: int
    nrc1: float
    nrc2: float
    nrc3: float
    gamma: float
    nrc3_positive: float
    gamma_positive: float
    rank_W: int
    left_out: int
    spectrum_targets: Array = field(repr=False)
    spectrum_features: Array = field(repr=False)

    def __str__(self) -> str:
        """Return a table of the metrics, and of what they are at collapse."""
        goals = {"nrc1": "0", "nrc2": "0", "nrc3": "0", "gamma": "", "nrc3_positive": "0", "gamma_positive": "",
                 "rank_W": "", "left_out": ""}  # fmt: skip
        rows = [["", "value", "collapsed"], *([name, short(getattr(self, name)), goal] for name, goal in goals.items())]
        return f"n = {self.n}, d = {self.d}, N = {self.N}\n{aligned(rows)}"


@single_threaded_blas()
def nrc_metrics(W: ArrayLike, H: Any, Y: ArrayLike, *, bias: bool = True) -> NRCMetrics:
    """Compute metrics of neural regression collapse.

    Parameters
    ----------
    W : array, shape (n, d)
        Last layer, a row a target; n = 1 for univariate regression.
    H : array of float32 or float64, shape (N, d)
        Features, its inputs, a row a sample; a memory-mapped array, or anything with a shape that gives arrays when
        sliced, is read three times in batches of at most 2048 rows. This and other arrays may be those of other
        libraries, as for `nc_metrics`.
    Y : array of real numbers, shape (N, n), or (N,) if n = 1
        Targets.
    bias : bool, default True
        Whether the network's last layer has a bias; without one, features and targets are not centred.

    Returns
    -------
    NRCMetrics

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, or an entry is not finite.

    Warns
    -----
    RuntimeWarning
        If a metric is undefined: W vanishes, or the targets or the features do not vary.

    Notes
    -----
    Memory: ``2 d^2`` float64 numbers and a few batches, however many samples, besides the targets. Cost: QR
    factorisations of the features, batch by batch, ``2 N d^2`` operations and up, and singular value decompositions of
    d x d, n x n and n x d.

    Examples
    --------
    At the minimum of the unconstrained feature model all metrics vanish:

    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> Y = np.random.default_rng(0).standard_normal((50, 3))
    >>> U, s, Vt = np.linalg.svd(Y - Y.mean(axis=0), full_matrices=False)
    >>> root = np.sqrt(s - 50 * 1e-2)  # 50 tau, with both decays tau
    >>> m = uf.nrc_metrics(Vt.T * root, U * root, Y)
    >>> max(m.nrc1, m.nrc2, m.nrc3) < 1e-20
    True
    >>> round(m.gamma, 9)  # N lambda_W lambda_H
    0.005
    """
    bias = flag(bias, "bias")
    layer = _finite(as_real(W, "W"), "W")
    if layer.ndim != 2 or 0 in layer.shape:
        raise ValueError(f"W must have shape (n, d), a row a target, not {layer.shape}")
    n, d = layer.shape
    features = FeatureBatches(H, d, n)
    targets = _as_targets(Y, features.N, n)
    centre = features.mean if bias else np.zeros(d)
    values, directions = features.principal(centre)
    row_space = _row_space(layer, precision_of(W))
    rows = _Directions(features, centre)
    nrc1, nrc2 = rows.distances([directions[:n], row_space])
    fit = _structure(layer, targets - targets.mean(axis=0) if bias else targets)
    spectrum = np.zeros(d)
    spectrum[: len(values)] = values**2 / features.N
    if rows.left_out == features.N:
        warn("NRC1 and NRC2 are undefined: no feature differs from the centre by more than rounding", RuntimeWarning)
    elif len(row_space) == 0:
        nrc2 = np.nan
    if np.isnan(fit.positive.value):
        warn("NRC3, and NRC2 for W = 0, are undefined: W vanishes, or the targets do not vary", RuntimeWarning)
    return NRCMetrics(
        n=n,
        d=d,
        N=features.N,
        nrc1=nrc1,
        nrc2=nrc2,
        nrc3=fit.published.value,
        gamma=fit.published.root**2,
        nrc3_positive=fit.positive.value,
        gamma_positive=fit.positive.root**2,
        rank_W=len(row_space),
        left_out=rows.left_out,
        spectrum_targets=fit.deviations**2,
        spectrum_features=spectrum,
    )


class _Directions:
    """Features about a centre, normalised; those with no direction are left out."""

    def __init__(self, features: FeatureBatches, centre: Array) -> None:
        self.features, self.centre, self.left_out = features, centre, 0
        self.shortest = _COINCIDING * features.precision * features.largest

    def distances(self, bases: list[Array]) -> list[float]:
        """Return mean squared distances to the spans of orthonormal rows."""
        totals, self.left_out = np.zeros(len(bases)), 0
        for _, batch in self.features.about(self.centre):
            norms = np.linalg.norm(batch, axis=1)
            counted = norms > self.shortest
            self.left_out += int((~counted).sum())
            unit = batch[counted] / norms[counted, None]
            totals += [float(((unit - (unit @ basis.T) @ basis) ** 2).sum()) for basis in bases]
        count = self.features.N - self.left_out
        return [float(total) / count if count else np.nan for total in totals]


class _Best(NamedTuple):
    value: float
    root: float


class _Fit(NamedTuple):
    """The best of both forms of NRC3, with the square root of gamma, and the square roots of Sigma's eigenvalues."""

    published: _Best
    positive: _Best
    deviations: Array


def _structure(W: Array, targets: Array) -> _Fit:
    """Minimise NRC3 over gamma, exactly: between two eigenvalues the distance has one stationary point.

    With g = sqrt(gamma), sigma_j the roots of the eigenvalues, V the eigenvectors and M = V^T W W^T V / |W W^T|, the
    distance of M to D = diag((sigma_j - g)_+) / |..| falls as the cosine of M and D rises. While the m largest sigma_j
    exceed g that is (a - g t) / sqrt(q - 2 g p + g^2 m), with sums over these of M_jj sigma_j, M_jj, sigma_j^2 and
    sigma_j for a, t, q and p; its derivative vanishes at g = (t q - a p) / (p t - a m) only.
    """
    triangle = linalg.qr(targets, mode="r") / np.sqrt(len(targets))
    _, values, V = linalg.svd(triangle, full_matrices=True)
    sigma = np.zeros(len(W))
    sigma[: len(values)] = values
    turned = V @ W
    M = turned @ turned.T
    size = float(np.linalg.norm(M))
    if not (size > 0 and sigma[0] > 0):
        return _Fit(_Best(np.nan, np.nan), _Best(np.nan, np.nan), sigma)
    M /= size
    own = M.diagonal()
    others = float(((M - np.diag(own)) ** 2).sum())

    def best(candidates: Iterator[tuple[float, int]]) -> _Best:
        found = []
        for g, m in candidates:
            rest = sigma[:m] - g
            D = np.zeros_like(sigma)
            D[:m] = rest / np.linalg.norm(rest)
            found.append(_Best(others + float(((own - D) ** 2).sum()), g))
        return min(found, key=lambda item: (item.value, item.root))

    everything = _candidates(own, sigma, len(sigma), 0.0, float(sigma[-1]))
    pieces = (piece for m in range(len(sigma), 0, -1) for piece in _piece(own, sigma, m))
    return _Fit(best(everything), best(pieces), sigma)


def _piece(own: Array, sigma: Array, m: int) -> Iterator[tuple[float, int]]:
    """Yield where the distance may be least while the m largest sigma_j, and no more, exceed g."""
    low = float(sigma[m]) if m < len(sigma) else 0.0
    if low < sigma[m - 1]:
        yield from _candidates(own, sigma, m, low, float(sigma[m - 1]))


def _candidates(own: Array, sigma: Array, m: int, low: float, high: float) -> Iterator[tuple[float, int]]:
    """Yield both ends of an interval of g and the stationary point in it, with m; but none where D vanishes."""
    a, t = float(own[:m] @ sigma[:m]), float(own[:m].sum())
    q, p = float(sigma[:m] @ sigma[:m]), float(sigma[:m].sum())
    slope = p * t - a * m
    yield low, m
    if slope != 0 and low < (g := (t * q - a * p) / slope) < high:
        yield g, m
    if sigma[0] > high:
        yield high, m


def _row_space(W: Array, precision: float) -> Array:
    """Return orthonormal rows that span the row space of W, but for what rounding may have added."""
    _, values, directions = linalg.svd(W, full_matrices=False)
    cut_off = max(precision * float(np.linalg.norm(W)), rounding_of_svd(W.shape, values))
    return np.asarray(directions[values > cut_off])


def _as_targets(Y: ArrayLike, N: int, n: int) -> Array:
    targets = _finite(as_real(Y, "Y"), "Y")
    if targets.ndim == 1 and n == 1:
        targets = targets[:, None]
    if targets.shape != (N, n):
        hint = ": transpose it" if targets.shape == (n, N) else ""
        raise ValueError(f"Y must have shape ({N}, {n}), as many rows as H and columns as W has rows, not "
                         f"{targets.shape}{hint}")  # fmt: skip
    return targets


def _finite(array: Any, name: str) -> Array:
    converted = np.asarray(array, dtype=np.float64)
    if not np.isfinite(converted).all():
        raise ValueError(f"{name} must be finite, but holds a NaN or an infinity")
    return converted
