"""The losses of rows of logits, written out in plain NumPy and in decimal arithmetic, independent of ufm_fast.

Z, dZ and the raw targets T are (M, K); complex Z are fine, for complex steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RowLoss:
    """One of the losses below, with the parameters that it has."""

    name: str
    label_smoothing: float = 0.0
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    margin: tuple[float, ...] | None = None
    gamma: float = 0.0

    @property
    def formulas(self) -> Formulas:
        return FORMULAS[self.name]

    def targets(self, T):
        """What the logits are compared with."""
        a = self.label_smoothing
        return (1 - a) * T + a * self.formulas.smoothing_share(T.shape[1])

    def value(self, Z, T):
        """(M,)"""
        return self.formulas.value(self, Z, T)

    def gradient(self, Z, T):
        """(M, K)"""
        return self.formulas.gradient(self, Z, T)

    def product(self, Z, T, dZ):
        """The second derivative times dZ, (M, K)."""
        return self.formulas.product(self, Z, T, dZ)

    def decimal(self, z, t):
        """The loss of one row of Decimals."""
        a, share = Decimal(self.label_smoothing), self.formulas.smoothing_share(Decimal(len(z)))
        return self.formulas.decimal(self, z, t, [(1 - a) * x + a * Decimal(share) for x in t])


@dataclass(frozen=True)
class Formulas:
    smoothing_share: Callable  # of label smoothing, what each of K classes gets
    value: Callable
    gradient: Callable
    product: Callable
    decimal: Callable


def log_softmax(A):
    top = A.real.max(1, keepdims=True)
    return A - top - np.log(np.exp(A - top).sum(1, keepdims=True))


def affine(loss, Z, T):
    """The affine logits of cross-entropy; T has the labels where there is a margin."""
    A = Z if loss.scale is None else np.array(loss.scale) * Z
    A = A if loss.shift is None else A + np.array(loss.shift)
    return A if loss.margin is None else A - T * np.array(loss.margin)


def entropy_value(loss, Z, T):
    return -(loss.targets(T) * log_softmax(affine(loss, Z, T))).sum(1)


def entropy_gradient(loss, Z, T):
    residual = np.exp(log_softmax(affine(loss, Z, T))) - loss.targets(T)
    return residual if loss.scale is None else np.array(loss.scale) * residual


def entropy_product(loss, Z, T, dZ):
    P, D = np.exp(log_softmax(affine(loss, Z, T))), 1.0 if loss.scale is None else np.array(loss.scale)
    return D * (P * (D * dZ) - P * (P * D * dZ).sum(1, keepdims=True))


def decimal_log_sum_exp(a):
    return max(a) + sum((x - max(a)).exp() for x in a).ln()


def entropy_decimal(loss, z, raw, t):
    a = list(z)
    for vector, move in ((loss.scale, lambda x, s, _: s * x), (loss.shift, lambda x, s, _: x + s),
                         (loss.margin, lambda x, m, own: x - m * own)):  # fmt: skip
        if vector is not None:
            a = [move(x, Decimal(v), own) for x, v, own in zip(a, vector, raw, strict=True)]
    return decimal_log_sum_exp(a) - sum(x * y for x, y in zip(a, t, strict=True))


def squares_decimal(loss, z, raw, t):
    return sum((x - y) ** 2 for x, y in zip(z, t, strict=True)) / 2


def sigmoid(Z):
    return np.where(Z.real > 0, 1 / (1 + np.exp(-abs_real(Z))), np.exp(-abs_real(Z)) / (1 + np.exp(-abs_real(Z))))


def abs_real(Z):
    """|Z|, complex where Z is."""
    return np.where(Z.real > 0, Z, -Z)


def binary_value(loss, Z, T):
    softplus = np.log1p(np.exp(-abs_real(Z))) + np.where(Z.real > 0, Z, 0)
    return (softplus - loss.targets(T) * Z).sum(1)


def binary_gradient(loss, Z, T):
    return sigmoid(Z) - loss.targets(T)


def binary_product(loss, Z, T, dZ):
    return sigmoid(Z) * sigmoid(-Z) * dZ


def binary_decimal(loss, z, raw, t):
    return sum((1 + x.exp()).ln() - x * y for x, y in zip(z, t, strict=True))


def focal_value(loss, Z, T):
    u = (T * log_softmax(Z)).sum(1)
    return -((-np.expm1(u)) ** loss.gamma) * u


def focal_slopes(loss, Z, T):
    """u = log p_k, and first and second derivative of -(1 - exp(u))^gamma u."""
    g, u = loss.gamma, (T * log_softmax(Z)).sum(1, keepdims=True)
    p, q = np.exp(u), -np.expm1(u)
    first = g * p * q ** (g - 1) * u - q**g
    second = 2 * g * p * q ** (g - 1) + g * p * u * (q ** (g - 1) - (g - 1) * p * q ** (g - 2))
    return first, second


def focal_gradient(loss, Z, T):
    return focal_slopes(loss, Z, T)[0] * (T - np.exp(log_softmax(Z)))


def focal_product(loss, Z, T, dZ):
    P = np.exp(log_softmax(Z))
    first, second = focal_slopes(loss, Z, T)
    along = ((T - P) * dZ).sum(1, keepdims=True)
    return second * along * (T - P) - first * (P * dZ - P * (P * dZ).sum(1, keepdims=True))


def focal_decimal(loss, z, raw, t):
    u = sum(x * y for x, y in zip(z, raw, strict=True)) - decimal_log_sum_exp(z)
    return -((1 - u.exp()) ** Decimal(loss.gamma)) * u


FORMULAS = {
    "cross_entropy": Formulas(lambda K: 1 / K, entropy_value, entropy_gradient, entropy_product, entropy_decimal),
    "mse": Formulas(
        lambda K: 1 / K,
        lambda loss, Z, T: 0.5 * ((Z - loss.targets(T)) ** 2).sum(1),
        lambda loss, Z, T: Z - loss.targets(T),
        lambda loss, Z, T, dZ: dZ,
        squares_decimal,
    ),
    "bce": Formulas(lambda K: 1 / 2, binary_value, binary_gradient, binary_product, binary_decimal),
    "focal": Formulas(lambda K: 1 / K, focal_value, focal_gradient, focal_product, focal_decimal),
}
