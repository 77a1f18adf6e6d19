"""Solvers of the JAX world on an unconstrained feature model: where they stop, the way on, and a certificate.

Needs optax and optimistix. Optax's L-BFGS and Optimistix's BFGS get the loss as a function that JAX differentiates and
compiles; they know nothing of saddles. At W = H = 0, with the best bias, the gradient vanishes and both stop at once.
`ufm_fast.escape` says whether there is a way further down, and the solver goes on from there, until the end is
certified to be a global minimum.

    python examples/jax_solvers.py
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix

import ufm_fast as uf
import ufm_fast.jax

Solver = Callable[[Callable[[uf.Point], jax.Array], uf.Point], uf.Point]


def by_optax(fun: Callable[[uf.Point], jax.Array], start: uf.Point) -> uf.Point:
    """Minimise by L-BFGS until the gradient is small."""
    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(fun)

    def unfinished(carry):
        _, state = carry
        steps, gradient = optax.tree.get(state, "count"), optax.tree.get(state, "grad")
        return (steps == 0) | ((steps < 1000) & (optax.tree.norm(gradient) > 1e-8))

    def step(carry):
        p, state = carry
        value, gradient = value_and_grad(p, state=state)
        updates, state = solver.update(gradient, state, p, value=value, grad=gradient, value_fn=fun)
        return optax.apply_updates(p, updates), state

    return jax.jit(lambda p: jax.lax.while_loop(unfinished, step, (p, solver.init(p))))(start)[0]


def by_optimistix(fun: Callable[[uf.Point], jax.Array], start: uf.Point) -> uf.Point:
    """Minimise by BFGS until steps are small."""
    solver = optimistix.BFGS(rtol=1e-9, atol=1e-9)
    return optimistix.minimise(lambda p, _: fun(p), solver, start, max_steps=2000).value


def certified_minimum(ufm: uf.UFM, solver: Solver, start: uf.Point) -> list[uf.Point]:
    """Return the points where the solver stopped, each but the last a saddle or short of the minimum."""
    ends, p = [], start
    while p is not None:
        end = solver(lambda p: uf.jax.loss(ufm, *p), jax.tree.map(jnp.asarray, p))
        ends.append(uf.Point(*map(np.asarray, end)))
        p = uf.escape(ufm, ends[-1])
    return ends


def main() -> dict[str, list[uf.Point]]:
    """Print where each solver stopped, and return it."""
    counts = [60, 30, 12, 6, 3]
    ufm = uf.UFM(5, 5, counts, lambda_W=5e-3, lambda_H=2e-4)
    best_bias = np.log(np.array(counts) / sum(counts))
    zero = uf.Point(np.zeros((5, 5)), np.zeros((5, 5)), best_bias)
    found = {}
    for name, solver in {"optax L-BFGS": by_optax, "optimistix BFGS": by_optimistix}.items():
        found[name] = certified_minimum(ufm, solver, zero)
        for p in found[name]:
            certificate = uf.certify(ufm, p)
            kind = "global minimum" if certificate.is_global(1e-8) else "not the minimum"
            print(f"{name:>16}: loss {certificate.loss:.10f}, at most {certificate.gap:.1e} too high: {kind}")
    return found


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
