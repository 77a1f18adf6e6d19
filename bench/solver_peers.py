"""Solvers that people use, with PyTorch's gradients and Hessian products, stopped at a loss or at a time limit.

Every solver minimises the model's own loss, with class means as features, from a packed start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch.nn import functional

import clock
import ufm_fast as uf

Array = NDArray[np.float64]

GRADIENT_PRODUCTS, HESSIAN_PRODUCTS = 3, 6  # of size K x d x M, with the softmax kept for Hessian products
MANY = 10**9
MEMORY = 10  # pairs of L-BFGS, as SciPy's default
SGD_RATES = 1.0, 10.0, 100.0, 1000.0
ADAM_RATES = 1e-3, 1e-2, 1e-1
TRIAL_STEPS = 20


class Stopped(Exception):
    """Ends a solver from inside its objective."""


class Objective:
    """The loss of a collapsed model in PyTorch; counts, and stops the solver at a loss or a time."""

    def __init__(self, ufm: uf.UFM, target: float = -math.inf, limit: float = math.inf, *, curvature: bool = False):
        self.ufm, self.target, self.limit, self.curvature = ufm, target, limit, curvature
        self.labels, self.targets = torch.arange(ufm.K), torch.eye(ufm.K, dtype=torch.float64)
        self.counts = torch.tensor(ufm.counts, dtype=torch.float64)
        self.weights = self.counts / ufm.N
        self.evaluations = self.hessian_products = 0
        self.x = np.empty(0)  # the last point
        self.setting = ""  # what the solver chose, for its name
        self._kept: tuple[Array, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]] | None = None
        self.started = clock.now()

    @property
    def seconds(self) -> float:
        return clock.now() - self.started

    @property
    def products(self) -> int:
        return GRADIENT_PRODUCTS * self.evaluations + HESSIAN_PRODUCTS * self.hessian_products

    def parameters(self, x: Array) -> tuple[torch.Tensor, ...]:
        return tuple(torch.tensor(part, requires_grad=True) for part in self.ufm.unpack(x))

    def loss(self, W: torch.Tensor, H: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ufm = self.ufm
        logits = functional.linear(H, W, b)
        if ufm.loss_function.name == "mse":
            data = self.weights @ (logits - self.targets).square().sum(1) / 2
        else:
            data = functional.cross_entropy(logits, self.labels, weight=self.weights, reduction="sum")
        features = self.counts @ H.square().sum(1)
        decays = ufm.lambda_W * W.square().sum() + ufm.lambda_H * features + ufm.lambda_b * b.square().sum()
        return data + decays / 2

    def visit(self, value: float, x: Callable[[], Array]) -> None:
        """Stop the solver at the target or the limit."""
        self.evaluations += 1
        if value <= self.target or self.seconds > self.limit:
            self.x = x()
            raise Stopped

    def fun_and_grad(self, x: Array) -> tuple[float, Array]:
        parameters = self.parameters(x)
        loss = self.loss(*parameters)
        gradient = torch.autograd.grad(loss, parameters, create_graph=self.curvature)
        if self.curvature:
            self._kept = x.copy(), parameters, gradient
        value = loss.item()
        self.visit(value, x.copy)
        return value, _packed(gradient)

    def hessp(self, x: Array, v: Array) -> Array:
        if self._kept is None or not np.array_equal(self._kept[0], x):
            self.fun_and_grad(x)
        assert self._kept is not None
        _, parameters, gradient = self._kept
        directions = [torch.from_numpy(part) for part in self.ufm.unpack(np.ascontiguousarray(v))]
        product = torch.autograd.grad(gradient, parameters, directions, retain_graph=True)
        self.hessian_products += 1
        if self.seconds > self.limit:
            self.x = x.copy()
            raise Stopped
        return _packed(product)


def _packed(parts: Iterable[torch.Tensor]) -> Array:
    packed: Array = torch.cat([part.detach().reshape(-1) for part in parts]).numpy()
    return packed


def scipy_solver(method: str, options: dict[str, Any], objective: Objective, x0: Array) -> str:
    hessp = objective.hessp if objective.curvature else None
    result = minimize(objective.fun_and_grad, x0, jac=True, hessp=hessp, method=method, options=options)
    objective.x = result.x
    return f"success={bool(result.success)}: {result.message}"


def torch_lbfgs(objective: Objective, x0: Array) -> str:
    parameters = objective.parameters(x0)
    optimizer = torch.optim.LBFGS(
        parameters, history_size=MEMORY, line_search_fn="strong_wolfe", max_iter=MANY, max_eval=MANY,
        tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective.loss(*parameters)
        loss.backward()
        objective.visit(loss.item(), partial(_packed, parameters))
        return loss

    optimizer.step(closure)
    objective.x = _packed(parameters)
    return "returned"


def first_order(
    optimizer: Callable[..., torch.optim.Optimizer], rates: tuple[float, ...], objective: Objective, x0: Array
) -> str:
    """Steps of a fixed rate: the one of the lowest loss after some trial steps, which are not charged."""
    rate = min(rates, key=lambda rate: _loss_after(optimizer, rate, Objective(objective.ufm), x0, TRIAL_STEPS))
    objective.setting = f", rate {rate:g}"
    objective.started = clock.now()
    _loss_after(optimizer, rate, objective, x0, MANY)
    raise AssertionError("a solver without end ended")


def _loss_after(
    optimizer: Callable[..., torch.optim.Optimizer], rate: float, objective: Objective, x0: Array, steps: int
) -> float:
    parameters = objective.parameters(x0)
    stepper = optimizer(parameters, lr=rate)
    value = math.inf
    for _ in range(steps):
        stepper.zero_grad()
        loss = objective.loss(*parameters)
        loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            return math.inf
        objective.visit(value, partial(_packed, parameters))
        stepper.step()
    return value


Solver = Callable[[Objective, Array], str]

# SciPy's tolerances are lowered so that no method stops before the target
SOLVERS: dict[str, Solver] = {
    "SciPy L-BFGS-B": partial(
        scipy_solver, "L-BFGS-B", {"maxcor": MEMORY, "maxiter": MANY, "maxfun": MANY, "ftol": 0, "gtol": 0}
    ),
    "SciPy trust-krylov": partial(scipy_solver, "trust-krylov", {"maxiter": MANY, "gtol": 0}),
    "SciPy trust-ncg": partial(scipy_solver, "trust-ncg", {"maxiter": MANY, "gtol": 0}),
    "SciPy Newton-CG": partial(scipy_solver, "Newton-CG", {"maxiter": MANY, "xtol": 1e-15}),
    "PyTorch LBFGS": torch_lbfgs,
    "PyTorch SGD, momentum": partial(first_order, partial(torch.optim.SGD, momentum=0.9), SGD_RATES),
    "PyTorch Adam": partial(first_order, torch.optim.Adam, ADAM_RATES),
}
SECOND_ORDER = "SciPy trust-krylov", "SciPy trust-ncg", "SciPy Newton-CG"

# with SciPy's own tolerances
DEFAULTS: dict[str, Solver] = {
    name: partial(scipy_solver, name.removeprefix("SciPy "), {}) for name in SOLVERS if name.startswith("SciPy")
}


def warm_up() -> None:
    """Let PyTorch load what it loads at its first derivatives and at the first step of an optimizer."""
    objective = Objective(uf.UFM(2, 2, lambda_W=0.1, lambda_H=0.1), curvature=True)
    x = np.ones(objective.ufm.size)
    objective.hessp(x, x)
    _loss_after(torch.optim.SGD, 0.1, objective, x, 1)


@dataclass(frozen=True)
class Outcome:
    """Where a solver came to."""

    name: str
    seconds: float
    evaluations: int
    hessian_products: int
    products: int
    loss: float
    gap: float  # certified, relative
    reached: bool  # the target
    message: str


def solve(name: str, ufm: uf.UFM, x0: Array, target: float, limit: float, solver: Solver | None = None) -> Outcome:
    """Run a solver from x0 until its loss is at most the target, its time is up, or it returns."""
    objective = Objective(ufm, target, limit, curvature=name in SECOND_ORDER)
    expected = ufm.fun(x0)
    with torch.no_grad():
        error = abs(objective.loss(*objective.parameters(x0)).item() / expected - 1)
    if not error < 1e-12:
        raise AssertionError(f"PyTorch's loss differs by {error:.1e}")
    objective.started = clock.now()
    try:
        message = (solver or SOLVERS[name])(objective, x0.copy())
    except Stopped:
        message = ""
    seconds = objective.seconds
    certificate = uf.certify(ufm, ufm.unpack(objective.x))
    message = message or ("arrived" if certificate.loss <= target else "time limit")
    return Outcome(
        f"{name}{objective.setting}", seconds, objective.evaluations, objective.hessian_products, objective.products,
        certificate.loss, certificate.relative_gap, certificate.loss <= target, message,
    )  # fmt: skip
