"""The model in isometric coordinates (W, sqrt(n_k) h_k, b), with eigenvalues of the full-sample Hessian."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._blas import single_threaded_blas
from ._newton import Array
from ._threads import get_num_threads
from .hessian import _free_memory
from .model import UFM, Point


class IsometricProblem:
    """A model's problem on feature rows scaled by sqrt(samples per row), at any feature dimension, in float64."""

    def __init__(self, ufm: UFM) -> None:
        self.ufm, self.K, self.M, self.bias = ufm, ufm.K, ufm.M, ufm.bias
        self.samples: Array = ufm._samples
        self.threads = ufm.threads or get_num_threads()
        self.keeps = _free_memory() // 4 >= 8 * ufm.M * ufm.K

    def coordinates(self, p: Point) -> Point:
        """Return W, sqrt(n) h and b in float64."""
        return Point(p.W.astype(float), p.H.astype(float) * np.sqrt(self.samples)[:, None], p.b.astype(float))

    def plain(self, v: Point) -> Point:
        """Undo `coordinates`, in the model's dtype."""
        dtype = self.ufm.dtype
        H = v.H / np.sqrt(self.samples)[:, None]
        return Point(v.W.astype(dtype), H.astype(dtype), v.b.astype(dtype))

    def compiled(self, columns: int) -> Any:
        """Return the problem with this many feature dimensions, for the compiled core."""
        ufm = self.ufm
        return _core.Problem64(
            ufm.K,
            columns,
            labels=ufm._labels,
            weights=self.samples / ufm.N,
            scales=1 / np.sqrt(self.samples),
            ridges=np.full(ufm.M, ufm.lambda_H),
            loss=ufm.loss_function.name,
            label_smoothing=ufm.loss_function.label_smoothing,
            lambda_W=ufm.lambda_W,
            lambda_b=ufm.lambda_b,
            bias=ufm.bias,
        )

    def size(self, columns: int) -> int:
        """Length of a flat vector with this many feature dimensions."""
        return (self.K + self.M) * columns + self.K * self.bias

    def unpack(self, x: Array, columns: int) -> Point:
        """Return the parts of a flat vector; zeros for b without a bias."""
        end_W, end_H = self.K * columns, (self.K + self.M) * columns
        b = x[end_H:] if self.bias else np.zeros(self.K)
        return Point(x[:end_W].reshape(self.K, columns), x[end_W:end_H].reshape(self.M, columns), b)

    def run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call the compiled core with this model's threads, BLAS held to one thread for each of them."""
        with single_threaded_blas():
            return function(*arguments, **options, threads=self.threads)
