"""How far a point is from neural collapse, in the few numbers that the tables show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]


def neural_collapse_summary(W: Matrix, means: Matrix, counts: NDArray[np.int64]) -> dict[str, float]:
    """Measures of Papyan, Han & Donoho 2020 (arXiv 2008.08186) for classifiers and class means.

    The class means are centred at the mean over samples (weighted by `counts`), the rows of W at their mean over
    classes, as Zhou et al. 2022 (arXiv 2203.01238) do. Features within a class coincide at every critical point of a
    UFM, so there is nothing to measure there.

    Parameters
    ----------
    W, means : ndarray, shape (K, d)
        Classifiers and class means.
    counts : ndarray of int, shape (K,)
        Samples per class.

    Returns
    -------
    dict of str to float
        ``norm_spread_W``, ``norm_spread_means``: standard deviation of the row norms over their mean.
        ``cosine_mean_W``, ``cosine_spread_W``, ``cosine_mean_means``, ``cosine_spread_means``: mean and standard
        deviation of the cosines between rows; -1 / (K - 1) and 0 for a simplex equiangular tight frame.
        ``duality``: ``| W/|W| - M/|M| |^2`` of the centred matrices; 0 when they are parallel.
        NaN where a norm vanishes.
    """
    W = np.asarray(W - W.mean(axis=0), dtype=np.float64)
    M = np.asarray(means - counts @ means / counts.sum(), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        summary = {"duality": float(np.sum((W / np.linalg.norm(W) - M / np.linalg.norm(M)) ** 2))}
        for name, rows in (("W", W), ("means", M)):
            norms = np.linalg.norm(rows, axis=1)
            cosines = (rows @ rows.T / np.outer(norms, norms))[np.triu_indices(len(rows), k=1)]
            summary[f"norm_spread_{name}"] = float(norms.std() / norms.mean())
            summary[f"cosine_mean_{name}"] = float(cosines.mean())
            summary[f"cosine_spread_{name}"] = float(cosines.std())
    return summary
