"""Time and memory over the number of classes, as a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COLOURS = "#1b6ca8", "#c8553d", "#8a8d91", "#4f9d69", "#8e5aa8", "#b8860b", "#3aa6a0"
MARKERS = "osD^vP*"

Curves = dict[str, dict[int, float]]  # by name: values over K


def exponent(sizes: list[float], values: list[float]) -> float:
    """Slope of the straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def draw(panels: dict[str, Curves], title: str, path: Path) -> None:
    """Draw each panel's curves over K, with their slopes in its legend."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ufm-fast"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.5 * max(len(panels), 1.5), 3.8), layout="constrained", squeeze=False
    )
    for axis, (quantity, curves) in zip(axes[0], panels.items(), strict=True):
        for (name, curve), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
            sizes, values = list(curve), list(curve.values())
            slope = f": K^{exponent(sizes, values):.2f}" if len(curve) > 1 else ""
            axis.loglog(sizes, values, marker, ls="-", color=colour, label=name + slope)
        sizes = sorted({K for curve in curves.values() for K in curve})
        axis.set_xlabel("K")
        axis.set_ylabel(quantity)
        axis.set_xticks(sizes, [f"{K}" for K in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, metadata={"Date": None})
