"""Ordinal regression: classes that are levels of a scale, told from one logit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._numerics.ordinal_problem import OrdinalProblem, best_bias, even_thresholds
from .._runtime.arguments import choice, real_numbers
from .._runtime.arrays import Array
from .loss import Loss, Parameters


@dataclass(frozen=True)
class Ordinal(Loss):
    """The cumulative link loss of ordinal regression (Ma, Obuchi & Tanaka, arXiv 2506.05801).

    The K classes are the levels q = 0, 1, ... of a scale. There is one logit, ``z = W h`` with W of shape (1, d), and
    with thresholds t_0 < t_1 < ... < t_K and the distribution function g of the link, the loss of a row of level q is

        -log(g(t_{q+1} - b - z) - g(t_q - b - z)) .

    Parameters
    ----------
    thresholds : K + 1 or K - 1 ascending real numbers, or None, optional
        All thresholds: t_0 and t_K are finite then, as in the paper, and the loss is no likelihood, for the
        probabilities of the levels do not add up to one. Or the inner ones, with t_0 = -infinity and t_K = infinity. In
        both cases a model's bias is one number, which is added to z.

        None: the inner thresholds are learned. They are the bias b of the model, K - 1 numbers, which must have one
        (``bias=True``), the decay lambda_b theirs; every level needs a row. Where b does not ascend, the loss is
        infinite: evaluations there raise FloatingPointError.
    link : {"logit", "probit"}, optional
        Of the logistic or the normal distribution.

    Raises
    ------
    TypeError
        If ``thresholds`` are not real numbers.
    ValueError
        If they do not ascend or are not finite, or there is no such link.

    Notes
    -----
    The loss is convex in z and, where the thresholds are learned, in (z, b) together: minima are certified in both
    cases, at every d.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ordinal = uf.Ordinal([-1.5, -0.5, 0.5, 1.5])
    >>> ufm = uf.UFM(5, 2, [40, 30, 20, 10, 5], loss=ordinal, lambda_W=1e-3, lambda_H=1e-5, bias=False)
    >>> bool(uf.minimize(ufm).success)
    True
    """

    thresholds: tuple[float, ...] | None = None
    link: str = "logit"
    name: ClassVar[str] = "ordinal"
    title: ClassVar[str] = "ordinal loss"
    convex: ClassVar[bool] = True
    saturates: ClassVar[bool] = False
    has_best_bias: ClassVar[bool] = True
    gradient_tells_state: ClassVar[bool] = False

    def __init__(self, thresholds: ArrayLike | None = None, link: str = "logit") -> None:
        object.__setattr__(self, "link", choice(link, "link", ["logit", "probit"]))
        numbers = None if thresholds is None else real_numbers(thresholds, "thresholds", above=-math.inf)
        object.__setattr__(self, "thresholds", numbers)
        if numbers is not None and not all(np.diff(numbers) > 0):
            raise ValueError("thresholds must ascend")

    @property
    def parameters(self) -> Parameters:
        """The link, and the thresholds that are given."""
        given = {} if self.thresholds is None else {"thresholds": list(self.thresholds)}
        return {**given, "link": self.link}

    def describe(self) -> str:
        """Return a name with the link and what the thresholds are."""
        return f"{self.title} ({self.link}, thresholds {'learned' if self.thresholds is None else 'given'})"

    def check(self, K: int) -> None:
        """Raise ValueError if there are thresholds for another number of levels."""
        if self.thresholds is not None and len(self.thresholds) not in (K - 1, K + 1):
            raise ValueError(
                f"thresholds must be K - 1 = {K - 1} or K + 1 = {K + 1} numbers for K = {K} levels, not "
                f"{len(self.thresholds)}"
            )

    def check_rows(self, labels: NDArray[np.int64] | None, K: int, bias: bool) -> None:
        """Raise ValueError for targets that are no labels and, if thresholds are learned, where they cannot be."""
        if labels is None:
            raise ValueError("targets must be labels, the levels, for an ordinal loss")
        if self.thresholds is not None:
            return
        if not bias:
            raise ValueError("bias must be True where thresholds are learned: they are the bias")
        missing = np.flatnonzero(np.bincount(labels, minlength=K) == 0)
        if len(missing):
            raise ValueError(f"targets must hold every level where thresholds are learned, but lack level {missing[0]}")

    def outputs(self, K: int) -> int:
        """Return 1."""
        return 1

    def biases(self, K: int) -> int:
        """Return 1, or the number of thresholds that are learned."""
        return K - 1 if self.thresholds is None else 1

    @property
    def adds_bias(self) -> bool:
        """Whether thresholds are given: learned ones, one for two levels, are what the logit is held to."""
        return self.thresholds is not None

    def ends(self, K: int) -> Array | None:
        """Return all K + 1 thresholds, or None where they are learned."""
        if self.thresholds is None or len(self.thresholds) == K + 1:
            return None if self.thresholds is None else np.array(self.thresholds)
        return np.array([-math.inf, *self.thresholds, math.inf])

    @property
    def curvature(self) -> float:
        """1/2 for the logit, whose loss is a sum of two softplus functions in z; 1 for the probit.

        There it is one minus the variance of a normal variable between two ends.
        """
        return 0.5 if self.link == "logit" else 1.0

    @property
    def least_curvature(self) -> float:
        """Zero: for outer levels it vanishes far in the right."""
        return 0.0

    @property
    def treats_classes_alike(self) -> bool:
        """False: levels have an order."""
        return False

    @property
    def offset(self) -> float:
        """The largest size of the thresholds that are given."""
        return max(map(abs, self.thresholds), default=0.0) if self.thresholds is not None else 0.0

    def allowed_bias(self, b: Array, K: int) -> Array:
        """Return b or, where thresholds are learned, ascending ones: even ones moved by b, and sorted."""
        return b if self.thresholds is not None else np.sort(even_thresholds(self.link, np.ones(K)) + b)

    def best_bias(self, scores: Array, targets: Array, weights: Array, lambda_b: float, guess: Array) -> Array:
        """Return the bias of least loss at scores (M, 1), by Newton's method from a guess."""
        K, rows = targets.shape[1], np.ones(len(weights))
        problem = OrdinalProblem(K, self.link, self.ends(K), targets.argmax(axis=1), weights, rows, 1.0, lambda_b, True)
        return best_bias(problem, scores[:, 0], guess)

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        A function with values from zero and a second derivative of at most c has a slope of at most sqrt(2 c) times the
        root of its value. With the logit, |l'| is moreover at most l, and at most one.
        """
        slope = math.sqrt(2 * self.curvature * weight * value)
        if self.link == "logit":
            slope = min(slope, value, weight)
        return (slope + weight * self.curvature * error / 2) * error
