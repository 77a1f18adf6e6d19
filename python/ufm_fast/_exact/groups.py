"""Groups of exchangeable classes, and the model that a model of many classes becomes when groups stand for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._model.canonical import CanonicalProblem
from .._model.grouped import GroupedCrossEntropy
from .._model.losses import CrossEntropy
from .._model.model import UFM, rows_model, rows_of_classes
from .._model.rows import Rows
from .._runtime.arrays import Array


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of classes that differ in nothing: m of them, in blocks of classes that share all parameters.

    Attributes
    ----------
    ridges, weights, scale, shift : ndarray, shape (m,)
        Of one class: of its row in the decay and in the loss, and of its logit.
    blocks, size : ndarray of float, shape (m,)
        Number of blocks, and of classes in a block.
    """

    ridges: Array
    weights: Array
    scale: Array
    shift: Array
    blocks: Array
    size: Array

    @property
    def classes(self) -> Array:
        """Number of classes in each group."""
        return self.blocks * self.size

    def miss(self, tau: float) -> Array:
        """What the probability of a class that is kept lacks: tau sqrt(ridge) / (scale weight)."""
        missing: Array = tau * np.sqrt(self.ridges) / (self.scale * self.weights)
        return missing

    def largest_difference(self, tau: float, smoothing: float) -> float:
        """Return the norm of the gradient matrix of all classes on differences within groups."""
        within = np.where(self.blocks > 1, (1 - smoothing) / self.miss(tau), 0.0)
        return tau * min(1.0, float(within.max()))

    def contrasts(self, problem: CanonicalProblem, G: Array) -> Array:
        """Return the scores of a block of each group over others of it, at the gradient matrix G of `model`'s problem.

        Zero for groups of one block.
        """
        loss = problem.loss
        assert isinstance(loss, GroupedCrossEntropy)
        a, excess = loss.label_smoothing, loss.excess
        wrong = a * (1 - loss.share) - G.diagonal() * problem.root / (problem.weights * loss.scale)
        left = np.where(excess > 0, a + loss.miss - wrong, 1.0)
        rise = np.log1p(excess * self.blocks / np.maximum(left, np.finfo(float).tiny))
        contrast: Array = rise * np.sqrt(self.ridges) * self.size / self.scale
        return contrast

    def model(self, ufm: UFM) -> UFM:
        """Return the model of these groups: a row, a logit and a feature each; d is their number."""
        M, m = self.classes, len(self.blocks)
        loss = GroupedCrossEntropy(
            ufm.loss_function.parameters["label_smoothing"],
            self.blocks,
            self.size,
            self.miss(ufm.tau),
            self.scale / np.sqrt(M),
            self.shift,
        )
        rows = Rows(np.arange(m), M * self.weights, M * self.ridges, ufm.N)
        return rows_model(
            m,
            m,
            rows,
            loss=loss,
            lambda_W=ufm.lambda_W,
            lambda_H=ufm.lambda_H,
            lambda_b=ufm.lambda_b,
            bias=ufm.bias,
            threads=ufm.threads,
        )


def is_grouped(ufm: UFM) -> bool:
    """Whether classes of a model are exchangeable where their numbers agree: cross-entropy without margins."""
    loss = ufm.loss_function
    has_classes = ufm.counts is not None or ufm.data.are_classes(ufm.K)
    return type(loss) is CrossEntropy and loss.margin is None and has_classes


def groups_of(ufm: UFM) -> tuple[Groups, NDArray[np.intp]]:
    """Group all classes that are exchangeable; return also the group of each class, (K,). At least two groups.

    Groups are sorted by ridge, then by weight, scale and shift.
    """
    rows, loss = rows_of_classes(ufm), ufm.loss_function
    assert isinstance(loss, CrossEntropy)
    scale = np.ones(ufm.K) if loss.scale is None else np.array(loss.scale)
    shift = np.zeros(ufm.K) if loss.shift is None else np.array(loss.shift)
    columns = rows.ridges, rows.weights, scale, shift
    number = np.zeros(ufm.K, dtype=np.int64)
    for column in columns:
        values, index = np.unique(column, return_inverse=True)
        number = np.unique(number * len(values) + index, return_inverse=True)[1]
    if number.max() == 0:  # a model has two classes at least
        number = np.arange(ufm.K) % 2
    _, first, group = np.unique(number, return_index=True, return_inverse=True)
    M = np.bincount(group).astype(float)
    ridges, weights, scale, shift = (column[first] for column in columns)
    return Groups(ridges, weights, scale, shift, M, np.ones_like(M)), group
