"""The stages of a run: what each starts from, and how it descends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .._certify.dual import EIGH_PRODUCTS
from .._exact.closed_form import ClosedForm, closed_form
from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes
from .._model.point import Point
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram
from .from_point import minimize_from_point
from .lbfgs import CERTIFIED, STALLED
from .own_start import minimize_near_minimum
from .record import Run
from .start import has_start


class Stage(Protocol):
    """One descent. Returns CERTIFIED, LIMIT or STALLED; after STALLED the next stage follows."""

    def run(self, problem: CanonicalProblem, run: Run) -> int: ...


@dataclass(frozen=True)
class NearMinimum:
    """From a start near the minimum over all widths, over square factors.

    Where it stalls, or the columns of the model do not hold its end, that is no end but what `Refined` starts from.
    """

    def run(self, problem: CanonicalProblem, run: Run) -> int:
        end, status = minimize_near_minimum(problem, run)
        if status == STALLED or (status == CERTIFIED and problem.d < problem.K):
            run.work.charge(20, problem.K)  # the singular value decomposition that fits the columns
            run.best = end._replace(loss=np.inf)
            return STALLED
        run.finish(end)
        return status


@dataclass(frozen=True)
class Refined:
    """From where `NearMinimum` ended, with the columns of the model."""

    def run(self, problem: CanonicalProblem, run: Run) -> int:
        assert run.best is not None
        return _from_factors(problem, run.best.A, run.best.B, run.best.b, run)


@dataclass(frozen=True)
class FromClosedForm:
    """From the minimum itself, where it is known."""

    form: ClosedForm

    def run(self, problem: CanonicalProblem, run: Run) -> int:
        return _from_factors(problem, self.form.A, self.form.B, self.form.b, run)


@dataclass(frozen=True)
class FromZero:
    """From W = H = 0, with as many columns as there are ways down from there; with more, while these do not suffice.

    Each singular value of the gradient matrix above tau is a way down, and at the minimum there are seldom more.
    """

    def run(self, problem: CanonicalProblem, run: Run) -> int:
        zero = np.zeros((problem.M, problem.K))
        b = problem.best_bias(zero, np.zeros(problem.biases))
        squares = linalg.eigvalsh(gram(problem.data_term(zero, b)[1], problem.workers))
        run.work.charge(2 * problem.M / problem.K + EIGH_PRODUCTS, problem.K)
        columns = max(1, min(problem.d, int((squares > problem.tau**2).sum())))
        A, B = np.zeros((problem.K, columns)), np.zeros((problem.M, columns))
        while True:
            end, status = minimize_from_point(problem, A, B, b, run)
            if status != STALLED or columns == problem.d:
                run.finish(end)
                return status
            columns = min(problem.d, 2 * columns)
            A, B, b = end.A[:, :columns], end.B[:, :columns], end.b


@dataclass(frozen=True, eq=False)
class Given:
    """From the user's point."""

    point: Point

    def run(self, problem: CanonicalProblem, run: Run) -> int:
        return _from_factors(problem, *problem.coordinates(self.point), run)


@dataclass(frozen=True)
class Random:
    """From a random point."""

    seed: int

    def run(self, problem: CanonicalProblem, run: Run) -> int:
        return _from_factors(problem, *problem.coordinates(problem.ufm.random_point(self.seed)), run)


def _from_factors(problem: CanonicalProblem, A: Array, B: Array, b: Array, run: Run) -> int:
    end, status = minimize_from_point(problem, A, B, b, run)
    run.finish(end)
    return status


def stages_of(problem: CanonicalProblem, given: Point | None, seed: int, restarts: int) -> list[Stage]:
    """Return the stages of a run in order; later ones follow only while nothing is certified."""
    further = [Random(seed + i) for i in range(1, restarts + 1)]
    if given is not None:
        return [Given(given), *further]
    if has_start(problem) and problem.d >= problem.K - 1:
        return [NearMinimum(), Refined(), *further]
    known = has_plain_classes(problem.ufm) and has_start(problem)
    if known or not problem.loss.convex:  # zero may be a local minimum then
        return [Random(seed), *further]
    form = closed_form(problem.ufm)
    return [FromZero() if form is None else FromClosedForm(form), *further]


def starts_near_minimum(problem: CanonicalProblem) -> bool:
    """Whether a run without a given point begins at the minimum over all widths, or near it."""
    return isinstance(stages_of(problem, None, seed=0, restarts=0)[0], NearMinimum | FromClosedForm)
