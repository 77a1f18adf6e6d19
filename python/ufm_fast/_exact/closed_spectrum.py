"""The whole spectrum of the Hessian at a balanced global minimum, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .._model.facts import checked_model, is_balanced
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._model.model import UFM
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas

_Piece = tuple[float, int]


@single_threaded_blas()
def closed_form_spectrum(ufm: UFM) -> tuple[Array, NDArray[np.int64]] | None:
    """Give the eigenvalues of the full-sample Hessian at the global minimum and their multiplicities.

    Known for balanced classes and a minimum that is not zero: for cross-entropy without label smoothing and d >= K - 1;
    for squared error with a bias, where the minimum has rank K - 1 (lambda_b / (1 + lambda_b) <= K t,
    t = sqrt(n lambda_W lambda_H)). The minimum is one orbit of rotations of the feature space, nondegenerate across it:
    the zeros are (K - 1)(d - K/2) in number, and one more for cross-entropy without a bias decay.

    Parameters
    ----------
    ufm : UFM

    Returns
    -------
    values : ndarray
        Distinct and ascending, in the coordinates (W, h_i, b) of all samples.
    multiplicities : ndarray of int
        They sum to (K + N) d + K, or (K + N) d without a bias.
    None
        Instead, where no closed form is known.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> values, multiplicities = uf.closed_form_spectrum(ufm)
    >>> bool(abs(values[0]) < 1e-12), int(multiplicities[0])  # the rotations of the feature space
    (True, 10)
    """
    if not is_balanced(checked_model(ufm)) or type(ufm.loss_function) not in _PIECES:
        return None
    n, t = int(ufm.counts[0]), math.sqrt(float(ufm.counts[0])) * ufm.tau
    if ufm.d < ufm.K - 1 or ufm.K * t >= 1:
        return None
    known, pieces = _PIECES[type(ufm.loss_function)]
    if not known(ufm, t):
        return None
    totals: dict[float, int] = {}
    for value, count in pieces(ufm, n, t):
        totals[value] = totals.get(value, 0) + count
    found = sorted((value, count) for value, count in totals.items() if count > 0)
    return np.array([value for value, _ in found]), np.array([count for _, count in found], dtype=np.int64)


def _pair(total: float, product: float) -> tuple[float, float]:
    """Roots of x^2 - total x + product, the smaller one without cancellation."""
    larger = total / 2 + math.sqrt(max(0.0, total * total / 4 - product))
    return product / larger, larger


def _cross_entropy(ufm: UFM, n: int, t: float) -> Iterator[_Piece]:
    """By representations of the symmetric group on the classes; s is the margin of the logits, 1 - K t that of P."""
    K, lambda_W, lambda_H = ufm.K, ufm.lambda_W, ufm.lambda_H
    s, contrast, empty = math.log(1 / t - K + 1), 1 - K * t, ufm.d - K + 1
    ridge, square = lambda_W + lambda_H, 4 * lambda_W * lambda_H
    scale, diagonal = 1 + (K - 1) * contrast, 1 + (K - 2) * contrast
    antisymmetric, symmetric = (K - 1) * (K - 2) // 2, K * (K - 3) // 2
    yield 0.0, antisymmetric
    yield ridge * (1 + s / K), antisymmetric
    for value in _pair(ridge * (1 + s / K), square * s / K):
        yield value, max(0, symmetric)
    for value in _pair(ridge * (1 + scale * s / K), square * scale * s / K):
        yield value, 1
    yield lambda_W, K - 1  # all rows of W alike
    if ufm.bias:
        yield ufm.lambda_b, 1
    # a class's own score, in W and in H; all features alike; the bias
    A, E, N = math.sqrt(t * s / lambda_W), math.sqrt(t * s / lambda_H), n * K
    own, shift = np.array([E, A, 0, 0]), np.array([0, 0, A / math.sqrt(N), 1])
    mixed = t * contrast * math.sqrt((1 - 2 / K) / n) * np.outer(own, shift)
    block = t / N * diagonal * np.outer(own, own) + mixed + mixed.T + t * (2 - K * t) * np.outer(shift, shift)
    block += np.diag([lambda_W, lambda_H, lambda_H, ufm.lambda_b])
    block[0, 1] -= ufm.tau
    block[1, 0] -= ufm.tau
    block = block[2 if K == 2 else 0 : 4 if ufm.bias else 3, :][:, 2 if K == 2 else 0 : 4 if ufm.bias else 3]
    for value in linalg.eigvalsh(block):
        yield float(value), K - 1
    yield from ((0.0, empty * (K - 1)), (ridge, empty * (K - 1)), (lambda_W, empty), (lambda_H, empty))
    yield lambda_H * (1 + s / K), (n - 1) * K * (K - 2)
    yield lambda_H * (1 + scale * s / K), (n - 1) * K
    yield lambda_H, (n - 1) * K * empty


def _squared_error(ufm: UFM, n: int, t: float) -> Iterator[_Piece]:
    K, lambda_W, lambda_H = ufm.K, ufm.lambda_W, ufm.lambda_H
    s, empty, N = 1 - K * t, ufm.d - K + 1, n * K
    ridge = lambda_W + lambda_H
    yield 0.0, (K - 1) * (K - 2) // 2
    yield ridge / (K * t), (K - 1) * (K - 2) // 2
    for value in _pair(ridge / (K * t), 4 * lambda_W * lambda_H * s / (K * t)):
        yield value, K * (K - 1) // 2
    mean = ufm.lambda_b / (1 + ufm.lambda_b) / (K * math.sqrt(n))  # singular value of the gradient matrix along 1
    A, E = math.sqrt(t * s / lambda_W), math.sqrt(t * s / lambda_H)
    link = A / math.sqrt(N)
    block = np.array(
        [[lambda_W + E * E / N, -mean, 0], [-mean, lambda_H + A * A / N, link], [0, link, 1 + ufm.lambda_b]]
    )
    for value in linalg.eigvalsh(block):
        yield float(value), K - 1
    yield 1 + ufm.lambda_b, 1
    yield from ((0.0, empty * (K - 1)), (ridge, empty * (K - 1)))
    half, spread = ridge / 2, math.hypot((lambda_W - lambda_H) / 2, mean)
    yield from ((half - spread, empty), (half + spread, empty))
    yield lambda_H + A * A / N, (n - 1) * K * (K - 1)
    yield lambda_H, (n - 1) * K * empty


def _is_plain(ufm: UFM, t: float) -> bool:
    return ufm.loss_function == CrossEntropy()


def _has_no_mean(ufm: UFM, t: float) -> bool:
    return ufm.bias and ufm.lambda_b / (1 + ufm.lambda_b) <= ufm.K * t


#: Whether the eigenvalues at the minimum of a loss are known, and what they are.
_PIECES: dict[type[Loss], tuple[Callable[[UFM, float], bool], Callable[[UFM, int, float], Iterator[_Piece]]]] = {
    CrossEntropy: (_is_plain, _cross_entropy),
    MSE: (_has_no_mean, _squared_error),
}
