"""Random models of which classes are given up, or nearly: n* = (N tau / (1 - smoothing))^2 is among the counts.

With class weights w_k, class k is given up where w_k sqrt(n_k) (1 - smoothing) / N <= tau. Classes of equal counts have
equal weights and shifts, as in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ufm_fast as uf

CLASSES, LEAST = 600, 5

Law = Callable[[np.random.Generator, int], NDArray]

LAWS: dict[str, Law] = {
    "geometric": lambda generator, K: np.geomspace(5, 5 * 10 ** generator.uniform(0.5, 4), K),
    "Zipf": lambda generator, K: K * 10 ** generator.uniform(0, 2) / np.arange(1, K + 1) ** generator.uniform(0.5, 1.5),
    "log-normal": lambda generator, K: 400 * np.exp(generator.uniform(0.3, 1.5) * generator.standard_normal(K)),
    "few": lambda generator, K: generator.choice(10 ** generator.uniform(0.5, 4, generator.integers(2, 9)), K),
    "pairs": lambda generator, K: np.repeat(np.geomspace(5, 5000, -(-K // 2)), 2)[:K],
}
BIASES: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "no bias": lambda _: {"bias": False},
    "lambda_b = 0": lambda _: {"lambda_b": 0.0},
    "lambda_b tiny": lambda generator: {"lambda_b": 10 ** generator.uniform(-25, -5)},
    "lambda_b = 0.01": lambda _: {"lambda_b": 1e-2},
}


def model(seed: int, classes: int = CLASSES) -> tuple[uf.UFM, str]:
    """The model of this number, of at most so many classes, and what bias it has."""
    generator = np.random.default_rng(seed)
    K = int(np.exp(generator.uniform(np.log(LEAST), np.log(classes + 1))))
    law = LAWS[generator.choice(list(LAWS))]
    counts = np.maximum(1, np.round(law(generator, K))).astype(np.int64)
    if counts.min() == counts.max():
        counts[0] *= 2
    smoothing = float(generator.choice([0, 0, 0.05, 0.1]))
    weights = (counts / counts.mean()) ** -generator.uniform(0, 1) if generator.random() < 0.3 else None
    shift = generator.uniform(-1, 2) * np.log(counts / counts.sum()) if generator.random() < 0.3 else None
    tau = _among(generator, counts, weights) * (1 - smoothing)
    balance = np.sqrt(counts.mean()) * 10 ** generator.uniform(-1, 1)
    bias = str(generator.choice(list(BIASES)))
    ufm = uf.UFM(
        K, K + int(generator.choice([-1, 0, 0, 5])), counts, weights=weights,
        loss=uf.CrossEntropy(smoothing, shift=shift), lambda_W=tau * balance, lambda_H=tau / balance,
        **BIASES[bias](generator), threads=1,
    )  # fmt: skip
    return ufm, bias


def _among(generator: np.random.Generator, counts: NDArray, weights: NDArray | None) -> float:
    """A number among the values of w sqrt(n) / N: on one, beside one, or anywhere between two neighbours."""
    values = np.unique(np.sqrt(counts) / counts.sum() * (1 if weights is None else weights))
    i = int(generator.integers(len(values) - 1))
    share = generator.choice([0, 1e-3, 1 - 1e-3, generator.random(), generator.random()])
    return float(values[i] * (values[i + 1] / values[i]) ** share)
