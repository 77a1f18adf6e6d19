"""Lowest eigenpairs of a operator: a small one is decomposed; in a large one they are searched and checked."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from .._runtime import linalg
from .._runtime.arrays import Array

_DENSE = 400  # coordinates up to which a dense decomposition takes no longer than a search for one pair
_CHECK = 5  # the products of a search over those of a check
_CHECK_AT_LEAST = 30  # products


class Operator(Protocol):
    """A symmetric operator on flat vectors, which leaves the subspace of the searched vectors invariant."""

    @property
    def kinds(self) -> list[slice]:
        """Return the coordinates of each kind; together, all of them."""
        ...

    @property
    def dimension(self) -> int:
        """Return the dimension of the subspace that is searched."""
        ...

    def matrix(self) -> Array:
        """Return the operator as a matrix, for which what is left out of the search has the largest eigenvalues."""
        ...

    def search(
        self, start: Array, count: int, guards: int, basis: int, tolerance: float, max_products: int
    ) -> tuple[Array, Array, int, float, bool]:
        """Run the solver of the core: values, unit vectors in rows, products, largest |value| met, and if it ended."""
        ...


class Lowest(NamedTuple):
    """What `lowest` found.

    Values ascend, unit vectors are rows, `norm` is the largest |eigenvalue| met. `established` tells whether nothing
    speaks against these being the lowest pairs: see `lowest`.
    """

    values: Array
    vectors: Array
    products: int
    norm: float
    established: bool


def lowest(
    operator: Operator, count: int, known: Array, tolerance: float, max_products: int, generator: np.random.Generator
) -> Lowest:
    """Find the lowest pairs of an operator, fewer than `count` where its subspace is smaller.

    An operator with few coordinates, or not many more than a search would keep vectors of, becomes a matrix and is
    decomposed: then these are its lowest pairs. Otherwise they are searched, from the rows of `known`, a random vector
    of each kind of coordinates and random ones. As a search may settle on others, a check looks for lower ones, and
    where it finds some, the search goes on from them. That is strong evidence and no proof.
    """
    size, count = operator.kinds[-1].stop, min(count, operator.dimension)
    if count == 0:
        return Lowest(np.zeros(0), np.zeros((0, size)), 0, 0.0, True)
    basis = 3 * (count + 1) + 18
    if size <= min(max(_DENSE, basis), max_products):
        return _decomposed(operator, size, count)
    search = partial(operator.search, count=count, basis=basis, tolerance=tolerance)
    rest = generator.standard_normal((count - 1, size))
    start = np.concatenate([known, _of_each_kind(operator.kinds, generator), rest])
    total, norm = 0, 0.0
    while True:
        values, vectors, products, largest, ended = search(start, guards=0, max_products=max_products - total)
        total, norm = total + products, max(norm, largest)
        if not ended:
            return Lowest(values, vectors[: len(values)], total, norm, False)
        # The check is as long as a fifth of the search, or as it takes to see that the next pair stays above these.
        # Only that counts where the start held what was found: then there was no search yet.
        start = np.concatenate([vectors, _of_each_kind(operator.kinds, generator)])
        enough = max_products if _within(vectors, known) else max(_CHECK_AT_LEAST, total // _CHECK)
        lower, start, products, _, ended = search(start, guards=1, max_products=min(enough, max_products - total))
        total += products
        if not (lower < values - tolerance * norm).any():
            return Lowest(values, vectors, total, norm, ended or products >= enough)


def _decomposed(operator: Operator, size: int, count: int) -> Lowest:
    matrix = operator.matrix()
    values, vectors = linalg.eigh(matrix)
    norm = float(np.abs(values[: operator.dimension]).max())
    return Lowest(values[:count], np.ascontiguousarray(vectors[:, :count].T), size, norm, True)


def _of_each_kind(kinds: list[slice], generator: np.random.Generator) -> Array:
    """Return random vectors, one with the coordinates of each kind."""
    block = np.zeros((len(kinds), kinds[-1].stop))
    for row, kind in zip(block, kinds, strict=True):
        row[kind] = generator.standard_normal(kind.stop - kind.start)
    return block


def _within(vectors: Array, known: Array) -> bool:
    """Whether one of the unit rows lies, nearly, in the span of the known ones."""
    basis, _ = linalg.qr(known.T)
    return bool((np.linalg.norm(vectors @ basis, axis=1) > 0.99).any())
