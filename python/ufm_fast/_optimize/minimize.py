"""minimize: descend to a critical point, leave saddles, stop on a certificate."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult

from .._certify.certificate import Certificate, certificate_of, certify
from .._certify.dual import NORM_PRODUCTS
from .._certify.duals import has_dual
from .._exact.groups import groups_of, is_grouped
from .._model.canonical import CanonicalProblem
from .._model.facts import checked_model
from .._model.model import UFM
from .._model.point import Point, checked_point
from .._numerics.gram_spectra import leading_singular_pair
from .._runtime.arguments import choice, file_path, function, whole_number
from .._runtime.blas import product, single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.warnings import warn
from .checkpoint import Checkpoint, describe_run
from .fixed import CALLBACK, minimize_with_fixed, start_with
from .lbfgs import CERTIFIED, LIMIT, STALLED
from .own_start import minimize_near_minimum
from .record import Callback, Run
from .stages import stages_of
from .start import has_start
from .tolerance import checked_tolerance
from .work import Work


@single_threaded_blas()
def minimize(
    ufm: UFM,
    x0: Point | ArrayLike | None = None,
    *,
    tol: float = 1e-8,
    fixed: Literal["W", "H"] | None = None,
    max_evaluations: int | None = None,
    callback: Callable[..., Any] | None = None,
    seed: int = 0,
    restarts: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
) -> OptimizeResult:
    """Minimise a model to a certified relative gap.

    Without a start and with ``d >= K - 1`` the solver is free to choose its path. For cross-entropy of classes, without
    margins, classes that differ in nothing share a logit, and it works on these groups; up to 96 of them start at their
    minimum, more from the minimum for about 80 groups of similar classes, interpolated with the kink where classes are
    given up. Squared error starts from the minimum, which a convex problem in the bias alone gives. Then come
    quasi-Newton steps in a metric that inverts the Hessian over every pair of classes or groups.

    With a start it descends from there. Where d is large enough for the problem to be convex in the logits, the first
    step is one of that problem, along all directions in which W H can descend at once (from a small random start it is
    nearly all the way). Then come quasi-Newton steps, in that metric where the classes are aligned with the features
    and else in a rotation-invariant one, now and then a balancing of W and H that leaves their product as it is, and
    where the gradient vanishes short of the global minimum a step along all escape directions at once.

    With ``d >= K - 1`` all critical points of cross-entropy are global minima or strict saddles (Gu and Shen,
    arXiv:2407.10702, for d = K), so both end at a certified global minimum, also from exactly ``W = H = 0``.

    Without a start, other models (of rows with targets, with margins, with binary cross-entropy)
    begin at their minimum where it has a closed form (`global_minimum`), and else at ``W = H = 0``, which one step
    along all escape directions leaves. A loss that is not convex begins at a random point and ends at a stationary one.

    With ``fixed`` the model is minimised over a part of it alone, at every d: a convex problem, whose minimum is
    certified by strong convexity.

    Parameters
    ----------
    ufm : UFM
        The model. With ``collapse=False`` the features of each class are replaced by their mean, which never raises the
        loss; the result has them expanded again. A float32 model is solved in float64 and the result rounded.
    x0 : Point or ndarray of shape (ufm.size,), optional
        Start; a packed one is converted as by `UFM.unpack`. Without one, ``ufm.random_point(seed)`` serves for
        cross-entropy and squared error of classes where ``d < K - 1``, and for losses that are not convex. A bias with
        little or no decay is replaced by the best one for W and H.
    tol : float, default 1e-8
        Largest certified ``(loss - lower_bound) / |loss|`` that counts as success; at least about 3e-13 (K = 50) to
        4e-12 (K = 1000), the allowance for rounding of bound and loss.
    fixed : {"W", "H"}, optional
        "W" holds W and b as they are in x0, a simplex ETF say (`simplex_etf`), and minimises over H; "H" holds H and
        minimises over W and b. Then x0 must be given, restarts and checkpoint must not, seed is of no use, and the
        certificate, a ``RestrictedCertificate``, is that of the restricted problem: its lower bound is on the minimum
        for this W and b, or this H, and says nothing of the model's global minimum. Every loss that is convex in the
        logits will do; with "H" and a bias without decay, cross-entropy and squared error (with a class that no row has
        there is no minimum, and nothing is certified).
    max_evaluations : int, optional
        Largest number of evaluations of loss and gradient; 10 000 by default.
    callback : callable, optional
        Called at the start and after each iteration as ``callback(intermediate_result=OptimizeResult)`` with the fields
        point, fun, lower_bound, gradient_norm, nfev, escapes and seconds, if it has a parameter of that name, else as
        ``callback(x)``. It may raise StopIteration to stop.
    seed : int, default 0
        Seed of the random start, not negative.
    restarts : int, default 0
        How often to start again, from ``ufm.random_point(seed + 1)`` and so on, while nothing is certified and
        evaluations are left; the result is the best end. For ``d < K - 1``, where there are spurious local minima.
    checkpoint : path, optional
        A file that is replaced, atomically, every half minute and when the run ends or is interrupted. If it exists the
        run goes on from there: after a kill, the same call gives what it would have given (bit for bit with the same
        number of threads, but for seconds); after a run out of evaluations, so does a larger `max_evaluations`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        point, x (packed), fun, certificate (of point; None for a loss that is not convex), success (certified to tol;
        for a loss that is not convex, stationary), status (0 certified, 1 evaluations used up, 2 stationary or stalled
        without a certificate, 3 stopped by the callback), message, nfev, nhev, nit,
        escapes (saddles left), products (work, that on groups of classes included, in units of a K x d x K matrix
        product), seconds, and history: arrays
        "seconds", "evaluations", "loss", "lower_bound", "gradient_norm" (in full-sample isometric coordinates) and
        "escaped", one entry an iteration, the start included. ends: the loss at the end of each start.

    Raises
    ------
    TypeError, ValueError
        For a start that is no point of the model, or holds a NaN or an infinity; for fixed without a start; for tol,
        max_evaluations, seed or restarts out of range or of another type; for a checkpoint of another model, start,
        tol, seed, number of restarts or version of the library, or one that is damaged.
    MemoryError
        If there is less memory than Notes say.
    OSError
        If the checkpoint cannot be read or written: before the run, or when a disk is full.

    Warns
    -----
    ConvergenceWarning
        If the result is not certified. With ``d < K - 1`` it cannot be unless the global minimum has rank at most d:
        spurious local minima exist there and, for squared error with a decayed or no bias, at d = K - 1. The run ends
        at a stationary point without visible negative curvature (`lowest_eigenpairs` is asked, and a direction that it
        finds is followed); what is certified is the lower bound over all d, and `classify` gives the exact curvature.

    Notes
    -----
    Memory: about 30 M x K and 15 arrays of M x d and of K x d numbers of double precision; without a start and with
    d >= K - 1, for cross-entropy and squared error of classes, 14 m x m arrays for m groups of classes that differ in
    nothing, and 5 of M x d and of K x d numbers. Each evaluation takes three products. With
    ``fixed`` there are a dozen M x K arrays, and with "H" an eigendecomposition of a d x d matrix an iteration.

    Examples
    --------
    The best features for a simplex ETF as the classifier, and how far they are from the global minimum:

    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(10, 10, range(10, 110, 10), lambda_W=1e-3, lambda_H=1e-5)
    >>> start = ufm.random_point(0)._replace(W=3 * uf.simplex_etf(10, 10))
    >>> best = uf.minimize(ufm, start, fixed="W")
    >>> best.certificate.relative_gap < 1e-8
    True
    >>> best.fun > uf.minimize(ufm).fun
    True
    """
    tol = checked_tolerance(tol, checked_model(ufm))
    max_evaluations = 10_000 if max_evaluations is None else whole_number(max_evaluations, "max_evaluations", 1)
    seed, restarts = whole_number(seed, "seed", 0), whole_number(restarts, "restarts", 0)
    start = (
        None if x0 is None else checked_point(x0 if isinstance(x0, Point) else ufm.unpack(x0), ufm.layout, ufm.dtype)
    )
    if fixed is not None:
        start = start_with(choice(fixed, "fixed", ["W", "H"]), start, restarts, checkpoint)
        result = minimize_with_fixed(ufm, start, fixed, tol, max_evaluations, _adapted(ufm, callback))
        if not result.success:
            warn(result.message)
        return result
    file = None
    if checkpoint is not None:
        file = Checkpoint(
            file_path(checkpoint, "checkpoint"), describe_run(ufm, start, tol=tol, seed=seed, restarts=restarts)
        )
    problem = CanonicalProblem(ufm)
    require_descent_memory(
        "minimize", problem, near_minimum=start is None and ufm.d >= problem.K - 1 and has_start(problem)
    )
    run = Run(problem, tol, Work(problem.K, ufm.d, max_evaluations), _adapted(ufm, callback), file)
    stages, status = stages_of(problem, start, seed, restarts), STALLED
    try:
        while run.stage < len(stages) and status == STALLED:
            status = stages[run.stage].run(problem, run)
            run.stage += 1
    except StopIteration:
        assert run.last is not None
        status = CALLBACK
        run.finish(run.last())
    finally:
        if file is not None:
            file.write()
    if status == STALLED and ufm.d < problem.K - 1 and has_start(problem):
        reference = Run(problem, tol, Work(problem.K, ufm.d, max_evaluations))
        minimize_near_minimum(problem, reference)
        run.lower_bound = max(run.lower_bound, reference.lower_bound)
        run.work.products += reference.work.products
    result = _result(ufm, problem, run, status)
    if not result.success:
        warn(result.message)
    return result


def require_descent_memory(function: str, problem: CanonicalProblem, near_minimum: bool, copies: int = 1) -> None:
    """Raise MemoryError if there is less than what was measured at K = d up to 1200, and 5000 near a minimum."""
    ufm, K, M, d = problem.ufm, problem.K, problem.M, problem.d
    numbers = 30 * M * K + 15 * (M + K) * d
    if near_minimum:
        m = len(groups_of(ufm)[0].blocks) if is_grouped(ufm) else K
        numbers = 14 * m * m + 5 * (M + K) * d
    advice = f"{copies} runs at a time take {copies} times what one takes" if copies > 1 else ""
    require_memory(function, copies * numbers, advice=advice, K=ufm.K, M=M, d=d)


def _adapted(ufm: UFM, callback: Callable[..., Any] | None) -> Callback | None:
    """The callback as a function of one OptimizeResult, whichever of scipy's two forms it has."""
    if callback is None:
        return None
    called = function(callback, "callback")
    try:
        parameters: Collection[str] = inspect.signature(called).parameters
    except (TypeError, ValueError):  # functions of C need not have one
        parameters = ()
    if "intermediate_result" in parameters:
        return lambda result: called(intermediate_result=result)
    return lambda result: called(ufm.pack(result.point))


def _result(ufm: UFM, problem: CanonicalProblem, run: Run, status: int) -> OptimizeResult:
    assert run.best is not None
    point = problem.point(run.best.A, run.best.B, run.best.b)
    certificate = _certificate(ufm, problem, run, point, status) if has_dual(ufm) else None
    if certificate is None:
        loss, message = run.best.loss, _message_without_certificate(ufm, run, status)
        success = status == STALLED
    else:
        success = certificate.is_global(run.tol)
        if success:
            status = CERTIFIED
        elif status == CERTIFIED:  # lost in rounding to float32
            status = STALLED
        loss, message = certificate.loss, _message(ufm, run, certificate, status)
    return OptimizeResult(
        point=point,
        x=ufm.pack(point),
        fun=loss,
        certificate=certificate,
        success=success,
        status=status,
        message=message,
        nfev=run.work.evaluations,
        nhev=0,
        nit=max(0, len(run.rows) - 1),
        escapes=run.work.escapes,
        products=run.work.products,
        seconds=run.seconds,
        history=run.history(),
        ends=np.array(run.ends),
    )


def _certificate(ufm: UFM, problem: CanonicalProblem, run: Run, point: Point, status: int) -> Certificate:
    """Certify the end of a run with the best bound of the run; with those at the point too, if that was not enough."""
    if status != CERTIFIED:
        here = certify(ufm, point)
        bound = max(run.lower_bound, here.lower_bound)
        return certificate_of(here.loss, here.rounding, bound, here.spectral_norm, problem.tau)
    A, B, b = problem.coordinates(point)
    value, G, _ = problem.data_term(product(B, A.T, problem.workers), b)
    loss = value + problem.penalty(A, B, b)
    norm, _ = leading_singular_pair(G, problem.workers)
    run.work.charge(1, ufm.d)
    run.work.charge(NORM_PRODUCTS, ufm.K)
    return certificate_of(loss, problem.rounding(A, B, b, loss), run.lower_bound, norm, problem.tau)


def _message_without_certificate(ufm: UFM, run: Run, status: int) -> str:
    ends = {LIMIT: f"all {run.work.evaluations} evaluations used", CALLBACK: "stopped by the callback"}
    found = ends.get(status, "stationary, without visible negative curvature")
    return f"{found}; no certificate: {ufm.loss_function.title} is not convex in the logits"


def _message(ufm: UFM, run: Run, certificate: Certificate, status: int) -> str:
    gap = f"certified relative gap {certificate.relative_gap:.2e}"
    if status == CERTIFIED:
        return f"global minimum: {gap} <= {run.tol:g}"
    if status == LIMIT:
        reason = f"all {run.work.evaluations} evaluations used"
    elif status == CALLBACK:
        reason = "stopped by the callback"
    elif ufm.d < ufm.layout.K:
        reason = "stationary, but the global minimum over all d, which the bound is for, may have a rank above d"
    else:
        reason = "no further descent in double precision"
    return f"not certified: {reason}; {gap} > {run.tol:g}"
