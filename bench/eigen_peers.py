"""Eigen-solvers that people use, on Hessian products of PyTorch and of ours: solver and product are told apart.

Eigenvalues are those of the full-sample Hessian: class means count sqrt(n_k) times.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

import clock
import ufm_fast as uf
from solver_peers import HESSIAN_PRODUCTS, Objective, Stopped

Array = NDArray[np.float64]

TORCH, OURS = "PyTorch", "ufm-fast"
MANY = 10**9


class Hessian(LinearOperator):  # type: ignore[misc]
    """A Hessian in isometric coordinates: counts products, and stops the solver at a time limit."""

    def __init__(self, product: Callable[[Array], Array], scale: Array, limit: float):
        super().__init__(np.float64, (scale.size, scale.size))
        self._product, self._scale, self._limit = product, scale, limit
        self.products = 0
        self.started = clock.now()

    @property
    def seconds(self) -> float:
        return clock.now() - self.started

    def _matvec(self, v: Array) -> Array:
        if self.seconds > self._limit:
            raise Stopped
        self.products += 1
        return self._scale * self._product(self._scale * v.reshape(-1))


def hessian(source: str, ufm: uf.UFM, p: uf.Point, limit: float) -> Hessian:
    """The Hessian at p; whatever is kept for all products counts into its time."""
    features = np.broadcast_to(1 / np.sqrt(ufm.counts)[:, None], p.H.shape)
    scale = ufm.pack(uf.Point(np.ones_like(p.W), np.ascontiguousarray(features), np.ones_like(p.b)))
    operator = Hessian(np.negative, scale, limit)
    if source == OURS:
        operator._product = ufm.hessian(p).matvec
    else:
        operator._product = partial(Objective(ufm, curvature=True).hessp, ufm.pack(p))
    return operator


def arpack(operator: Hessian, k: int, tol: float, ncv: int | None = None) -> Array:
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    return eigsh(operator, k, which="SA", tol=tol, v0=start, ncv=ncv, maxiter=MANY, return_eigenvectors=False)


def scipy_lobpcg(operator: Hessian, k: int, tol: float) -> Array:
    start = np.random.default_rng(0).standard_normal((operator.shape[0], k))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, _ = lobpcg(operator, start, largest=False, tol=tol * 1e-3, maxiter=10_000)
    return values


def primme(operator: Hessian, k: int, tol: float) -> Array:
    import primme

    start = np.random.default_rng(0).standard_normal((operator.shape[0], k))
    values, _ = primme.eigsh(operator, k, which="SA", tol=tol, v0=start, maxiter=MANY)
    return values


SOLVERS: dict[str, Callable[..., Array]] = {"ARPACK": arpack, "LOBPCG": scipy_lobpcg, "PRIMME": primme}


def available() -> list[str]:
    """PRIMME only where it is installed; loaded before any threads are limited."""
    try:
        importlib.import_module("primme")
    except ImportError:
        return [name for name in SOLVERS if name != "PRIMME"]
    return list(SOLVERS)


@dataclass(frozen=True)
class Eigenvalues:
    """What an eigen-solver returned; no values if it was stopped at its limit or failed."""

    solver: str
    product: str
    seconds: float
    hessian_products: int
    values: Array | None
    message: str = ""

    @property
    def name(self) -> str:
        return f"{self.solver} on {self.product} products"

    @property
    def products(self) -> int:
        return HESSIAN_PRODUCTS * self.hessian_products


def lowest(
    solver: str, source: str, ufm: uf.UFM, p: uf.Point, k: int, tol: float, limit: float, **options: Any
) -> Eigenvalues:
    started = clock.now()
    operator = hessian(source, ufm, p, limit)
    values, message = None, ""
    try:
        values = np.sort(SOLVERS[solver](operator, k, tol, **options))
    except Stopped:
        message = "stopped"
    except Exception as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return Eigenvalues(solver, source, clock.now() - started, operator.products, values, message)
