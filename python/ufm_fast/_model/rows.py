"""What a model is fitted to: rows with a target, a weight in the loss and a weight in the ridge on the features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runtime import arguments as check
from .._runtime import core
from .._runtime.arrays import Array
from .loss import Loss
from .targets import Targets, checked_targets, largest_of_rows, numbers_of_equal, take_rows

_EQUAL = 1e-14  # relative difference of ratios that rounding can make


@dataclass(frozen=True, eq=False)
class Rows:
    """M rows, each with a target, a loss weight and a ridge weight.

    Row i has one feature h_i, and with its logits ``z_i = W h_i + b`` a model has the terms

        weights_i loss(z_i; targets_i) + lambda_H/2 ridges_i |h_i|^2.

    The mean of a class with n_k of N samples is a row with the weight n_k / N and the ridge n_k.

    Attributes
    ----------
    targets : Targets
    weights, ridges : ndarray, shape (M,)
        Positive.
    N : float, optional
        The number of samples; the sum of the ridges, if it is not given.
    """

    targets: Targets
    weights: Array
    ridges: Array
    N: float = 0.0

    def __post_init__(self) -> None:
        set_part = partial(object.__setattr__, self)
        parts = self.targets if isinstance(self.targets, tuple) else (self.targets,)
        in_order = tuple(np.require(part, requirements=["C", "A"]) for part in parts)  # unpickled ones can lie anywhere
        set_part("targets", in_order if isinstance(self.targets, tuple) else in_order[0])
        for name in ("weights", "ridges"):
            set_part(name, np.require(getattr(self, name), requirements=["C", "A"]))
        if self.N == 0:
            set_part("N", float(self.ridges.sum()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (self.targets, self.weights, self.ridges, self.N)

    @property
    def M(self) -> int:
        """Number of rows."""
        return len(self.weights)

    def _targets_of(self, dtype: np.dtype[Any] | type) -> Targets:
        if isinstance(self.targets, tuple):
            starts, columns, entries = self.targets
            return starts, columns, entries.astype(dtype)
        return self.targets if self.labels is not None else self.targets.astype(dtype)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The labels, where every target is one."""
        return self.targets if isinstance(self.targets, np.ndarray) and self.targets.ndim == 1 else None

    def are_classes(self, K: int) -> bool:
        """Whether row k is class k."""
        return self.labels is not None and np.array_equal(self.labels, np.arange(K))

    def between(self, start: int, stop: int) -> Rows:
        """Return rows [start, stop), with their weights in the whole."""
        chosen = slice(start, stop)
        return Rows(take_rows(self.targets, chosen), self.weights[chosen], self.ridges[chosen], self.N)

    def target_matrix(self, K: int) -> Array:
        """Return the targets as (M, K), before any label smoothing."""
        if isinstance(self.targets, tuple):
            starts, columns, entries = self.targets
            matrix = np.zeros((self.M, K))
            matrix[np.repeat(np.arange(self.M), np.diff(starts)), columns] = entries
            return matrix
        if self.targets.ndim == 2:
            return self.targets
        matrix = np.zeros((self.M, K))
        matrix[np.arange(self.M), self.targets] = 1
        return matrix

    def anchors(self, K: int) -> NDArray[np.int64]:
        """Return the label of each row or, for other targets, the first of its largest entries, (M,)."""
        if self.labels is not None:
            return self.labels
        if isinstance(self.targets, tuple):
            return largest_of_rows(*self.targets, K)
        anchors: NDArray[np.int64] = self.targets.argmax(axis=1)
        return anchors

    def compiled(
        self,
        loss: Loss,
        K: int,
        d: int,
        *,
        scales: Array,
        ridges: Array,
        lambda_W: float,
        lambda_b: float,
        bias: bool,
        dtype: np.dtype[Any] | type = np.float64,
    ) -> Any:
        """Return the problem for the compiled core.

        In its coordinates, the scales and ridges of which are given, it is

            sum_i weights_i loss(scales_i W h_i + b; targets_i) + lambda_W/2 |W|^2 + sum_i ridges_i/2 |h_i|^2
            + lambda_b/2 |b|^2.
        """
        problem = core.Problem64 if dtype == np.float64 else core.Problem32
        return problem(
            K,
            d,
            targets=self._targets_of(dtype),
            weights=self.weights.astype(dtype),
            scales=scales.astype(dtype),
            ridges=ridges.astype(dtype),
            loss=loss.name,
            parameters=loss.parameters,
            lambda_W=lambda_W,
            lambda_b=lambda_b,
            bias=bias,
        )


def class_rows(counts: NDArray[np.int64], weights: Array | None) -> Rows:
    """Return one row a class, for the means of so many samples; each sample has the weight of its class, or 1."""
    samples, N = counts.astype(np.float64), int(counts.sum())
    total = samples if weights is None else samples * weights
    return Rows(np.arange(len(counts), dtype=np.int64), total / N, samples, N)


def sample_rows(counts: NDArray[np.int64], weights: Array | None) -> Rows:
    """Return one row a sample, class by class, with the weight of its class, or 1."""
    N = int(counts.sum())
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Rows(labels, np.full(N, 1 / N) if weights is None else weights[labels] / N, np.ones(N), N)


def given_rows(targets: Any, K: int, n: Any, weights: Any, ridges: Any) -> Rows:
    """Return rows with targets over K logits, each for n samples of a loss weight; None for ridges stands for n."""
    rows = checked_targets(targets, K)
    M = len(rows[0]) - 1 if isinstance(rows, tuple) else len(rows)
    samples = check.positive_numbers(n, "n", M, "rows")
    each = check.positive_numbers(1.0 if weights is None else weights, "weights", M, "rows")
    total = float(samples.sum())
    return Rows(
        rows,
        samples * each / total,
        samples if ridges is None else check.positive_numbers(ridges, "ridges", M, "rows"),
        int(total) if total.is_integer() else total,
    )


def merged_rows(rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
    """Merge rows that have one feature at every critical point; return also, for each row, where it went.

    Those are the rows of equal targets and equal ratios of weight and ridge: their weights and ridges add up.
    """
    ratios = rows.weights / rows.ridges
    order = np.argsort(ratios, kind="stable")
    steps = np.diff(ratios[order]) > _EQUAL * ratios[order][1:]
    kind = np.empty(rows.M, dtype=np.int64)
    kind[order] = np.concatenate([[0], np.cumsum(steps)])
    number = numbers_of_equal(rows.targets) * (kind.max() + 1) + kind
    _, first, index = np.unique(number, return_index=True, return_inverse=True)
    if rows.labels is None:  # labels stay sorted, others in the order in which they came
        order = np.argsort(first)
        first, index = first[order], np.argsort(order)[index]
    weights, ridges = (np.asarray(np.bincount(index, each), dtype=float) for each in (rows.weights, rows.ridges))
    merged = Rows(take_rows(rows.targets, first), weights, ridges, rows.N)
    return merged, np.asarray(index, dtype=np.int64)
