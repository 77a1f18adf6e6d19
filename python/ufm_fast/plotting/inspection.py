"""The figure of `inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .classes import draw_pairs, shown_classes
from .colors import BLUE, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .._networks.inspection import Inspection
    from .._networks.nc_metrics import NCMetrics

_W, _MEANS, _ABSENT = BLUE, VERMILION, "0.8"


def plot_inspection(W: NDArray[Any] | None, found: Inspection | NCMetrics) -> Figure:
    """Draw Gram matrices, spectra and cosines of a classifier and class means.

    Parameters
    ----------
    W : ndarray, shape (K, d), or None
    found : Inspection or NCMetrics

    Returns
    -------
    matplotlib.figure.Figure
        Cosines between rows of W and between centred class means, as matrices, grey where a class has no samples;
        eigenvalues of S_B and S_W; histogram of the cosines between different classes, -1/(K-1) marked. Of more than
        1000 classes, the cosines are those between 1000 at equal distances.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> from ufm_fast.plotting import plot_inspection
    >>> labels = np.arange(300) % 3
    >>> W = uf.simplex_etf(3, 8)
    >>> H = W[labels] + 0.1 * np.random.default_rng(0).standard_normal((300, 8))
    >>> figure = plot_inspection(W, uf.inspect(W, H, labels, lambda_W=1e-2))
    """
    m: Any = getattr(found, "metrics", None) or found
    figure = Figure(figsize=(13, 3.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.1, 1.1))
    chosen = shown_classes(m.K)
    classifier = np.full((len(chosen), m.d), np.nan) if W is None else np.asarray(W, dtype=float)[chosen]
    colors, cosines = colormaps["RdBu_r"].with_extremes(bad=_ABSENT), []
    for ax, rows, name in ((axes[0], classifier, "W"), (axes[1], m.class_means[chosen] - m.global_mean, "class means")):
        norms = np.linalg.norm(rows, axis=1)
        gram = rows @ rows.T / np.maximum(np.outer(norms, norms), np.finfo(float).tiny)
        title = f"cosines of {name}" if np.isfinite(gram).any() else f"no {name}"
        image = draw_pairs(ax, gram, m.K, title, vmin=-1, vmax=1, cmap=colors)
        between = gram[~np.eye(len(rows), dtype=bool)]
        cosines.append(between[np.isfinite(between)])
    figure.colorbar(image, ax=axes[:2].tolist(), fraction=0.03)
    for values, color, name in ((m.spectrum_between, _MEANS, "S_B"), (m.spectrum_within, _W, "S_W")):
        shown = values[values > values.max() * 1e-16] if values.max() > 0 else values[:0]
        axes[2].semilogy(
            np.arange(1, len(shown) + 1), shown, ".-", color=color, label=name, markersize=4, linewidth=0.8
        )
    axes[2].set(title="between and within classes", xlabel="index", ylabel="eigenvalue")
    axes[2].legend()
    _draw_cosines(axes[3], cosines, m.K - len(m.missing))
    return figure


def _draw_cosines(axes: Axes, cosines: Sequence[NDArray[Any]], present: int) -> None:
    every = np.concatenate(cosines)
    if len(every):
        bins = np.linspace(every.min(), every.max() + 1e-9, 41)
        for values, color, name in zip(cosines, (_W, _MEANS), ("W", "class means"), strict=True):
            if len(values):
                axes.hist(values, bins=bins.tolist(), color=color, alpha=0.6, label=name)
    if present > 1:
        axes.axvline(-1 / (present - 1), color=GREY, linestyle="--", label=f"-1/{present - 1}")
        axes.legend()
    axes.locator_params(axis="x", nbins=4)
    axes.set(title="cosines between classes", xlabel="cosine", ylabel="pairs")
