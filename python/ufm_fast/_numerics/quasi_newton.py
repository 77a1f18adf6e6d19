"""Limited-memory quasi-Newton methods (L-BFGS): the last steps, the inverse Hessian they imply, and a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from .._runtime import core
from .._runtime.arrays import Array

_T = TypeVar("_T")

_TRIALS = 40


def line_search(
    evaluate: Callable[[float], tuple[float, _T] | None], value: float, slope: float
) -> tuple[float, _T] | None:
    """Backtrack from the unit step to sufficient decrease, by quadratic interpolation.

    `evaluate(step)` gives the value there and what else is wanted of the step that is found; None ends the search, and
    a FloatingPointError (overflow) shortens the step.
    """
    step = 1.0
    for _ in range(_TRIALS):
        try:
            found = evaluate(step)
        except FloatingPointError:
            step *= 0.1
            continue
        if found is None:
            break
        rise = found[0] - value
        if rise <= 1e-4 * step * slope + 1e-15 * abs(value):
            return step, found[1]
        step *= min(max(-step * slope / (2 * (rise - step * slope)), 0.1), 0.5)
    return None


class Memory:
    """The last few pairs (s, y) of steps and changes of the gradient, up to the point with the present gradient.

    The two-loop recursion (Nocedal and Wright, Numerical Optimization, 2006, alg. 7.4) is carried out on inner products
    so that `add` and `direction` read each vector twice in all.

    Parameters
    ----------
    gradient : ndarray of shape (n,)
    length : int
        Largest number of pairs.
    scaled : bool
        Whether the last pair sets the scale of the initial inverse Hessian.
    threads : int
    """

    def __init__(self, gradient: Array, *, length: int, scaled: bool, threads: int) -> None:
        self.gradient = gradient
        self.length, self.scaled, self.threads = length, scaled, threads
        self.s: list[Array] = []
        self.y: list[Array] = []
        self._s_gradient = np.empty(0)
        self._s_y = np.empty((0, 0))  # used on and above the diagonal: s_i . y_j for j not before i

    def add(self, s: Array, gradient: Array) -> None:
        """Take a step s to a point with this gradient; the pair is left out where it shows no positive curvature."""
        y = core.combination([1.0, -1.0], [gradient, self.gradient], self.threads)
        products = core.inner_products([*self.s, s, y], [s, y, gradient], self.threads)
        self.gradient, count = gradient, len(self.s)
        self._s_gradient = products[:count, 2]
        if products[count, 1] <= 1e-10 * np.sqrt(products[count, 0]) * np.sqrt(products[count + 1, 1]):
            return
        first = max(0, count + 1 - self.length)
        self.s, self.y = [*self.s, s][first:], [*self.y, y][first:]
        self._s_gradient = products[first : count + 1, 2]
        self._s_y = np.pad(self._s_y, (0, 1))
        self._s_y[:, count] = products[: count + 1, 1]
        self._s_y = self._s_y[first:, first:]

    def saved(self) -> dict[str, Array]:
        """Return the pairs and their inner products, as arrays by name, to `restore` at the same point."""
        pairs = {f"{name}{i}": v for name, vectors in (("s", self.s), ("y", self.y)) for i, v in enumerate(vectors)}
        return {**pairs, "s_gradient": self._s_gradient, "s_y": self._s_y}

    def restore(self, saved: dict[str, Array]) -> None:
        """Undo `saved`."""
        self._s_gradient, self._s_y = saved["s_gradient"], saved["s_y"]
        self.s, self.y = ([saved[f"{name}{i}"] for i in range(len(self._s_y))] for name in "sy")

    def direction(self, apply: Callable[[Array], Array]) -> tuple[Array, float]:
        """Return minus the inverse Hessian times the gradient, and its inner product with the gradient.

        `apply` multiplies by the initial inverse Hessian.
        """
        count, curvature = len(self.s), self._s_y.diagonal()
        first, second = np.zeros(count), np.zeros(count)
        for i in reversed(range(count)):
            first[i] = (self._s_gradient[i] - self._s_y[i, i + 1 :] @ first[i + 1 :]) / curvature[i]
        r = self.gradient
        if count > 0:
            r = core.combination([1.0, *-first], [r, *self.y], self.threads)
        r, scale = apply(r), 1.0
        if self.scaled and count > 0:
            image = apply(self.y[-1])
            scale = curvature[-1] / float(core.inner_products([self.y[-1]], [image], self.threads)[0, 0])
        y_r = scale * core.inner_products([*self.y, self.gradient], [r], self.threads)[:, 0]
        for i in range(count):
            second[i] = first[i] - (y_r[i] + self._s_y[:i, i] @ second[:i]) / curvature[i]
        direction = core.combination([-scale, *-second], [r, *self.s], self.threads)
        return direction, -float(y_r[-1] + second @ self._s_gradient)
