"""The neural-collapse metrics, and how each is defined."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runtime.arrays import Array
from .tables import aligned, short

SHAPES = ("nc2", "equinorm", "cosine_mean", "cosine_std", "equiangularity", "uniformity_mean", "uniformity_std")
_DUALITIES = ("nc3_product", "nc3_duality", "nc3_cosine_mean", "nc3_cosine_std")


@dataclass(frozen=True, kw_only=True)
class NCMetrics:
    """How collapsed features and a classifier are.

    Of the classes that have samples: in the formulas K stands for their number and W for their rows, and everything is
    over them alone; only a sample's largest logit, in NC4, may be that of any class. With class means mu_k, N samples,
    the sample-weighted global mean mu_G (or, on request, the mean of the class means), M the rows mu_k - mu_G,
    ``S_W = (1/N) sum_i (h_i - mu_{k(i)})(h_i - mu_{k(i)})^T``, ``S_B = (1/K) M^T M`` and
    ``T = (I - 11^T/K) / sqrt(K - 1)``, the Gram matrix of a simplex ETF scaled to unit Frobenius norm. "Centred" W is W
    minus the mean of its rows. What is undefined is NaN, with a warning from `NCAccumulator.result` that says why; so
    are, without one, metrics of W where there is no W. ``print`` shows a table of the metrics with what they are at
    exact collapse.

    Attributes
    ----------
    K, d, N : int
        Here K counts all classes.
    left_out : int
        Samples that were ignored; N does not count them.
    counts : ndarray of int64, shape (K,)
    missing : ndarray of int64
        Labels of the classes without samples.
    centre : {"samples", "classes"}
        Which global mean mu_G is.
    nc1 : float
        ``trace(S_W S_B^+) / K`` (Papyan, Han & Donoho 2020, arXiv:2008.08186; Zhu et al. 2021, arXiv:2105.02375), not
        negative. S_B^+ keeps the `rank_means` directions in which class means differ by more than rounding. NaN if no
        class has two samples, all class means coincide or, with statistics="traces", S_W was not summed.
    nc1_trace_ratio : float
        ``trace(S_W) / trace(S_B)``; needs no pseudo-inverse. The quotient form of NC1 (Tirer, Huang & Niles-Weed 2023,
        arXiv:2210.16658).
    cdnv : float
        Class-distance normalised variance (Galanti et al. 2021, arXiv:2112.15121): the mean over pairs of different
        classes of ``(V_j + V_k) / (2 |mu_j - mu_k|^2)`` with V_k the mean of |h - mu_k|^2 over class k. Classes of one
        sample, which have no variance to measure, are left out.
    nc2_W, nc2_W_centred : float
        ``| W W^T / |W W^T|_F - T |_F`` for W as it is (arXiv:2105.02375) and for centred W (Zhou et al. 2022,
        arXiv:2203.01238).
    nc2_means, nc2_means_uncentred : float
        The same for M and for the class means themselves.
    equinorm_W, equinorm_W_centred, equinorm_means : float
        Standard deviation over classes of the row norms, divided by their mean (arXiv:2008.08186).
    cosine_mean_W, cosine_mean_W_centred, cosine_mean_means : float
        Mean over pairs of classes of the cosine between rows; -1/(K-1) for a simplex ETF.
    cosine_std_W, cosine_std_W_centred, cosine_std_means : float
        Their standard deviation: 0 if equiangular (arXiv:2008.08186).
    equiangularity_W, equiangularity_W_centred, equiangularity_means : float
        Mean of ``|cosine + 1/(K-1)|`` (maximal-angle equiangularity of arXiv:2008.08186).
    uniformity_mean_W, uniformity_mean_W_centred, uniformity_mean_means : float
        Hyperspherical uniformity: with directions u_k, the rows over their norms, the mean over pairs of classes of
        ``log(1 / |u_j - u_k|)``, the logarithmic energy of Liu et al. 2023, arXiv:2303.06484, which is least where
        directions are spread evenly: ``-log(2K/(K-1)) / 2`` for a simplex ETF. Infinite if two rows have one direction.
    uniformity_std_W, uniformity_std_W_centred, uniformity_std_means : float
        Standard deviation of these numbers; 0 if equiangular. GNC2 of Wu & Papyan 2024, arXiv:2405.17767, is about how
        these numbers vary over pairs of class means: their code gives the variance, the square of this.
    nc0 : float
        ``| sum_k w_k |_2``, the norm of the vector of column sums of W: 0 is necessary for collapse (Zhao et al. 2026,
        arXiv:2602.16642, here as their code computes it; other multiples and powers of it are in use).
    nc0_relative : float
        The same over its largest possible value, ``sqrt(K) |W|_F``: in [0, 1], whatever the size of W.
    nc3_product, nc3_product_centred : float
        ``| W M^T / |W M^T|_F - T |_F`` for W as it is (arXiv:2105.02375) and centred (arXiv:2203.01238).
    nc3_duality, nc3_duality_centred : float
        ``| W/|W|_F - M/|M|_F |_F^2`` (arXiv:2008.08186) for W as it is and centred.
    nc3_cosine_mean, nc3_cosine_mean_centred : float
        Mean over classes of the cosine between w_k, as it is and centred, and mu_k - mu_G; 1 at collapse.
    nc3_cosine_std, nc3_cosine_std_centred : float
        Its standard deviation, 0 where all classes are aligned alike: uniform duality, UNC3 of arXiv:2405.17767. Their
        code also has the variance of the products <w_k, mu_k - mu_G> themselves, which depends on sizes.
    nc4_agreement : float
        Fraction of samples for which the largest logit is that of the nearest class mean; 1 at collapse (the papers
        plot 1 minus this). NaN where the features were not given a second time or class means coincide.
    bias_term : float
        ``| b + W mu_G |_2`` (arXiv:2105.02375).
    norm_ratio : float
        Mean |w_k|^2 over mean |h_i|^2; ``n lambda_H / lambda_W`` at the global optimum of a balanced UFM.
    rank_W : int or None
        Number of singular values of W above ``u |W|_F``, which rounding of its entries (to their own type, of relative
        precision u) can make of zeros, plus what the decomposition leaves, ``max(K, d) 2^-52`` of the largest.
    rank_means : int
        Number of singular values of M above the error of the class means, summed in float64 from the features as they
        are, plus what the decomposition leaves; at most K - 1.
    dropped_W, dropped_means : int
        Numbers of other singular values that are not zero: directions left out because they may be rounding.
    singular_values_W, singular_values_means : ndarray
        Of W (none without it) and M, descending.
    spectrum_within, spectrum_between : ndarray, shape (d,)
        Eigenvalues of S_W and S_B, descending; NaN where S_W was not summed.
    global_mean : ndarray, shape (d,)
    class_means : ndarray, shape (K, d)
        NaN for classes without samples.
    class_variances : ndarray, shape (K,)
        V_k; 0 for classes of one sample, NaN for empty ones.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(300) % 3
    >>> W = rng.standard_normal((3, 8))
    >>> H = W[labels] + 0.1 * rng.standard_normal((300, 8))
    >>> metrics = uf.nc_metrics(W, H, labels)
    >>> metrics.counts.tolist(), metrics.missing.tolist(), metrics.rank_means
    ([100, 100, 100], [], 2)
    """

    K: int
    d: int
    N: int
    left_out: int
    counts: NDArray[np.int64]
    missing: NDArray[np.int64]
    centre: str
    nc1: float
    nc1_trace_ratio: float
    cdnv: float
    nc2_W: float = math.nan
    nc2_W_centred: float = math.nan
    nc2_means: float
    nc2_means_uncentred: float
    equinorm_W: float = math.nan
    equinorm_W_centred: float = math.nan
    equinorm_means: float
    cosine_mean_W: float = math.nan
    cosine_mean_W_centred: float = math.nan
    cosine_mean_means: float
    cosine_std_W: float = math.nan
    cosine_std_W_centred: float = math.nan
    cosine_std_means: float
    equiangularity_W: float = math.nan
    equiangularity_W_centred: float = math.nan
    equiangularity_means: float
    uniformity_mean_W: float = math.nan
    uniformity_mean_W_centred: float = math.nan
    uniformity_mean_means: float
    uniformity_std_W: float = math.nan
    uniformity_std_W_centred: float = math.nan
    uniformity_std_means: float
    nc0: float = math.nan
    nc0_relative: float = math.nan
    nc3_product: float = math.nan
    nc3_product_centred: float = math.nan
    nc3_duality: float = math.nan
    nc3_duality_centred: float = math.nan
    nc3_cosine_mean: float = math.nan
    nc3_cosine_mean_centred: float = math.nan
    nc3_cosine_std: float = math.nan
    nc3_cosine_std_centred: float = math.nan
    nc4_agreement: float = math.nan
    bias_term: float = math.nan
    norm_ratio: float = math.nan
    rank_W: int | None = None
    rank_means: int
    dropped_W: int | None = None
    dropped_means: int
    singular_values_W: Array = field(repr=False, default_factory=lambda: np.zeros(0))
    singular_values_means: Array = field(repr=False)
    spectrum_within: Array = field(repr=False)
    spectrum_between: Array = field(repr=False)
    global_mean: Array = field(repr=False)
    class_means: Array = field(repr=False)
    class_variances: Array = field(repr=False)

    def scalars(self) -> dict[str, Any]:
        """Return the fields that are numbers or text, by name; of W, None for its rank where there is no W.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> labels = np.arange(300) % 3
        >>> H = uf.simplex_etf(3, 8)[labels]
        >>> uf.nc_metrics(None, H, labels).scalars()["rank_means"]
        2
        """
        return {f.name: getattr(self, f.name) for f in fields(self) if "Array" not in f.type}

    def __str__(self) -> str:
        """Return a table of the metrics, and of what they are at exact collapse; without W, of those without it."""
        present = self.K - len(self.missing)
        goals: dict[str, float | str] = dict.fromkeys((*SHAPES, *_DUALITIES), 0)
        goals["nc3_cosine_mean"], goals["cosine_mean"], goals["uniformity_mean"] = 1, "", ""
        if present > 1:
            goals["cosine_mean"] = -1 / (present - 1)
            goals["uniformity_mean"] = -math.log(2 * present / (present - 1)) / 2
        of_W, rank = self.rank_W is not None, min(present - 1, self.d)
        columns = ("_means", "_W", "_W_centred") if of_W else ("_means",)
        blank = [""] * (len(columns) - 1)
        rows = [["", "value", *blank, "collapsed"]]
        for name, goal in (
            ("nc1", 0), ("nc1_trace_ratio", 0), ("cdnv", 0), ("rank_means", rank), ("dropped_means", ""),
            ("nc2_means_uncentred", 0), ("rank_W", rank), ("dropped_W", ""), ("nc0", 0), ("nc0_relative", 0),
            ("bias_term", 0), ("norm_ratio", ""), ("nc4_agreement", 1),
        )[: None if of_W else 6]:  # fmt: skip
            rows.append([name, short(getattr(self, name)), *blank, short(goal)])
        rows.append(["", *columns, ""])
        rows += [[name, *(short(getattr(self, name + of)) for of in columns), short(goals[name])] for name in SHAPES]
        if of_W:
            rows.append(["", "", "", "_centred", ""])
            rows += [
                [name, "", *(short(getattr(self, name + of)) for of in ("", "_centred")), short(goals[name])]
                for name in _DUALITIES
            ]
        return "\n".join([*self._data(present), aligned(rows)])

    def _data(self, present: int) -> list[str]:
        sizes = self.counts[self.counts > 0]
        lines = [f"K = {self.K}, d = {self.d}, N = {self.N}, {sizes.min()} to {sizes.max()} samples a class"]
        if self.left_out or len(self.missing):
            lines.append(f"{self.left_out} samples left out, {len(self.missing)} classes without samples")
        if self.d < present - 1:
            lines.append(f"a simplex ETF of {present} needs d >= {present - 1}: NC2 and nc3_product cannot collapse")
        return lines
