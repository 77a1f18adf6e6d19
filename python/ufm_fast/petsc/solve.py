"""PETSc's minimisers (TAO) on a model spread over ranks, with the way on from the saddles at which they stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mpi4py import MPI
from petsc4py import PETSc
from scipy.optimize import OptimizeResult

from .._certify.certificate import Certificate, certify
from .._certify.duals import has_dual
from .._landscape.escape import escape
from .._model.model import UFM
from .._model.point import Point
from .._optimize.tolerance import checked_tolerance
from .._runtime.arguments import whole_number
from .._runtime.warnings import ConvergenceWarning, warn
from .merging import MergedRows
from .operators import shell
from .shard import HessianShell, Shard
from .together import on_first_rank, together

PREFIX = "ufm_fast_"

CERTIFIED, LIMIT, STALLED = 0, 1, 2
_GRADIENT = 1e-8  # its norm over f, at which TAO stops; TAO's absolute limit is too large where decays are small
_ITERATIONS = 10_000


def as_shard(model: UFM | Shard, comm: Any) -> Shard:
    """Return the shard, or that of a model."""
    if not isinstance(model, Shard):
        return Shard(model, comm)
    if comm is not None:
        raise ValueError("comm must not be given with a shard, which has one")
    return model


def as_vector(shard: Shard, p: Point | PETSc.Vec | None) -> PETSc.Vec:
    """Return a new vector: a copy, or one with the point of rank 0."""
    if len(set(shard.comm.allgather(isinstance(p, PETSc.Vec)))) > 1:
        raise TypeError("a point must be a PETSc.Vec on all ranks or on none")
    if not isinstance(p, PETSc.Vec):
        return shard.scatter(p)
    shard.require(p)
    return p.copy()


def tao_solve(
    model: UFM | Shard,
    x0: Point | PETSc.Vec | None = None,
    *,
    method: str = "lmvm",
    options: Mapping[str, Any] | None = None,
    tol: float = 1e-8,
    escapes: int = 20,
    comm: Any = None,
) -> OptimizeResult:
    """Minimise a model whose rows are spread over ranks with a minimiser of PETSc, and certify the end.

    TAO's methods stop at saddles, W = H = 0 among them, as all do. After each stop rank 0 gathers the point, with equal
    rows merged (samples become class means), and asks `ufm_fast.certify` and, if it is no certified global minimum,
    `ufm_fast.escape`, from whose point TAO goes on.

    Parameters
    ----------
    model : UFM or Shard
        The same on every rank.
    x0 : Point or PETSc.Vec, optional
        The start: a vector, or a point on rank 0 (on other ranks it is not read). A random point, if rank 0 has None.
    method : str, optional
        A type of TAO for problems without constraints: "lmvm", "cg", "nls", "ntr", "bntr", "bnls" and others. Newton's
        methods take Hessian products.
    options : mapping, optional
        PETSc's options, ``{"tao_gatol": 1e-10, "tao_max_it": 500}``. Those on the command line have the prefix
        ``ufm_fast_``: ``-ufm_fast_tao_monitor``.
    tol : float, optional
        Relative gap at which a point counts as a global minimum.
    escapes : int, optional
        How many times TAO may go on from a point of `ufm_fast.escape`. With 0 it runs once.
    comm : communicator of mpi4py or petsc4py, optional
        With a UFM; None stands for all processes.

    Returns
    -------
    scipy.optimize.OptimizeResult
        On all ranks: x (a vector), fun, certificate (None for a loss that is not convex, or where rank 0 lacks the
        memory), success, status (0 certified, 1 all escapes used, 2 no way down found), message, reason (the last of
        TAO's, as in ``PETSc.TAO.Reason``), nfev, nhev (Hessian products), nit, escapes, seconds. On rank 0 also point,
        which is None elsewhere.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    petsc4py.PETSc.Error
        If PETSc does not know the method or an option's value.

    Warns
    -----
    ConvergenceWarning
        On all ranks, if the end is not certified.

    Notes
    -----
    An evaluation is that of `Shard.fun_and_grad`, in the coordinates of `UFM.pack`. Certificates and escapes need whole
    matrices, M x K with M counting merged rows, and stay on rank 0, whose memory and threads they take: see
    `ufm_fast.escape`. The other ranks sleep meanwhile.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> from ufm_fast.petsc import tao_solve
    >>> ufm = uf.UFM(6, 6, 10, lambda_W=5e-3, lambda_H=5e-4)
    >>> result = tao_solve(ufm, uf.saddle(ufm, 2), method="bntr")
    >>> result.success, result.escapes
    (True, 1)
    """
    shard, begin = as_shard(model, comm), time.perf_counter()
    tol, escapes = together(shard.comm, lambda: _checked(shard.ufm, method, tol, escapes))
    merged = MergedRows(shard)
    given = shard.comm.bcast(x0 is not None)
    x = as_vector(shard, x0 if given else together(shard.comm, lambda: _random(shard)))
    evaluations, products, iterations, escaped = shard.evaluations, shard.products, 0, 0
    while True:
        with _options(options):
            reason, steps = _run(shard, x, method)
        iterations += steps
        point = merged.point(x)
        verdict, onward = _judged(shard.comm, merged.ufm, point, tol, escaped < escapes)
        if not verdict.goes_on:
            break
        x, escaped = merged.vector(onward), escaped + 1
    certificate = verdict.certificate
    if certificate is not None:
        x = merged.vector(point)  # what the certificate is of
    result = OptimizeResult(
        x=x,
        point=shard.gather(x),
        fun=shard.fun(x) if certificate is None else certificate.loss,
        certificate=certificate,
        success=verdict.success,
        status=verdict.status,
        message=verdict.message(shard.ufm, tol),
        reason=reason,
        nfev=shard.evaluations - evaluations,
        nhev=shard.products - products,
        nit=iterations,
        escapes=escaped,
        seconds=time.perf_counter() - begin,
    )
    if not result.success:
        warn(result.message)
    return result


def _checked(ufm: UFM, method: Any, tol: float, escapes: int) -> tuple[float, int]:
    if not isinstance(method, str):
        raise TypeError(f"method must be a str, not {type(method).__name__}")
    if method == "ntl" and PETSc.Sys.getVersion() < (3, 19):
        raise ValueError("method must not be 'ntl' before PETSc 3.19, which crashes in it; 'bntl' is like it")
    return checked_tolerance(tol, ufm), whole_number(escapes, "escapes", 0)


def _random(shard: Shard) -> Point | None:
    return shard.ufm.random_point() if shard.comm.rank == 0 else None


@contextmanager
def _options(options: Mapping[str, Any] | None) -> Iterator[None]:
    """Have PETSc know options meanwhile."""
    known = PETSc.Options()
    names = {f"{PREFIX}{name.removeprefix('-')}": value for name, value in (options or {}).items()}
    for name, value in names.items():
        known[name] = value
    try:
        yield
    finally:
        for name in names:
            known.delValue(name)


def _run(shard: Shard, x: PETSc.Vec, method: str) -> tuple[int, int]:
    """Let TAO move x; return why it stopped and its number of iterations."""
    tao = PETSc.TAO().create(comm=shard.comm)
    tao.setType(method)
    tao.setOptionsPrefix(PREFIX)
    tao.setTolerances(gatol=0.0, grtol=_GRADIENT, gttol=0.0)
    tao.setMaximumIterations(_ITERATIONS)
    gradient = x.duplicate()
    tao.setObjective(lambda _, y: shard.fun(y, overflow="inf"))
    tao.setObjectiveGradient(lambda _, y, g: shard.fun_and_grad(y, g, overflow="inf")[0], gradient)
    context = HessianShell(shard, x)
    hessian = shell(shard, context)
    tao.setHessian(lambda _, y, H, P: context.set_point(y), hessian)
    linear = tao.getKSP()
    if linear and linear.getPC().getType() is None:  # PETSc's own choice needs the entries of the matrix
        linear.getPC().setType(PETSc.PC.Type.NONE)
    tao.setFromOptions()
    tao.solve(x)
    reason, iterations = tao.getConvergedReason(), tao.getIterationNumber()
    for each in (tao, hessian, gradient):
        each.destroy()
    return int(reason), int(iterations)


@dataclass(frozen=True)
class _Verdict:
    """What rank 0 says of a point at which TAO stopped."""

    status: int
    goes_on: bool = False
    certificate: Certificate | None = None
    obstacle: str = ""

    @property
    def success(self) -> bool:
        """Whether the point is certified or, where the loss allows no certificate, has no way down."""
        return self.status == CERTIFIED or (self.status == STALLED and self.certificate is None and not self.obstacle)

    def message(self, ufm: UFM, tol: float) -> str:
        if self.success and self.certificate is None:
            return f"stationary, without a way down found; no certificate: {ufm.loss_function.title} is not convex"
        gap = "" if self.certificate is None else f"certified relative gap {self.certificate.relative_gap:.2e}"
        if self.status == CERTIFIED:
            return f"global minimum: {gap} <= {tol:g}"
        reason = "all escapes used" if self.status == LIMIT else self.obstacle or "no way down was found"
        return f"not certified: {reason}" + (f"; {gap} > {tol:g}" if gap else "")


def _judged(
    comm: MPI.Comm, ufm: UFM, point: Point | None, tol: float, may_escape: bool
) -> tuple[_Verdict, Point | None]:
    """Return what rank 0 says of its point and, on rank 0, the point to go on from."""
    onward: list[Point | None] = [None]

    def judge() -> _Verdict:
        assert point is not None
        verdict, onward[0] = _judge(ufm, point, tol, may_escape)
        return verdict

    return on_first_rank(comm, judge), onward[0]


def _judge(ufm: UFM, p: Point, tol: float, may_escape: bool) -> tuple[_Verdict, Point | None]:
    certificate = None
    try:
        certificate = certify(ufm, p) if has_dual(ufm) else None
        if certificate is not None and certificate.is_global(tol):
            return _Verdict(CERTIFIED, certificate=certificate), None
        if not may_escape:
            return _Verdict(LIMIT, certificate=certificate), None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            onward = escape(ufm, p, tol=tol)
    except MemoryError as error:  # the end of a long run is kept
        return _Verdict(STALLED, certificate=certificate, obstacle=str(error)), None
    if onward is None:
        return _Verdict(STALLED, certificate=certificate), None
    return _Verdict(LIMIT, goes_on=True, certificate=certificate), onward
