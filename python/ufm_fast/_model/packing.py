"""How the three parts of a point lie in one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """Of a vector that holds W (K, columns), H (M, columns) and, where there is a bias, b (biases,), each in C order.

    K counts the logits.
    """

    K: int
    M: int
    columns: int
    bias: bool
    biases: int

    @property
    def end_W(self) -> int:
        """Where W ends and H begins."""
        return self.K * self.columns

    @property
    def end_H(self) -> int:
        """Where H ends and b begins."""
        return (self.K + self.M) * self.columns

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.end_H + self.biases * self.bias

    def unpack(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return W, H and b as views of x; b is new, zeros, without a bias."""
        W, H = x[: self.end_W].reshape(self.K, self.columns), x[self.end_W : self.end_H].reshape(self.M, self.columns)
        return W, H, x[self.end_H : self.size] if self.bias else np.zeros(self.biases, x.dtype)

    def pack(self, W: NDArray[Any], H: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        """Copy the parts into one vector; without a bias, b is left out."""
        return np.concatenate([W.ravel(), H.ravel(), b] if self.bias else [W.ravel(), H.ravel()])
