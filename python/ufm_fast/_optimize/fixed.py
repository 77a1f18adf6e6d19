"""minimize with W and b, or H, held fixed: Newton's method, to a certificate by strong convexity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from .._certify.restricted import RestrictedCertificate, Restriction
from .._model.canonical import CanonicalProblem
from .._model.model import UFM, in_double, rows_model
from .._model.point import Point
from .._runtime.arrays import Array
from .._runtime.memory import require_memory
from .lbfgs import CERTIFIED, LIMIT, STALLED
from .record import Callback, End, Run
from .restricted import OverH, OverW, RestrictedFunction, Slopes, State
from .work import Work

CALLBACK = 3
_FORCING = 0.1  # largest part of a residual that the conjugate gradients leave
_INNER_STEPS = 500
_NOTHING = 1e-200  # square of a gradient that cannot matter
_SLOPE = 0.3  # part of the slope that the line search may leave, if it is still one of descent
_AIMS = 0.95, 0.999  # parts of the way to where a chord says that the slope vanishes, if far or near; in turns with
_PARTS = 0.03, 0.5  # parts of the bracket, without and with a point of descent known
_TRIALS = 30
_PATIENCE = 3  # iterations that may come in a row without progress
_PROGRESS = 1e-13  # of the loss, relative


def start_with(fixed: str, start: Point | None, restarts: int, checkpoint: Any) -> Point:
    """Return the start of a run that holds a part of it fixed, if the other arguments go with that."""
    if start is None:
        raise ValueError(f"x0 must be given with fixed={fixed!r}: it says what {fixed} is")
    for name, given in (("restarts", restarts != 0), ("checkpoint", checkpoint is not None)):
        if given:
            raise ValueError(f"{name} must not be given with fixed={fixed!r}: the problem is convex and the run short")
    return start


def minimize_with_fixed(
    ufm: UFM, start: Point, fixed: str, tol: float, max_evaluations: int, callback: Callback | None
) -> OptimizeResult:
    """Minimise over H with W and b of a checked start, or over W and b with its H; the result is that of `minimize`.

    A model with a row a sample is solved on class means where W is fixed, as the best features of a class are equal,
    and on its rows where H is.
    """
    means = fixed == "W" and not ufm.collapse_classes
    K, M, d = ufm.K, ufm.K if means else ufm.M, ufm.d
    require_memory("minimize", 15 * M * K + 8 * (M + K) * d + 4 * d * d * (fixed == "H"), K=K, M=M, d=d)
    double = in_double(ufm, collapse=True) if means else _of_rows(ufm)
    p = Point(*(np.ascontiguousarray(part, dtype=np.float64) for part in start))
    p = in_double(ufm, collapse=False).collapse(p) if means else p
    problem = CanonicalProblem(double)
    restriction = Restriction(problem, fixed, p)
    run = Run(problem, tol, Work(ufm.K, ufm.d, max_evaluations), callback and _of_model(ufm, start, fixed, callback))
    function = (OverH if fixed == "W" else OverW)(problem, p, run.work)
    try:
        status = _descend(function, restriction, run)
    except StopIteration:
        status = CALLBACK
    assert run.best is not None
    found = _rounded(ufm, start, fixed, Point(*run.best[:3]))
    end = found if ufm.collapse_classes or not means else ufm.collapse(found)
    end = Point(*(part.astype(np.float64) for part in end))
    return _result(ufm, found, restriction.certificate(end, run.lower_bound), run, status)


def _descend(function: RestrictedFunction, restriction: Restriction, run: Run) -> int:
    """Take truncated Newton steps until the bound certifies the tolerance, evaluations run out or nothing descends."""
    state, first, idle, best = _first_state(function), None, 0, (np.inf, np.inf)
    while True:
        loss, gap = _record(function, restriction, run, state)
        if gap <= run.tol * abs(loss):
            return CERTIFIED
        if run.work.exhausted:
            return LIMIT
        idle = 0 if loss < best[0] * (1 - _PROGRESS) or gap < 0.9 * best[1] else idle + 1
        best = min(loss, best[0]), min(gap, best[1])
        if idle == _PATIENCE:
            return STALLED
        function.linearize(state)
        direction, squares = _newton_direction(function, state.gradient, first)
        first = squares if first is None else np.maximum(first, squares)
        steps = _steps(function.slopes(direction))
        moved = steps * direction.reshape(function.groups, -1)
        state = function.evaluate(state.x + moved.ravel())


def _first_state(function: RestrictedFunction) -> State:
    """Evaluate the start, or zero where that is lower: it is far from saturation, where Newton's method is slow."""
    start = function.at_start()
    lowest = start if function.value(start) <= function.value(np.zeros_like(start)) else np.zeros_like(start)
    return function.evaluate(lowest)


def _record(function: RestrictedFunction, restriction: Restriction, run: Run, state: State) -> tuple[float, float]:
    """Bound the minimum at an iterate, put it on record, and return its loss and certified gap."""
    p, B = function.point(state.x)
    at = restriction.gradient_at(p, B)
    run.lower_bound = max(run.lower_bound, restriction.bound(p, B, at))
    run.best = End(p.W, p.H, p.b, at.loss)
    run.add(at.loss, function.gradient_norm(state.gradient), lambda: p)
    return at.loss, at.loss + at.rounding - min(at.loss, run.lower_bound)


def _newton_direction(function: RestrictedFunction, gradient: Array, first: Array | None) -> tuple[Array, Array]:
    """Solve for a Newton step by preconditioned conjugate gradients, group by group.

    Returns the step and the gradient's squares in the preconditioner's norm; the smaller these beside those of `first`,
    the more exactly a group's equation is solved.
    """
    groups = function.groups

    def times(factors: NDArray[Any], x: Array) -> Array:
        scaled: Array = (factors * x.reshape(groups, -1)).ravel()
        return scaled

    step, residual = np.zeros_like(gradient), gradient
    y = function.precondition(residual)
    square = squares = function.inner(residual, y)
    start = np.maximum(squares if first is None else np.maximum(first, squares), np.finfo(float).tiny)
    goal = np.minimum(_FORCING, (squares / start) ** 0.25) ** 2 * squares
    direction, active = -y, squares > _NOTHING
    for _ in range(_INNER_STEPS):
        image = function.hessian_product(direction)
        curvature = function.inner(direction, image)
        active &= curvature > _NOTHING
        length = np.where(active, square / np.where(active, curvature, 1.0), 0.0)
        step, residual = step + times(length, direction), residual + times(length, image)
        y = function.precondition(residual)
        new = function.inner(residual, y)
        active &= new > goal
        if not active.any():
            break
        direction = times(active, times(np.where(active, new / np.where(active, square, 1.0), 0.0), direction) - y)
        square = new
    descends = function.inner(gradient, step) < 0  # but where the function is linear or rounding rules
    return times(descends, step) - times(~descends, function.precondition(gradient)), squares


def _steps(slopes: Slopes) -> Array:
    """Return for each group how far to go: where its part of the function, which is convex, has little descent left."""
    first = slopes.at_zero()
    low, high = np.zeros_like(first), np.full_like(first, np.inf)
    of_low, of_high = first, np.zeros_like(first)
    t = np.where(first < 0, 1.0, 0.0)
    for trial in range(_TRIALS):
        slope = slopes.at(t)
        done = (-_SLOPE * abs(first) <= slope) & (slope <= 0) | (t == 0)
        if done.all():
            return t
        above = slope > 0
        low, of_low = np.where(above, low, t), np.where(above, of_low, slope)
        high, of_high = np.where(above, t, high), np.where(above, slope, of_high)
        bracketed = np.isfinite(high)
        width = np.where(bracketed, high, 0.0) - low
        chord = of_low / np.where(of_low == of_high, 1.0, of_low - of_high)
        aim = np.where(of_high > _SLOPE * abs(first), *_AIMS) * chord
        share = np.where(low > 0, _PARTS[1], _PARTS[0]) if trial % 2 else np.maximum(aim, 0.05)
        t = np.where(done, t, np.where(bracketed, low + share * width, 2 * t))
    return np.where(done, t, low)


def _of_rows(ufm: UFM) -> UFM:
    """Return the model of a model's rows, in float64."""
    return rows_model(
        ufm.K, ufm.d, ufm.data, loss=ufm.loss_function, lambda_W=ufm.lambda_W, lambda_H=ufm.lambda_H,
        lambda_b=ufm.lambda_b, bias=ufm.bias, threads=ufm.threads,
    )  # fmt: skip


def _of_model(ufm: UFM, start: Point, fixed: str, callback: Callback) -> Callback:
    """Return a callback that gets points of the user's model."""
    return lambda result: callback(OptimizeResult(result, point=_rounded(ufm, start, fixed, result.point)))


def _rounded(ufm: UFM, start: Point, fixed: str, p: Point) -> Point:
    """Return the point of the user's model, in its dtype, with what is fixed as it was given."""
    p = Point(*(np.ascontiguousarray(part, dtype=ufm.dtype) for part in p))
    if fixed == "H":
        return p._replace(H=start.H.copy())
    p = p if ufm.collapse_classes else ufm.expand(p)
    return p._replace(W=start.W.copy(), b=start.b.copy())


def _result(ufm: UFM, p: Point, certificate: RestrictedCertificate, run: Run, status: int) -> OptimizeResult:
    success = certificate.is_global(run.tol)
    if success != (status == CERTIFIED):  # by the last bound, or lost in rounding to float32
        status = CERTIFIED if success else STALLED
    return OptimizeResult(
        point=p,
        x=ufm.pack(p),
        fun=certificate.loss,
        certificate=certificate,
        success=success,
        status=status,
        message=_message(certificate, run, status),
        nfev=run.work.evaluations,
        nhev=0,
        nit=max(0, len(run.rows) - 1),
        escapes=0,
        products=run.work.products,
        seconds=run.seconds,
        history=run.history(),
        ends=np.array([certificate.loss]),
    )


def _message(certificate: RestrictedCertificate, run: Run, status: int) -> str:
    what = "H, with W and b fixed" if certificate.fixed == "W" else "W and b, with H fixed"
    gap = f"certified relative gap {certificate.relative_gap:.2e}"
    if status == CERTIFIED:
        return f"minimum over {what}: {gap} <= {run.tol:g}"
    reasons = {
        LIMIT: f"all {run.work.evaluations} evaluations used",
        CALLBACK: "stopped by the callback",
        STALLED: "no further descent in double precision",
    }
    return f"not certified as the minimum over {what}: {reasons[status]}; {gap} > {run.tol:g}"
