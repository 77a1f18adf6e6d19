"""The figure of `inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .._networks.inspection import Inspection

_W, _MEANS, _GUIDE = "#0072b2", "#d55e00", "0.55"


def plot_inspection(W: NDArray[Any], found: Inspection) -> Figure:
    """Draw Gram matrices, spectra and cosines of a classifier and class means.

    Parameters
    ----------
    W : ndarray, shape (K, d)
    found : Inspection

    Returns
    -------
    matplotlib.figure.Figure
        Cosines between rows of W and between centred class means, as matrices; eigenvalues of S_B and S_W; histogram of
        the cosines between different classes, -1/(K-1) marked.
    """
    m = found.metrics
    figure = Figure(figsize=(13, 3.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.1, 1.1))
    cosines = []
    for ax, rows, title in ((axes[0], np.asarray(W, dtype=float), "W"), (axes[1], m.class_means - m.global_mean, "M")):
        norms = np.linalg.norm(rows, axis=1)
        gram = rows @ rows.T / np.maximum(np.outer(norms, norms), np.finfo(float).tiny)
        image = ax.imshow(gram, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        ax.set_title(f"cosines of {'W' if title == 'W' else 'class means'}")
        cosines.append(gram[~np.eye(len(rows), dtype=bool)])
    figure.colorbar(image, ax=axes[:2].tolist(), fraction=0.03)
    for values, color, name in ((m.spectrum_between, _MEANS, "S_B"), (m.spectrum_within, _W, "S_W")):
        shown = values[values > values.max() * 1e-16] if values.max() > 0 else values[:0]
        axes[2].semilogy(
            np.arange(1, len(shown) + 1), shown, ".-", color=color, label=name, markersize=4, linewidth=0.8
        )
    axes[2].set(title="between and within classes", xlabel="index", ylabel="eigenvalue")
    axes[2].legend()
    bins = np.linspace(min(c.min() for c in cosines), max(c.max() for c in cosines) + 1e-9, 41)
    for values, color, name in zip(cosines, (_W, _MEANS), ("W", "class means"), strict=True):
        axes[3].hist(values, bins=bins.tolist(), color=color, alpha=0.6, label=name)
    axes[3].axvline(-1 / (m.K - 1), color=_GUIDE, linestyle="--", label="-1/(K-1)")
    axes[3].set(title="cosines between classes", xlabel="cosine", ylabel="pairs")
    axes[3].legend()
    return figure
