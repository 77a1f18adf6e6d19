"""Time and memory over the number of classes, as a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from work import Work

COLOURS = "#1b6ca8", "#c8553d", "#8a8d91", "#4f9d69"
MARKERS = "osD^"


def exponent(sizes: list[float], values: list[float]) -> float:
    """Slope of the straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def draw(times: dict[str, dict[int, float]], memory: dict[str, dict[int, float]], work: Work, path: Path) -> None:
    """Draw seconds and MiB of each implementation over K; slopes are in the legends."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ufm-fast"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for panel, quantity, values in zip(
        panels, ("seconds a call", "memory added by a call, MiB"), (times, memory), strict=True
    ):
        for (name, curve), colour, marker in zip(values.items(), COLOURS, MARKERS, strict=False):
            slope = exponent(list(curve), list(curve.values()))
            panel.loglog(
                list(curve), list(curve.values()), marker, ls="-", color=colour, label=f"{name}: K^{slope:.2f}"
            )
        panel.set_xlabel("K")
        panel.set_ylabel(quantity)
        panel.set_xticks(list(curve), [f"{K}" for K in curve])
        panel.minorticks_off()
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"{work.quantity}, {'double' if work.dtype == 'float64' else 'single'}, M = K, d = {work.d}", fontsize=11
    )
    figure.savefig(path, metadata={"Date": None})
