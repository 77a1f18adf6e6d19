"""Small random models of every loss that has certificates, and points: near the minimum, at saddles, far away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

import ufm_fast as uf

CLASSES = 8
_ROWS = 16
Generator = np.random.Generator


def _adjusted(generator: Generator, K: int) -> uf.CrossEntropy:
    scale, shift = np.exp(generator.uniform(-1, 1, K)), 2 * generator.standard_normal(K)
    return uf.CrossEntropy(scale=scale, shift=shift, margin=generator.uniform(0, 2, K))


def _thresholds(generator: Generator, K: int) -> NDArray[np.float64]:
    return np.cumsum(10 ** generator.uniform(-2, 0.5, K - 1)) - 1


LOSSES: dict[str, Callable[[Generator, int], Any]] = {
    "cross-entropy": lambda generator, K: uf.CrossEntropy(),
    "smoothed cross-entropy": lambda generator, K: uf.CrossEntropy(generator.uniform(0.01, 0.5)),
    "adjusted cross-entropy": _adjusted,
    "squared error": lambda generator, K: uf.MSE(),
    "binary cross-entropy": lambda generator, K: uf.BinaryCrossEntropy(float(generator.choice([0, 0.1]))),
    "ordinal": lambda generator, K: uf.Ordinal(_thresholds(generator, K), str(generator.choice(["logit", "probit"]))),
    "learned thresholds": lambda generator, K: uf.Ordinal(None, str(generator.choice(["logit", "probit"]))),
}
_OF_LABELS = "adjusted cross-entropy", "ordinal", "learned thresholds"


def model(seed: int, classes: int = CLASSES) -> tuple[uf.UFM, str]:
    """The model of this number, of at most so many classes, and the name of its loss."""
    generator = np.random.default_rng(seed)
    K = int(generator.integers(2, classes + 1))
    name = str(generator.choice(list(LOSSES)))
    loss = LOSSES[name](generator, K)
    lambda_W, lambda_H = 10 ** generator.uniform(-5, 0, 2)
    bias = name == "learned thresholds" or generator.random() < 0.7
    lambda_b = float(generator.choice([0, 10 ** generator.uniform(-12, 0)])) if bias else 0.0
    data = _classes(generator, K) if generator.random() < 0.5 else _rows(generator, K, name)
    d = int(generator.integers(1, K + 3))
    ufm = uf.UFM(
        K, d, **data, loss=loss, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b, bias=bias, threads=1
    )  # fmt: skip
    return ufm, name


def _classes(generator: Generator, K: int) -> dict[str, Any]:
    n = np.ceil(10 ** generator.uniform(0, generator.choice([0.1, 2, 6]), K)).astype(np.int64)
    return {"n": n, "weights": np.exp(generator.uniform(-2, 2, K)) if generator.random() < 0.3 else None}


def _rows(generator: Generator, K: int, name: str) -> dict[str, Any]:
    targets = _targets(generator, K, name)
    some = {
        "n": np.exp(generator.uniform(-2, 2, targets.shape[0])),
        "weights": np.exp(generator.uniform(-1, 1, targets.shape[0])),
        "ridges": np.exp(generator.uniform(-1, 1, targets.shape[0])),
    }
    return {"targets": targets, **{key: value for key, value in some.items() if generator.random() < 0.5}}


def _targets(generator: Generator, K: int, name: str) -> Any:
    M = int(generator.integers(1, _ROWS + 1))
    if name in _OF_LABELS:
        return np.concatenate([np.arange(K), generator.integers(0, K, M)])
    if name == "squared error":
        return generator.standard_normal((M, K))
    if name == "binary cross-entropy":
        return (generator.random((M, K)) < 0.3).astype(float)
    dense = generator.dirichlet(np.full(K, 0.3), M)
    return scipy.sparse.csr_array(dense) if generator.random() < 0.5 else dense


def points(ufm: uf.UFM, near: uf.Point, generator: Generator) -> Iterator[uf.Point]:
    """Points without end, of a kind after the other: near a point, of any size, a saddle, between two of them."""
    while True:
        shift = 10 ** generator.uniform(-12, 1)
        yield _moved(ufm, near, lambda part, by=shift: part * (1 + by * generator.standard_normal(part.shape)))
        anywhere = ufm.random_point(generator, 10 ** generator.uniform(-6, 3))
        yield anywhere
        try:
            there = uf.saddle(ufm, int(generator.integers(ufm.d + 1)), int(generator.integers(2**32)))
        except (ValueError, ArithmeticError):  # there is none of this rank, or of this loss
            there = anywhere
        yield there
        share = generator.random()
        yield uf.Point(*((1 - share) * a + share * b for a, b in zip(near, there, strict=True)))


def _moved(ufm: uf.UFM, p: uf.Point, move: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> uf.Point:
    W, H, b = map(move, p)
    learned = isinstance(ufm.loss_function, uf.Ordinal) and ufm.loss_function.thresholds is None
    return uf.Point(W, H, np.sort(b) if learned else b)
