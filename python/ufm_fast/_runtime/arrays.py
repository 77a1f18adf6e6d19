"""Types of arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: What all algorithms work with.
Array: TypeAlias = NDArray[np.float64]
