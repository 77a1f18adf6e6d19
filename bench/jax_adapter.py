"""What the adapter for JAX adds to `UFM.loss_and_grad`, in processor time: at once, and in a compiled program.

python bench/jax_adapter.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ufm_fast as uf
import ufm_fast.jax

SIZES = ({"K": 100, "d": 100}, {"K": 1000, "d": 256, "n": 20, "collapse": False})


def seconds(ufm: uf.UFM) -> np.ndarray:
    """Return processor seconds of a plain call, of one at once and of one in a program."""
    p = ufm.random_point()
    x = tuple(map(jnp.asarray, p))
    at_once = jax.value_and_grad(uf.jax.loss, argnums=(1, 2, 3))
    compiled = jax.jit(lambda *x: at_once(ufm, *x))
    for found in (at_once(ufm, *x), compiled(*x)):
        for part, wanted in zip(found[1], ufm.loss_and_grad(p)[1], strict=True):
            np.testing.assert_allclose(part, wanted, rtol=1e-6)
    return least_in_turns([lambda: ufm.loss_and_grad(p), lambda: at_once(ufm, *x), lambda: compiled(*x)])


def least_in_turns(calls: Sequence[Callable[[], Any]], enough: float = 10.0) -> np.ndarray:
    """Time the calls one after the other, again and again; return the least time of each."""
    rounds, end = [], time.perf_counter() + enough
    while time.perf_counter() < end:
        times = []
        for call in calls:
            start = time.process_time()
            jax.block_until_ready(call())
            times.append(time.process_time() - start)
        rounds.append(times)
    return np.min(rounds, axis=0)


if __name__ == "__main__":
    for sizes in SIZES:
        model = uf.UFM(**sizes, lambda_W=1e-3, lambda_H=1e-3, dtype="float32")
        plain, at_once, compiled = 1e6 * seconds(model)
        print(f"{sizes}: {plain:.0f} us; at once {at_once - plain:+.0f}, in a program {compiled - plain:+.0f}")
