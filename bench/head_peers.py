"""A batch of logits W h + b: ours and the peers, each a call without arguments that returns value and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

import ufm_fast as uf
from peers import torch_chunked, torch_plain
from process import resident

OURS, TORCH = "ufm-fast", "torch"
WARM, HEAVY_WARM = 3, 2  # later calls


@dataclass(frozen=True)
class Head:
    """W is (K, d), H is (N, d)."""

    N: int
    K: int
    d: int
    dtype: str

    def __str__(self) -> str:
        return f"N = {self.N}, K = {self.K}, d = {self.d}, {self.dtype}"

    @property
    def logits(self) -> int:
        """Bytes of them."""
        return self.N * self.K * np.dtype(self.dtype).itemsize

    @property
    def heavy(self) -> bool:
        """Whether a call takes seconds."""
        return self.N * self.K * self.d > 10**10

    def arrays(self) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(0)
        W = rng.standard_normal((self.K, self.d), dtype=self.dtype) / np.dtype(self.dtype).type(self.d**0.5)
        H = rng.standard_normal((self.N, self.d), dtype=self.dtype)
        return W, H, rng.integers(0, self.K, self.N), np.zeros(self.K, self.dtype)


def ours(W, H, labels, b, threads):
    def call():
        value, gradient = uf.linear_cross_entropy(W, H, labels, b, threads=threads)
        return value, *gradient

    return call


def by_numpy(W, H, labels, b, threads):
    rows, N = np.arange(len(labels)), len(labels)

    def call():
        Z = H @ W.T
        Z += b
        Z -= Z.max(axis=1, keepdims=True)
        at_label = Z[rows, labels]
        np.exp(Z, out=Z)
        sums = Z.sum(axis=1)
        value = np.mean(np.log(sums) - at_label)
        Z /= sums[:, None] * N
        Z[rows, labels] -= 1 / N
        return value, Z.T @ H, Z @ W, Z.sum(axis=0)

    return call


def by_torch(cross_entropy: Callable, compiled: bool, W, H, labels, b, threads):
    import torch

    torch.set_num_threads(threads)
    point = tuple(torch.from_numpy(part).requires_grad_() for part in (W, H, b))
    targets = torch.from_numpy(labels)
    loss = torch.compile(cross_entropy, dynamic=False) if compiled else cross_entropy

    def call():
        value = loss(*point, targets)
        return value.item(), *(part.numpy() for part in torch.autograd.grad(value, point))

    if compiled:
        call()
    return call


def by_jax(W, H, labels, b, threads):
    import jax

    jax.config.update("jax_enable_x64", True)

    def loss(point, labels):
        W, H, b = point
        Z = H @ W.T + b
        return (jax.nn.logsumexp(Z, axis=1) - Z[jax.numpy.arange(len(labels)), labels]).mean()

    compiled = jax.jit(jax.value_and_grad(loss))
    point = tuple(map(jax.numpy.asarray, (W, H, b)))

    def call():
        value, gradient = jax.block_until_ready(compiled(point, labels))
        return float(value), *map(np.asarray, gradient)

    call()
    return call


LIBRARIES = {
    OURS: ours,
    "NumPy": by_numpy,
    TORCH: partial(by_torch, torch_plain, False),
    "torch chunked": partial(by_torch, torch_chunked, False),
    "torch.compile": partial(by_torch, torch_plain, True),
    "JAX": by_jax,
}


def run(head: Head, name: str, threads: int) -> tuple[list[float], float, list[np.ndarray]]:
    """Return seconds of the first call and later ones, MiB beyond inputs and outputs, and a digest of the answer."""
    build = LIBRARIES[name]
    build(*Head(300, 64, 64, head.dtype).arrays(), threads)()
    call = build(*head.arrays(), threads)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = perf_counter()
    answer = call()
    times = [perf_counter() - start]
    spare = resident("VmHWM") - before - sum(np.asarray(part).nbytes for part in answer) / 2**20
    digest = [np.asarray(part, float).ravel()[:1000] for part in answer]
    for _ in range(HEAVY_WARM if head.heavy else WARM):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return times, spare, digest
