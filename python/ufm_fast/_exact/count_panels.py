"""Gauss nodes that stand for many distinct class counts.

At the minimum of cross-entropy the scores and gradients of classes with n and n' samples are smooth functions of
(sqrt(n), sqrt(n')), but for the contrast of a class with itself, and but for n* = (N tau / (1 - label_smoothing))^2,
the count up to which classes are given up. So the counts on each side of n* are cut into panels that double their
distance from it, where these functions are close to polynomials of low degree in sqrt(n), and each panel gets the Gauss
nodes for sums over its classes (Golub and Welsch, Math. Comp. 23, 1969): sums of polynomials of twice the degree are
sums over the nodes, with positive weights, and the polynomials that are 1 at one node and 0 at the others are
orthogonal. A problem in which the nodes are the counts and the weights the numbers of classes has the same matrices, in
an orthonormal basis, as one with all counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .._runtime import linalg
from .._runtime.arrays import Array

_NODES = 6  # a panel
_GROWTH = 2.0  # of the distance from n*, and of the root of the count, within a panel
_UNIT = float(np.finfo(float).eps)


class Panel(NamedTuple):
    """Neighbouring counts, and their nodes.

    Columns of `basis` (counts, nodes) are orthonormal: sqrt(classes) times the polynomials that are 0 at all nodes but
    one. Where there are few counts they are the nodes themselves, and `basis` is the identity.
    """

    counts: slice
    nodes: slice
    basis: Array
    lagrange: Array  # the polynomials, 1 at their node


class CountPanels:
    """Panels of all counts, ascending, and functions of the count by their values at the nodes.

    Attributes
    ----------
    samples, classes : ndarray, shape (m,)
        The counts and the number of classes with each.
    node_samples, node_classes : ndarray, shape (p,)
        The same of the nodes, in real numbers; at least one class each.
    panels : list of Panel
    collapsed_counts, collapsed_nodes : int
        How many of each are not above n*: the first.
    """

    def __init__(self, samples: Array, classes: Array, collapse: float, nodes: int = _NODES) -> None:
        self.samples, self.classes = samples, classes
        self.panels: list[Panel] = []
        found: list[tuple[Array, Array]] = []
        roots, first = np.sqrt(samples), 0
        for members in _panels(roots, classes, math.sqrt(collapse), nodes):
            at, weights, basis = _gauss(roots[members], classes[members], nodes)
            lagrange = basis * np.sqrt(weights) / np.sqrt(classes[members])[:, None]
            self.panels.append(Panel(members, slice(first, first + len(at)), basis, lagrange))
            found.append((at, weights))
            first += len(at)
        self.node_samples = np.concatenate([at for at, _ in found]) ** 2
        self.node_classes = np.concatenate([weights for _, weights in found])
        self.collapsed_counts = int((samples <= collapse).sum())
        self.collapsed_nodes: int = sum(panel.basis.shape[1] for panel in self.panels if not self.is_above(panel))

    def is_above(self, panel: Panel) -> bool:
        """Whether a panel's counts are above n*."""
        return bool(panel.counts.start >= self.collapsed_counts)

    def interpolate(self, values: Array, absolute: bool = False) -> Array:
        """Values at the counts (m, ...) of functions with these values at the nodes (p, ...); or bounds on them.

        With `absolute`, sums of the absolute values of what is added.
        """
        if absolute:
            return np.concatenate([abs(panel.lagrange) @ abs(values[panel.nodes]) for panel in self.panels])
        return np.concatenate([panel.lagrange @ values[panel.nodes] for panel in self.panels])

    def diagonal(self, kernel: Array) -> Array:
        """Values phi(n) kernel phi(n)^T at the counts, (m,), phi the polynomials of all panels."""
        parts = [((x.lagrange @ kernel[x.nodes, x.nodes]) * x.lagrange).sum(axis=1) for x in self.panels]
        return np.concatenate(parts)

    def moments(self, function: Array, absolute: bool = False) -> Array:
        """Sums over all counts of a function (m,) times each polynomial, (p,), or times its absolute value.

        Exactly rounded sums of rounded products.
        """
        sums = []
        for panel in self.panels:
            terms = panel.lagrange.T * function[panel.counts]
            sums += [math.fsum(row) for row in (abs(terms) if absolute else terms)]
        return np.array(sums)

    def evaluate(self, left: Array, out: Array) -> Array:
        """Put rows of functions given at the nodes, (rows, p), at the counts, (rows, m)."""
        for panel in self.panels:
            np.matmul(left[:, panel.nodes], panel.lagrange.T, out=out[:, panel.counts])
        return out

    def tiles(self, size: int) -> Iterator[tuple[slice, slice, Array]]:
        """Yield counts of one panel, its nodes, and the polynomials there, so that rows hold `size` numbers or few."""
        step = max(1, size // len(self.samples))
        for panel in self.panels:
            start = panel.counts.start
            for first in range(start, panel.counts.stop, step):
                counts = slice(first, min(first + step, panel.counts.stop))
                yield counts, panel.nodes, panel.lagrange[counts.start - start : counts.stop - start]

    @cached_property
    def defects(self) -> list[float]:
        """Bounds on how far the computed basis of each panel is from orthonormal, in the spectral norm.

        From exactly rounded sums of rounded products.
        """
        bounds = []
        for panel in self.panels:
            counts, q = panel.basis.shape
            columns = panel.basis.T
            gram = np.array([[math.fsum(x * y) for y in columns] for x in columns]) if counts > q else np.eye(q)
            bounds.append(float(np.linalg.norm(gram - np.eye(q))) + 4 * q * _UNIT)
        return bounds


def _panels(roots: Array, classes: Array, collapse: float, nodes: int) -> list[slice]:
    """Cut the counts, given by their roots, at the root of n* and where panels would grow too much."""
    middle = int(np.searchsorted(roots, collapse, side="right"))
    cuts = {0, middle, len(roots)}
    for side in (range(middle - 1, -1, -1), range(middle, len(roots))):
        first = None
        for i in side:
            distance = abs(roots[i] - collapse)
            if first is None or (
                abs(i - first) >= nodes
                and (
                    distance > _GROWTH * abs(roots[first] - collapse)
                    or abs(math.log(roots[i] / roots[first])) > math.log(_GROWTH)
                )
            ):
                first = i
                cuts.add(i if side.step > 0 else i + 1)
    bounds = sorted(cuts)
    halves = [slice(first, last) for first, last in pairwise(bounds)]
    return [part for half in halves for part in _with_whole_classes(half, roots, classes, nodes)]


def _with_whole_classes(members: slice, roots: Array, classes: Array, nodes: int) -> list[slice]:
    """Cut a panel into halves until no node has less than one class."""
    _, weights, _ = _gauss(roots[members], classes[members], nodes)
    if weights.min() >= 1:
        return [members]
    middle = (members.start + members.stop) // 2
    halves = slice(members.start, middle), slice(middle, members.stop)
    return [part for half in halves for part in _with_whole_classes(half, roots, classes, nodes)]


def _gauss(x: Array, weights: Array, nodes: int) -> tuple[Array, Array, Array]:
    """Gauss nodes and weights for sums over points x with these weights, and the orthonormal basis of `Panel`.

    By the Lanczos process on diag(x), orthogonalised twice.
    """
    if len(x) <= nodes:
        return x, weights, np.eye(len(x))
    centre, half = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    scaled, total = (x - centre) / half, weights.sum()
    Q = np.zeros((len(x), nodes))
    Q[:, 0] = np.sqrt(weights / total)
    for k in range(1, nodes):
        column = scaled * Q[:, k - 1]
        for _ in range(2):
            column -= Q[:, :k] @ (Q[:, :k].T @ column)
        Q[:, k] = column / np.linalg.norm(column)
    values, vectors = linalg.eigh(Q.T @ (scaled[:, None] * Q))
    vectors = vectors * np.where(vectors[0] < 0, -1.0, 1.0)
    return centre + half * values, total * vectors[0] ** 2, Q @ vectors
