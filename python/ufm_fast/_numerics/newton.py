"""Minimisers of smooth functions for stationary points of full accuracy: quasi-Newton descent, then Newton's method.

Newton's method is a trust-region method with the steps of Steihaug (SIAM J. Numer. Anal. 20, 1983): preconditioned
conjugate gradients on the quadratic model, stopped at the trust region's boundary or at negative curvature.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import numpy as np

from .._runtime.arrays import Array
from .quasi_newton import Memory, line_search

_ROUNDING = 10 * float(np.finfo(float).eps)
_INNER_STEPS = 500
_PAIRS = 10
_NO_CURVATURE = 1e-11  # relative to the preconditioner: a symmetry of the function, along which only rounding pushes


class Smooth(Protocol):
    """A function of one vector: value, gradient and, where it was last linearised, products with the Hessian."""

    def value_and_gradient(self, x: Array) -> tuple[float, Array]: ...

    def linearize(self, x: Array) -> None: ...

    def hessian_product(self, v: Array) -> Array: ...

    def precondition(self, gradient: Array) -> Array:
        """Multiply by a positive definite matrix near the inverse of the Hessian."""
        ...

    def scale(self, x: Array) -> float:
        """What a gradient at x is small against."""
        ...


def newton(function: Smooth, x: Array, tolerance: float, steps: int = 300) -> tuple[Array, float]:
    """Descend from x until the gradient is at most `tolerance` times the scale, or as small as rounding allows.

    Returns
    -------
    ndarray
        The last point.
    float
        Its gradient norm over its scale; larger than `tolerance` if the method stopped short.
    """
    value, gradient = function.value_and_gradient(x)
    first = radius = 0.0
    failures = 0  # to lower the gradient where the decrease of the value drowns in rounding
    for _ in range(steps):
        size = float(np.linalg.norm(gradient))
        if size <= tolerance * function.scale(x):
            break
        function.linearize(x)
        length = math.sqrt(max(0.0, float(gradient @ function.precondition(gradient))))
        if radius == 0:
            first = radius = length
        step, step_length, promised = _step(
            function, gradient, radius, min(0.1, math.sqrt(length / first)) / 10**failures
        )
        new = x + step
        new_value, new_gradient = function.value_and_gradient(new)
        rounding = _ROUNDING * abs(value)
        ratio = (value - new_value + rounding) / (promised + rounding)
        if ratio < 0.25:
            radius = 0.25 * step_length
        elif ratio > 0.75 and step_length > 0.99 * radius:
            radius *= 3
        if promised < rounding and np.linalg.norm(new_gradient) >= size:
            failures += 1
            if failures == 6:
                break
        elif ratio > 1e-3:
            x, value, gradient = new, new_value, new_gradient
    return x, float(np.linalg.norm(gradient)) / max(function.scale(x), np.finfo(float).tiny)


def _step(function: Smooth, gradient: Array, radius: float, forcing: float) -> tuple[Array, float, float]:
    """Return the step, its length in the preconditioner's norm, and the decrease that the quadratic model promises."""
    step, image = np.zeros_like(gradient), np.zeros_like(gradient)
    residual = gradient
    y = function.precondition(residual)
    square = first = float(residual @ y)
    direction, along, length, inner = -y, square, 0.0, 0.0
    for _ in range(_INNER_STEPS):
        product = function.hessian_product(direction)
        curvature = float(direction @ product)
        if abs(curvature) <= _NO_CURVATURE * along:
            break
        # |step + t direction|^2 = length + 2 t inner + t^2 along, in the preconditioner's norm
        boundary = (-inner + math.sqrt(max(0.0, inner**2 + along * (radius**2 - length)))) / along
        t = square / curvature if curvature > 0 else math.inf
        outside = t >= boundary
        t = min(t, boundary)
        step, image = step + t * direction, image + t * product
        length += t * (2 * inner + t * along)
        if outside:
            break
        residual = residual + t * product
        y = function.precondition(residual)
        new_square = float(residual @ y)
        if new_square <= forcing**2 * first:
            break
        ratio, square = new_square / square, new_square
        inner = ratio * (inner + t * along)
        along = square + ratio**2 * along
        direction = -y + ratio * direction
    return step, math.sqrt(max(0.0, length)), -float(gradient @ step + 0.5 * (step @ image))


def quasi_newton_descent(function: Smooth, x: Array, tolerance: float, steps: int = 5000) -> Array:
    """Limited-memory quasi-Newton steps (L-BFGS) in the preconditioner's metric, for the way into Newton's reach."""
    value, gradient = function.value_and_gradient(x)
    memory = Memory(gradient, length=_PAIRS, scaled=True, threads=1)
    for _ in range(steps):
        if np.linalg.norm(gradient) <= tolerance * function.scale(x):
            break
        function.linearize(x)
        direction, slope = memory.direction(function.precondition)
        found = line_search(partial(_trial, function, x, direction), value, slope)
        if found is None:
            break
        length, (x, value, gradient) = found
        memory.add(length * direction, gradient)
    return x


def _trial(function: Smooth, x: Array, direction: Array, length: float) -> tuple[float, tuple[Array, float, Array]]:
    new = x + length * direction
    value, gradient = function.value_and_gradient(new)
    return value, (new, value, gradient)
