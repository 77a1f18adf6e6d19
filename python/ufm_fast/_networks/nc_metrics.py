"""The neural-collapse metrics, and how each is defined."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runtime.arrays import Array


@dataclass(frozen=True)
class NCMetrics:
    """How collapsed features and a classifier are.

    With class means mu_k, N samples, the sample-weighted global mean mu_G (or, on request, the mean of the class
    means), M the rows mu_k - mu_G, ``S_W = (1/N) sum_i (h_i - mu_{k(i)})(h_i - mu_{k(i)})^T``, ``S_B = (1/K) M^T M``
    and ``T = (I - 11^T/K) / sqrt(K - 1)``, the Gram matrix of a simplex ETF scaled to unit Frobenius norm. "Centred" W
    is W minus the mean of its rows. What is undefined is NaN, with a warning from `NCAccumulator.result` that says why.

    Attributes
    ----------
    K, d, N : int
    counts : ndarray of int64, shape (K,)
    centre : {"samples", "classes"}
        Which global mean mu_G is.
    nc1 : float
        ``trace(S_W S_B^+) / K`` (Papyan, Han & Donoho 2020, arXiv:2008.08186; Zhu et al. 2021, arXiv:2105.02375), not
        negative. S_B^+ keeps the `rank_means` directions in which class means differ by more than rounding; a warning
        says how many it leaves out. NaN if no class has two samples or all class means coincide.
    nc1_trace_ratio : float
        ``trace(S_W) / trace(S_B)``; needs no pseudo-inverse.
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
    nc3_product, nc3_product_centred : float
        ``| W M^T / |W M^T|_F - T |_F`` for W as it is (arXiv:2105.02375) and centred (arXiv:2203.01238).
    nc3_duality, nc3_duality_centred : float
        ``| W/|W|_F - M/|M|_F |_F^2`` (arXiv:2008.08186) for W as it is and centred.
    nc4_agreement : float
        Fraction of samples for which the largest logit is that of the nearest class mean; 1 at collapse (the papers
        plot 1 minus this). NaN where the features were not given a second time or class means coincide.
    bias_term : float
        ``| b + W mu_G |_2`` (arXiv:2105.02375).
    norm_ratio : float
        Mean |w_k|^2 over mean |h_i|^2; ``n lambda_H / lambda_W`` at the global optimum of a balanced UFM.
    rank_W : int
        Number of singular values of W above ``u |W|_F``, which rounding of its entries (to their own type, of relative
        precision u) can make of zeros, and above what the decomposition leaves, ``max(K, d) 2^-52`` of the largest.
    rank_means : int
        Number of singular values of M above the error of the class means, summed in float64 from the features as they
        are, and above what the decomposition leaves; at most K - 1.
    singular_values_W, singular_values_means : ndarray
        Of W and M, descending.
    spectrum_within, spectrum_between : ndarray, shape (d,)
        Eigenvalues of S_W and S_B, descending.
    global_mean : ndarray, shape (d,)
    class_means : ndarray, shape (K, d)
    class_variances : ndarray, shape (K,)
        V_k; 0 for classes of one sample, NaN for empty ones.
    """

    K: int
    d: int
    N: int
    counts: NDArray[np.int64]
    centre: str
    nc1: float
    nc1_trace_ratio: float
    cdnv: float
    nc2_W: float
    nc2_W_centred: float
    nc2_means: float
    nc2_means_uncentred: float
    equinorm_W: float
    equinorm_W_centred: float
    equinorm_means: float
    cosine_mean_W: float
    cosine_mean_W_centred: float
    cosine_mean_means: float
    cosine_std_W: float
    cosine_std_W_centred: float
    cosine_std_means: float
    equiangularity_W: float
    equiangularity_W_centred: float
    equiangularity_means: float
    nc3_product: float
    nc3_product_centred: float
    nc3_duality: float
    nc3_duality_centred: float
    nc4_agreement: float
    bias_term: float
    norm_ratio: float
    rank_W: int
    rank_means: int
    singular_values_W: Array = field(repr=False)
    singular_values_means: Array = field(repr=False)
    spectrum_within: Array = field(repr=False)
    spectrum_between: Array = field(repr=False)
    global_mean: Array = field(repr=False)
    class_means: Array = field(repr=False)
    class_variances: Array = field(repr=False)

    def scalars(self) -> dict[str, Any]:
        """Return the fields that are numbers or text, by name."""
        return {name: value for name, value in asdict(self).items() if not isinstance(value, np.ndarray)}
