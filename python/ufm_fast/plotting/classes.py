"""Matrices over pairs of classes, of no more classes than a picture can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_MOST = 1000


def shown_classes(K: int) -> NDArray[np.intp]:
    """Return the classes to draw: all or, of more than 1000, 1000 at equal distances."""
    return np.linspace(0, K - 1, min(K, _MOST)).round().astype(np.intp)


def draw_pairs(axes: Axes, matrix: NDArray[Any], K: int, title: str, **options: Any) -> AxesImage:
    """Draw a matrix over `shown_classes`; ticks are numbers of classes, and the title says if some are left out."""
    image = axes.imshow(matrix, extent=(-0.5, K - 0.5, K - 0.5, -0.5), interpolation="nearest", **options)
    axes.set_title(title if K <= _MOST else f"{title}\n{_MOST} of {K} classes", fontsize="medium")
    return image
