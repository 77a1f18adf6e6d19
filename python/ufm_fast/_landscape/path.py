"""path: certified global minima along a family of models, and where their rank or their collapse changes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._certify.duals import require_dual
from .._model.canonical import CanonicalProblem
from .._model.facts import checked_model
from .._model.model import UFM
from .._model.point import Point
from .._model.storage import describe_ufm
from .._optimize.checkpoint import Checkpoint
from .._optimize.minimize import minimize
from .._optimize.stages import starts_near_minimum
from .._optimize.tolerance import checked_tolerance
from .._runtime.arguments import choice, file_path, flag, function, real_array, real_number, whole_number
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.warnings import held_convergence_warnings, warn
from .path_families import FAMILIES, Family
from .path_rows import FIELDS, row_of

_FINEST = 1e-12  # relative width of an interval
_DISCRETE = "rank", "collapsed"


class Transition(NamedTuple):
    """Two neighbouring rows of a path between which the rank or the number of collapsed classes changes.

    Attributes
    ----------
    value, width : float
        Middle of the interval between the rows, and its width.
    rank, collapsed : tuple of two int
        Before and after it, in the direction of the path.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> change = uf.path(ufm, [1, 100]).transitions[0]
    >>> change.rank, round(change.width, 6)
    ((4, 0), 99.0)
    """

    value: float
    width: float
    rank: tuple[int, int]
    collapsed: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Path:
    """What `path` found.

    Attributes
    ----------
    ufm : UFM
        The model that the path began with.
    over : str
        What changes along it; for a function, its name.
    settings : dict
        The version of the library, and tol, max_evaluations and locate.
    rows : ndarray
        A structured array in the direction of the path: ``path.rows["loss"]`` is a column. Fields: value; loss;
        lower_bound and relative_gap (certified, see `Certificate`); certified (to tol); rank (of W and H at the global
        minimum); collapsed (number of classes whose classifier coincides with another's there); norm_W and norm_H
        (Frobenius, of H over all samples); spectral_ratio (``|G|_2 / tau``, 1 at a nonzero minimum); nc2_W_centred,
        nc2_means and nc3_duality_centred (as `NCMetrics` defines them); minority_cosine_mean and minority_cosine_least
        (between the rows of W of the rarest classes: a tenth of all and at least two, with all that have as few
        samples); evaluations; seconds. What is undefined, as where W = 0 or rows are no classes, is NaN.
    points : tuple of Point, or None
        The minima, if they were asked for.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> along = uf.path(ufm, [0.01, 1, 100])
    >>> along.rows["rank"].tolist(), len(along.transitions)
    ([4, 4, 0], 1)
    """

    ufm: UFM
    over: str
    settings: dict[str, Any]
    rows: NDArray[Any]
    points: tuple[Point, ...] | None = field(repr=False)

    @property
    def transitions(self) -> list[Transition]:
        """Where the rank or the number of collapsed classes changes from a row to the next.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(10, 10, [500] * 5 + [5] * 5, lambda_W=1e-2, lambda_H=2e-4, lambda_b=1e-2)
        >>> [change.collapsed for change in uf.path(ufm, [0.05, 0.5], over="weight_exponent").transitions]
        [(5, 0)]
        """
        return [
            Transition(
                float(before["value"] + after["value"]) / 2,
                float(abs(after["value"] - before["value"])),
                *((int(before[name]), int(after[name])) for name in _DISCRETE),
            )
            for before, after in pairwise(self.rows)
            if _differ(before, after)
        ]


@single_threaded_blas()
def path(
    ufm: UFM,
    values: ArrayLike,
    over: str | Family = "lambda_W",
    *,
    tol: float = 1e-8,
    max_evaluations: int | None = None,
    locate: float | None = None,
    keep_points: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> Path:
    """Follow the certified global minimum along a family of models.

    Where the solver has a start of its own near the minimum (see `minimize`), every row begins there; elsewhere from
    the minimum of the row before. With `locate` the path tells, for example, which class weights or shifts of the
    logits keep the rarest classes apart.

    Parameters
    ----------
    ufm : UFM
        In float64.
    values : array_like
        At least one, ascending or descending.
    over : str or callable, optional
        What the values are. "lambda_W", "lambda_H", "lambda_b": a decay. "lambda": a factor of lambda_W and lambda_H.
        "weight_exponent": g in class weights proportional to ``n_k^-g``, with the factor that makes
        ``sum_k n_k weights_k = N``. "shift_strength": s in logits shifted by ``s log(n_k / N)`` in the loss (logit
        adjustment, Menon et al. 2021, arXiv:2007.07314). Or a function of the model and a value that returns a model.
    tol, max_evaluations
        Of each row: see `minimize`.
    locate : float, optional
        Between 1e-12 and 1. Where the rank or the number of collapsed classes differs between neighbours, halve the
        interval until its width is this part of its larger end (or of `locate` times the largest value, near zero);
        the rows on the way belong to the result.
    keep_points : bool, optional
        Keep the minima, a point a row; not together with a checkpoint, which holds rows.
    checkpoint : path, optional
        A file that is replaced, atomically, after each row. If it exists its rows are not done again: after a kill or
        Ctrl-C the same call gives what it would have given.
    callback : callable, optional
        Called as ``callback(done, total)`` at first and after each row; the total grows with the rows of `locate`.

    Returns
    -------
    Path

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, the family has no model for a value, or the checkpoint is damaged or belongs to
        another path.
    MemoryError
        If there is not memory for the points to be kept, or for `minimize`.
    OSError
        If the checkpoint cannot be read or written.

    Warns
    -----
    ConvergenceWarning
        If a row is not certified; its ``certified`` is False then.

    Notes
    -----
    Rank and collapse are those of the global minimum, not of the numbers in W: at the end of each row a
    proximal-gradient step separates the singular directions of the scores that the minimum has (G has the singular
    value tau there) from those that it lacks, and a Newton step along each settles the ones at the border. With
    ``tol=1e-8`` this locates thresholds to about 1e-5 of the value.

    For classes of equal counts n and weights w, the differences of their rows of W are zero if and only if
    ``w sqrt(n) / N <= tau``: their collapse is sharp. Classes of different counts collapse up to small differences.

    Examples
    --------
    >>> found = path(UFM(10, 10, 5, lambda_W=1e-2, lambda_H=1e-3), [1, 4, 16], over="lambda", locate=1e-4)
    >>> [(round(t.value, 3), t.rank) for t in found.transitions]  # zero if K sqrt(n lambda_W lambda_H) >= 1
    [(14.142, (9, 0))]
    """
    if checked_model(ufm).dtype != np.float64:
        raise ValueError(f"the model must be float64 to be certified, not {ufm.dtype}")
    if callback is not None:
        function(callback, "callback")
    name, family = _family_of(over)
    asked = _checked_values(values)
    settings = {
        "version": version("ufm-fast"),
        "tol": checked_tolerance(tol, ufm),
        "max_evaluations": None if max_evaluations is None else whole_number(max_evaluations, "max_evaluations", 1),
        "locate": None if locate is None else real_number(locate, "locate", least=_FINEST, below=1),
    }
    if flag(keep_points, "keep_points") and checkpoint is not None:
        raise ValueError("keep_points must be False with a checkpoint, which holds rows and no points")
    if keep_points:
        require_memory("path", len(asked) * ufm.size, K=ufm.K, M=ufm.M, d=ufm.d, points=len(asked))
    models = [_model(family, ufm, value) for value in asked]
    file = (
        None
        if checkpoint is None
        else Checkpoint(file_path(checkpoint, "checkpoint"), _header(name, asked, models, settings))
    )
    walk = _Walk(partial(_model, family, ufm), asked, settings, file, keep_points, callback)
    walk.report()
    walk.at(asked[0])
    for before, after in pairwise(asked):
        walk.at(after)
        if locate is not None:
            _locate(walk, before, after, locate, locate * max(map(abs, asked)))
    order = sorted(walk.rows, reverse=asked[-1] < asked[0])
    rows = np.array([walk.rows[value] for value in order], dtype=FIELDS)
    _warn_of_uncertified(name, rows)
    return Path(ufm, name, settings, rows, tuple(walk.points[value] for value in order) if keep_points else None)


class _Walk:
    """The rows made so far by value, and the point from which the next one starts where there is no own start."""

    def __init__(
        self,
        model: Callable[[float], UFM],
        asked: list[float],
        settings: dict[str, Any],
        file: Checkpoint | None,
        keep_points: bool,
        callback: Callable[[int, int], object] | None,
    ) -> None:
        self.model, self.asked, self.file = model, asked, file
        self.keep_points, self.callback = keep_points, callback
        self.options = {name: settings[name] for name in ("tol", "max_evaluations")}
        content = {} if file is None else file.content
        self.rows: dict[float, NDArray[Any]] = {float(row["value"]): row for row in content.get("rows", ())}
        self.points: dict[float, Point] = {}
        self.last = Point(*(content[part] for part in Point._fields)) if "W" in content else None

    def at(self, value: float) -> NDArray[Any]:
        """Return the row for a value; make it if it is not there."""
        if value not in self.rows:
            ufm = self.model(value)
            own = starts_near_minimum(CanonicalProblem(ufm))
            with held_convergence_warnings():
                result = minimize(ufm, None if own else self.last, **self.options)
            self.last = None if own else result.point
            self.rows[value] = row_of(ufm, value, result)
            if self.keep_points:
                self.points[value] = result.point
            self._save()
            self.report()
        return self.rows[value]

    def report(self) -> None:
        """Tell the callback how many rows are done and how many there will be, as far as is known."""
        if self.callback is not None:
            done = len(self.rows)
            self.callback(done, done + sum(value not in self.rows for value in self.asked))

    def _save(self) -> None:
        if self.file is not None:
            last = {} if self.last is None else self.last._asdict()
            self.file.offer({"rows": np.array(list(self.rows.values()), dtype=FIELDS), **last})
            self.file.write()


def _family_of(over: str | Family) -> tuple[str, Family]:
    if callable(over):
        return getattr(over, "__name__", type(over).__name__), over
    name = choice(over, "over", list(FAMILIES))
    return name, FAMILIES[name]


def _model(family: Family, ufm: UFM, value: float) -> UFM:
    model = family(ufm, value)
    if not isinstance(model, UFM) or model.dtype != np.float64:
        raise TypeError(f"over must return a UFM in float64, not {model!r}")
    require_dual(model)
    return model


def _checked_values(values: ArrayLike) -> list[float]:
    array = real_array(values, "values", np.float64)
    steps = np.diff(array) if array.ndim == 1 else np.zeros(1)
    if array.size == 0 or not (np.isfinite(array).all() and ((steps > 0).all() or (steps < 0).all())):
        raise ValueError("values must be one or more finite numbers, ascending or descending")
    asked: list[float] = array.tolist()
    return asked


def _header(name: str, asked: list[float], models: list[UFM], settings: dict[str, Any]) -> dict[str, Any]:
    """Say what a checkpoint belongs to; a function's name says little, so all models are part of it."""
    digest = hashlib.sha256()
    for ufm in models:
        digest.update(json.dumps(describe_ufm(ufm)).encode())
    return {"path over": name, "values": asked, "models": digest.hexdigest(), **settings}


def _differ(before: NDArray[Any], after: NDArray[Any]) -> bool:
    return any(before[name] != after[name] for name in _DISCRETE)


def _locate(walk: _Walk, before: float, after: float, relative: float, near_zero: float) -> None:
    """Halve an interval between two rows that differ, on a logarithmic scale where that can be."""
    width = relative * max(abs(before), abs(after), near_zero)
    if not _differ(walk.at(before), walk.at(after)) or abs(after - before) <= width:
        return
    middle = (before + after) / 2
    if before * after > 0:
        middle = math.copysign(math.sqrt(abs(before)) * math.sqrt(abs(after)), after)
    for ends in ((before, middle), (middle, after)):
        _locate(walk, *ends, relative, near_zero)


def _warn_of_uncertified(name: str, rows: NDArray[Any]) -> None:
    failed = rows[~rows["certified"]]
    if len(failed):
        worst = failed[np.argmax(failed["relative_gap"])]
        warn(
            f"{len(failed)} of {len(rows)} rows are not certified; the largest relative gap is "
            f"{worst['relative_gap']:.2e}, at {name} = {worst['value']:g}"
        )
