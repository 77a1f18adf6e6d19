"""Compare other people's solvers on a model: where minimisers stop, how they go on, and what eigen-solvers cost.

Runs those of SciPy, and of NLopt, cyipopt, pymanopt and PRIMME where they are installed (the names on PyPI are these in
small letters). Each minimiser starts at zero and at a saddle, at its own tolerances, and is started again from where
`uf.escape` leads, until that finds a certified minimum:

    python examples/foreign_solvers.py
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
from scipy.sparse import diags
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

import ufm_fast as uf

FIRST_ORDER = ("CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP")
PRODUCTS = ("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr")
DENSE = ("dogleg", "trust-exact")


class Counted:
    """A model's functions of one vector, with the (K x d)(d x M) products that they have taken."""

    def __init__(self, ufm: uf.UFM) -> None:
        self.ufm, self.products = ufm, 0

    def fun_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        self.products += 3
        return self.ufm.fun_and_grad(x, overflow="inf")

    def hessp(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        self.products += 7
        return self.ufm.hessp(x, v)

    def hess(self, x: np.ndarray) -> np.ndarray:
        self.products += 1 + 6 * self.ufm.size
        return self.ufm.hessian(self.ufm.unpack(x)) @ np.eye(self.ufm.size)


Solver = Callable[[Counted, np.ndarray], np.ndarray]


def scipys(method: str, model: Counted, x: np.ndarray) -> np.ndarray:
    """Minimise by a method of ``scipy.optimize.minimize``."""
    second = {"hessp": model.hessp} if method in PRODUCTS else {"hess": model.hess} if method in DENSE else {}
    return scipy.optimize.minimize(model.fun_and_grad, x, jac=True, method=method, **second).x


def nlopts(algorithm: str, model: Counted, x: np.ndarray) -> np.ndarray:
    """Minimise by an algorithm of NLopt, which has no tolerance of its own and may stop by an exception."""
    import nlopt

    def fun(x: np.ndarray, gradient: np.ndarray) -> float:
        value, g = model.fun_and_grad(x)
        gradient[:] = g
        if value < best[0]:
            best[:] = value, x.copy()
        return value

    best: list[Any] = [np.inf, x]
    solver = nlopt.opt(getattr(nlopt, algorithm), len(x))
    solver.set_min_objective(fun)
    solver.set_ftol_rel(1e-10)
    solver.set_maxeval(1000)
    try:
        return solver.optimize(x)
    except nlopt.RoundoffLimited:
        return best[1]


def ipopts(hessian: bool, model: Counted, x: np.ndarray) -> np.ndarray:
    """Minimise by Ipopt, with our Hessian or its own approximation."""
    from cyipopt import minimize_ipopt

    options = {"print_level": 0, "sb": "yes"} | ({} if hessian else {"hessian_approximation": "limited-memory"})
    hess = model.hess if hessian else None
    return minimize_ipopt(model.fun_and_grad, x, jac=True, hess=hess, options=options).x


def pymanopts(optimizer: str, model: Counted, x: np.ndarray) -> np.ndarray:
    """Minimise by pymanopt, on the product of the Euclidean spaces of W, H and b."""
    import pymanopt
    from pymanopt import manifolds, optimizers

    ufm = model.ufm
    manifold = manifolds.Product([manifolds.Euclidean(*part.shape) for part in ufm.unpack(x)])

    @pymanopt.function.numpy(manifold)
    def cost(*parts: np.ndarray) -> float:
        return model.fun_and_grad(ufm.pack(uf.Point(*parts)))[0]

    @pymanopt.function.numpy(manifold)
    def gradient(*parts: np.ndarray) -> uf.Point:
        return ufm.unpack(model.fun_and_grad(ufm.pack(uf.Point(*parts)))[1])

    @pymanopt.function.numpy(manifold)
    def hessian(*parts: np.ndarray) -> uf.Point:
        at, along = uf.Point(*parts[:3]), uf.Point(*parts[3:])
        return ufm.unpack(model.hessp(ufm.pack(at), ufm.pack(along)))

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)
    found = getattr(optimizers, optimizer)(verbosity=0).run(problem, initial_point=list(ufm.unpack(x)))
    return ufm.pack(uf.Point(*found.point))


def minimisers() -> dict[str, Solver]:
    """Return those that are installed."""
    found = {f"SciPy {name}": partial(scipys, name) for name in (*FIRST_ORDER, *PRODUCTS, *DENSE)}
    if find_spec("nlopt"):
        for name in ("LD_LBFGS", "LD_TNEWTON_PRECOND_RESTART", "LD_VAR2", "LD_MMA", "LD_CCSAQ"):
            found[f"NLopt {name[3:]}"] = partial(nlopts, name)
    if find_spec("cyipopt"):
        found |= {"Ipopt": partial(ipopts, True), "Ipopt, limited memory": partial(ipopts, False)}
    if find_spec("pymanopt"):
        for name in ("SteepestDescent", "ConjugateGradient", "TrustRegions"):
            found[f"pymanopt {name}"] = partial(pymanopts, name)
    return found


class Descent(NamedTuple):
    """Where a solver stopped first, and what the loop around it came to."""

    solver: str
    start: str
    first: str
    escapes: int
    relative_gap: float
    products: int


def descend(ufm: uf.UFM, name: str, start: str, p: uf.Point | None) -> Descent:
    """Run a solver, escape from where it stops, and so on until the minimum is certified."""
    solve, model, ends = minimisers()[name], Counted(ufm), []
    while p is not None:
        ends.append(ufm.unpack(solve(model, ufm.pack(p))))
        p = uf.escape(ufm, ends[-1])
    first, gap = uf.classify(ufm, ends[0]).kind, uf.certify(ufm, ends[-1]).relative_gap
    return Descent(name, start, first, len(ends) - 1, gap, model.products)


def descents(ufm: uf.UFM) -> Iterator[Descent]:
    """Run all minimisers from zero and from a saddle at which four of six classes have one mean."""
    for name in minimisers():
        for start, p in (("zero", ufm.unpack(np.zeros(ufm.size))), ("saddle", uf.saddle(ufm, 2))):
            yield descend(ufm, name, start, p)


class CountedOperator(LinearOperator):
    """An operator that counts its products with vectors."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A.dtype, A.shape)
        self.A, self.products = A, 0

    def _matmat(self, V: np.ndarray) -> np.ndarray:
        self.products += V.shape[1]
        return self.A @ V


def by_eigsh(ufm: uf.UFM, p: uf.Point) -> tuple[float, int]:
    """Ask ARPACK for the lowest eigenvalue of the full-sample Hessian, the rotations moved up by 1."""
    A = CountedOperator(ufm.hessian(p, coordinates="samples"))
    moved = A + ufm.rotations(p, coordinates="samples")
    return float(eigsh(moved, 1, which="SA", tol=1e-8, return_eigenvectors=False)[0]), A.products


def by_primme(ufm: uf.UFM, p: uf.Point) -> tuple[float, int]:
    """Ask PRIMME for the same."""
    import primme

    A = CountedOperator(ufm.hessian(p, coordinates="samples"))
    moved = A + ufm.rotations(p, coordinates="samples")
    return float(primme.eigsh(moved, 1, which="SA", tol=1e-8, return_eigenvectors=False)[0]), A.products


def by_lobpcg(ufm: uf.UFM, p: uf.Point) -> tuple[float, int]:
    """Ask LOBPCG for it in the coordinates of `pack`: A v = s B v, B-orthogonal to a basis of the rotations."""
    A, rotations, rng = CountedOperator(ufm.hessian(p)), ufm.rotations(p), np.random.default_rng(0)
    basis = np.linalg.qr(rotations @ rng.standard_normal((ufm.size, rotations.dimension)))[0]
    start = rng.standard_normal((ufm.size, 2))
    found = lobpcg(A, start, B=diags(ufm.metric), Y=basis, largest=False, tol=1e-6, maxiter=1000)
    return float(found[0].min()), A.products


def eigenvalues(ufm: uf.UFM) -> Iterator[tuple[str, str, float, int]]:
    """Find the lowest eigenvalue across rotations at a saddle and at the minimum, with each solver."""
    solvers = {"SciPy eigsh": by_eigsh, "SciPy lobpcg": by_lobpcg}
    if find_spec("primme"):
        solvers["PRIMME"] = by_primme
    for where, p in (("saddle", uf.saddle(ufm, 2)), ("minimum", uf.minimize(ufm, tol=1e-11).point)):
        own = uf.lowest_eigenpairs(ufm, p, deflate=True)
        yield "uf.lowest_eigenpairs", where, float(own.eigenvalues[0]), own.products
        for name, solve in solvers.items():
            yield name, where, *solve(ufm, p)


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    warnings.simplefilter("ignore")  # of other solvers: gradients that are exactly zero, tolerances just missed
    ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
    print(f"{'minimiser':<32} from    stopped first at  escapes  certified gap  its products")
    for name, start, first, escapes, gap, products in descents(ufm):
        print(f"{name:<32} {start:<7} {first:<16}  {escapes:7d}  {gap:13.1e}  {products:12d}")
    print(f"\n{'eigen-solver':<32} at       lowest eigenvalue  Hessian products")
    for name, where, value, products in eigenvalues(ufm):
        print(f"{name:<32} {where:<8} {value:17.10f}  {products:16d}")


if __name__ == "__main__":
    main()
