"""escape: the way on from where another solver stopped."""

from __future__ import annotations

from .._certify.certificate import certify
from .._certify.duals import has_dual
from .._model.canonical import CanonicalProblem
from .._model.facts import checked_model
from .._model.model import UFM
from .._model.point import Point, checked_point
from .._optimize.curvature_escape import escape_by_curvature
from .._optimize.escape import escape as along_descent_pairs
from .._optimize.minimize import minimize, require_descent_memory
from .._optimize.objective import Objective
from .._optimize.tolerance import checked_tolerance
from .._optimize.work import Work
from .._runtime.blas import single_threaded_blas
from .._runtime.warnings import held_convergence_warnings, warn

_EVALUATIONS = 30
_SUFFICIENT = 0.5  # part of the certified gap that a step should gain: near a minimum no step off a saddle does
_WORTHWHILE = 1e-3  # of the loss, that it should gain where there is no certificate
_NOTICEABLE = 1e-14  # of the loss


@single_threaded_blas()
def escape(ufm: UFM, p: Point, *, tol: float = 1e-8) -> Point | None:
    """Find a point further down from where a solver stopped, at a saddle or short of it.

    From a saddle one step leads along all ways down at once, exactly as far as a convex problem in one variable says:
    each pair of singular vectors of the gradient matrix G with a singular value above tau gives one, along a direction
    of the feature space that W and H leave empty, or for d >= K - 1 in the logits. Where there is none the direction of
    lowest curvature is tried. Where such steps gain little, as near a minimum that a solver did not reach, some
    quasi-Newton steps follow.

    Parameters
    ----------
    ufm : UFM
    p : Point
        As for `UFM.loss`; it need not be critical.
    tol : float, optional
        Relative gap at which p counts as a global minimum; for a loss without certificates, how much lower a point must
        be, relative to the loss.

    Returns
    -------
    Point or None
        With a lower loss than p. None if p is certified to tol; or, with a warning, if no way down was found.

    Raises
    ------
    TypeError, ValueError
        If p is no point of the model, or tol out of range.
    FloatingPointError
        If the loss at p overflows.
    MemoryError
        If there is less memory than `minimize` from p needs.

    Warns
    -----
    ConvergenceWarning
        If p is not certified and nothing further down was found: at a local minimum, which there can be for d < K - 1
        or a loss that is not convex, or where only rounding is left.

    Notes
    -----
    Cost: `certify`, an eigendecomposition of K x K, about ten products K x d x M, and near a minimum 30 evaluations.

    Examples
    --------
    A solver that knows nothing of saddles, made one that ends at certified minima:

    >>> from scipy.optimize import minimize
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(6, 6, 10, lambda_W=5e-3, lambda_H=5e-4, lambda_b=0.1)
    >>> p = uf.saddle(ufm, 2)
    >>> while p is not None:
    ...     x = minimize(ufm.fun_and_grad, ufm.pack(p), jac=True, method="Newton-CG", hessp=ufm.hessp).x
    ...     p = uf.escape(ufm, ufm.unpack(x))
    >>> uf.certify(ufm, ufm.unpack(x)).is_global(1e-8)
    True
    """
    tol = checked_tolerance(tol, checked_model(ufm))
    p = checked_point(p, ufm.layout, ufm.dtype)
    require_descent_memory("escape", CanonicalProblem(ufm), near_minimum=False)
    loss = ufm.loss(p)
    wanted, least = _WORTHWHILE * loss, tol * loss
    if has_dual(ufm):
        certificate = certify(ufm, p)
        if certificate.is_global(tol):
            return None
        wanted, least = _SUFFICIENT * certificate.gap, _NOTICEABLE * loss
    best = _step(ufm, p)
    if best is None or ufm.loss(best) > loss - wanted:
        best = _descent(ufm, best or p, tol)
    if ufm.loss(best) < loss - least:
        return best
    warn(f"no way down was found from this point, which is not certified to {tol:g} either")
    return None


def _step(ufm: UFM, p: Point) -> Point | None:
    """Return the end of one step off a saddle, if there is one that lowers the loss."""
    problem = CanonicalProblem(ufm)
    objective = Objective(problem, ufm.d, Work(problem.K, ufm.d, _EVALUATIONS))
    state = objective.at(*problem.coordinates(p))
    new = along_descent_pairs(objective, state, _NOTICEABLE * abs(state.loss), aligned=False)
    if new is None:
        new = escape_by_curvature(objective, state)
    return None if new is None else problem.point(new.A, new.B, new.b)


def _descent(ufm: UFM, p: Point, tol: float) -> Point:
    with held_convergence_warnings():
        end: Point = minimize(ufm, p, tol=tol, max_evaluations=_EVALUATIONS).point
    return end
