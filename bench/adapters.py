"""What the adapter for PyTorch adds to `UFM.loss_and_grad`: time of value and gradients at the same tensors.

    python bench/adapters.py            print the table (half a minute)
    python bench/adapters.py --write    record it in bench/README.md

Calls come one by one, in a random order in each turn, in one thread: the core alone; `ufm_fast.torch.loss`, forward and
backward; a bare function for PyTorch that only calls the core and scales the gradient, and is right to first order;
and PyTorch's own operations. Medians of the processor's time. As every call follows others, it finds the caches as in
a training loop, not as in a loop of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import thread_time

import numpy as np
import torch

import machine
import report
import ufm_fast as uf
import ufm_fast.torch

MOST = 50e-6  # seconds that the adapter may add at K = d = 100
TURNS = 500


class Bare(torch.autograd.Function):
    """The core's loss with what an adapter cannot do without."""

    @staticmethod
    def forward(ctx, ufm, *parts):
        value, gradient = ufm.loss_and_grad(tuple(part.detach().numpy() for part in parts))
        ctx.gradient = tuple(map(torch.from_numpy, gradient))
        return torch.tensor(value, dtype=parts[0].dtype)

    @staticmethod
    def backward(ctx, a):
        return None, *(a * part for part in ctx.gradient)


def plain(ufm: uf.UFM, W: torch.Tensor, H: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    data = torch.nn.functional.cross_entropy(torch.nn.functional.linear(H, W, b), torch.arange(ufm.K))
    return data + ufm.lambda_W / 2 * (W * W).sum() + ufm.lambda_H / 2 * (H * H).sum()


def calls(ufm: uf.UFM) -> dict[str, Callable[[], list[np.ndarray]]]:
    p = ufm.random_point(0)
    parts = tuple(torch.from_numpy(part).requires_grad_() for part in p)

    def with_backward(loss):
        def call():
            loss(ufm, *parts).backward()
            found = [part.grad.numpy() for part in parts]
            for part in parts:
                part.grad = None
            return found

        return call

    return {
        "core": lambda: list(ufm.loss_and_grad(p)[1]),
        "adapter": with_backward(ufm_fast.torch.loss),
        "bare": with_backward(Bare.apply),
        "PyTorch": with_backward(plain),
    }


def measure(K: int, dtype: str) -> dict[str, float]:
    """Return the median of seconds of each call, after the answers have been compared."""
    named = calls(uf.UFM(K, K, lambda_W=1e-3, lambda_H=1e-3, dtype=dtype, threads=1))
    expected = named["core"]()
    for call in named.values():
        for x, y in zip(call(), expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=(1e-14 if dtype == "float64" else 1e-6))
    times: dict[str, list[float]] = {name: [] for name in named}
    order = np.random.default_rng(0)
    for _ in range(TURNS):
        for name in order.permutation(list(named)):
            start = thread_time()
            named[name]()
            times[name].append(thread_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def row(K: int, dtype: str) -> list[str]:
    found = measure(K, dtype)
    added = found["adapter"] - found["core"]
    verdict = f" (<= {MOST * 1e6:.0f}: {'yes' if added <= MOST else '**NO**'})" if K == 100 else ""
    return [
        f"K = d = M = {K}, {dtype}",
        *(f"{found[name] * 1e6:.0f}" for name in ("core", "adapter", "bare", "PyTorch")),
        f"{added * 1e6:.0f}{verdict}",
        f"{found['adapter'] / found['core']:.2f}x",
        f"{found['PyTorch'] / found['adapter']:.2f}x",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(K, dtype) for K in (10, 100, 300) for dtype in ("float64", "float32")]
    header = ["model", "core, µs", "adapter", "bare", "PyTorch", "added, µs", "adapter / core", "PyTorch / adapter"]
    parts = [
        report.table(header, rows),
        report.table(["", ""], [list(item) for item in machine.description().items()]),
    ]
    print("\n\n".join(parts))
    if options.write:
        report.record("adapters.py", parts)


if __name__ == "__main__":
    main()
