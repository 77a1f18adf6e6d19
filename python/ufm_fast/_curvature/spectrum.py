"""The density of all eigenvalues of the Hessian, by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal

from .._exact.closed_form import closed_form
from .._exact.closed_spectrum import closed_form_spectrum
from .._model.facts import checked_model, is_balanced
from .._model.isometric import IsometricProblem
from .._model.model import UFM
from .._model.point import Point, checked_point
from .._runtime import core
from .._runtime.arguments import function, real_array, real_number, whole_number
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory

_AT_MINIMUM = 1e-8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """An estimate of the spectrum of the full-sample Hessian: eigenvalues near `nodes`, `weights` many of them.

    Attributes
    ----------
    nodes, weights : ndarray
        Nodes ascending; the weights sum to `size`.
    size : int
        Number of eigenvalues: (K + N) d + K, or (K + N) d without a bias.
    exact : tuple of two ndarrays, or None
        Eigenvalues and multiplicities in closed form, at a global minimum where `closed_form_spectrum` knows them.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.spectrum(ufm, uf.global_minimum(ufm).point)
    >>> values, multiplicities = found.exact
    >>> int(multiplicities.sum()) == found.size
    True
    """

    nodes: Array
    weights: Array
    size: int
    exact: tuple[Array, NDArray[np.int64]] | None

    def count_below(self, x: ArrayLike) -> Array:
        """Estimate how many eigenvalues are less than x, for each x.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
        >>> found = uf.spectrum(ufm, uf.global_minimum(ufm).point)
        >>> bool(np.isclose(found.count_below(np.inf), found.size))
        True
        """
        total = np.concatenate([[0.0], np.cumsum(self.weights)])
        counts: Array = total[np.searchsorted(self.nodes, real_array(x, "x", float), side="left")]
        return counts

    def density(self, x: ArrayLike, width: float) -> Array:
        """Eigenvalues per unit of x, smoothed by a normal density with standard deviation `width`; integrates to size.

        Raises
        ------
        ValueError
            If `width` is not positive.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
        >>> found = uf.spectrum(ufm, uf.global_minimum(ufm).point)
        >>> x = np.linspace(-0.1, found.nodes.max() + 0.1, 10_001)
        >>> bool(np.isclose(found.density(x, width=0.01).sum() * (x[1] - x[0]), found.size))
        True
        """
        width = real_number(width, "width", above=0)
        distance = (real_array(x, "x", float)[..., None] - self.nodes) / width
        smoothed: Array = np.exp(-0.5 * distance**2) @ self.weights / (width * np.sqrt(2 * np.pi))
        return smoothed


@single_threaded_blas()
def spectrum(
    ufm: UFM,
    p: Point,
    *,
    steps: int = 80,
    probes: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Spectrum:
    """Estimate the density of all eigenvalues of the full-sample Hessian at p.

    Stochastic Lanczos quadrature (Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017): random sign vectors, and
    a Gauss quadrature of each one's spectral measure. Extreme and isolated eigenvalues come out to many digits, their
    multiplicities with a relative error of about sqrt(2 / (probes multiplicity)). In a model with class means the moves
    of samples within their class, whose Hessian is lambda_H I + (1/N) W^T S_k W for every feature of class k (S_k the
    second derivative of the loss in the logits), are added with their multiplicity n_k - 1.

    Parameters
    ----------
    ufm : UFM
    p : Point
        As for `UFM.loss`.
    steps : int, optional
        Lanczos steps per random vector: the number of nodes it gives, and of Hessian products it takes.
    probes : int, optional
        Random vectors, for class means and again for moves within classes.
    seed : int, optional
    progress : callable, optional
        Called with the random vectors done and their number.

    Returns
    -------
    Spectrum

    Raises
    ------
    TypeError, ValueError
        If p is not a point of the model, a number is not positive, or the seed is negative.
    MemoryError
        If there is not memory for ten vectors of the length of a point.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.spectrum(ufm, ufm.random_point(0))
    >>> found.size == (5 + 50) * 5 + 5, bool(abs(found.weights.sum() / found.size - 1) < 1e-12)
    (True, True)
    """
    steps, probes = whole_number(steps, "steps", 1), whole_number(probes, "probes", 1)
    seed = whole_number(seed, "seed", 0)
    if progress is not None:
        function(progress, "progress")
    p = checked_point(p, checked_model(ufm).layout, ufm.dtype)
    require_memory("spectrum", 10 * ufm.size, K=ufm.K, M=ufm.M, d=ufm.d)
    problem = IsometricProblem(ufm)
    point, compiled, n = problem.coordinates(p), problem.compiled(ufm.d), problem.layout(ufm.d).size
    parts = [(np.ones(n), False)]
    if ufm.counts is not None and ufm.collapse_classes and (ufm.counts > 1).any():
        within = np.zeros(n)
        within[ufm.layout.end_W : ufm.layout.end_H] = np.repeat(ufm.counts - 1.0, ufm.d)
        parts.append((within, True))
    generator = np.random.default_rng(seed)
    nodes: list[Array] = []
    weights: list[Array] = []
    for share, features_only in parts:
        total = share.sum()
        for _ in range(probes):
            start = generator.choice([-1.0, 1.0], n) * np.sqrt(share)
            diagonal, off_diagonal = problem.run(
                core.hessian_lanczos, compiled, *point, start, min(steps, n), store=problem.stores,
                features_only=features_only,
            )  # fmt: skip
            values, vectors = eigh_tridiagonal(diagonal, off_diagonal)
            nodes.append(values)
            weights.append(total / probes * vectors[0] ** 2)
            if progress is not None:
                progress(len(nodes), len(parts) * probes)
    order = np.argsort(np.concatenate(nodes))
    return Spectrum(
        nodes=np.concatenate(nodes)[order],
        weights=np.concatenate(weights)[order],
        size=sum(int(share.sum()) for share, _ in parts),
        exact=closed_form_spectrum(ufm) if _is_minimum(ufm, p) else None,
    )


def _is_minimum(ufm: UFM, p: Point) -> bool:
    if not is_balanced(ufm):
        return False
    minimum = closed_form(ufm)
    return minimum is not None and ufm.loss(p) <= minimum.value * (1 + _AT_MINIMUM)
