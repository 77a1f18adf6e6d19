"""census: the critical points that many descents meet, and where they end."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._curvature.critical import classify
from .._io.files import reading
from .._io.journal import Journal, read_journal, write_journal
from .._model.facts import covered
from .._model.model import UFM
from .._model.point import Point
from .._model.storage import describe_ufm, described_ufm
from .._optimize.minimize import minimize
from .._optimize.tolerance import checked_tolerance
from .._runtime.arguments import whole_number
from .._runtime.blas import single_threaded_blas
from .._runtime.warnings import ConvergenceWarning
from .saddles import saddle

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import OptimizeResult

_SCALES = -6.0, 1.0  # decimal exponents of the random starts' scales
_PERTURBATIONS = -12.0, -1.0
_SAME_LOSS = 1e-6

_FIELDS = np.dtype([
    ("model", np.int64), ("run", np.int64), ("start", "U6"), ("scale", float), ("end", bool), ("kind", "U16"),
    ("rank", np.int64), ("loss", float), ("relative_gap", float), ("relative_gradient_norm", float),
    ("lowest_eigenvalue", float), ("norm_excess", float),
])  # fmt: skip


@dataclass(frozen=True)
class Census:
    """What `census` found.

    Attributes
    ----------
    models : tuple of UFM
    settings : dict
        The version of the library, and seed, tol and max_evaluations of the runs.
    records : tuple of dict
        One a run, by model and run: ``model`` (index), ``run``, ``start``, ``scale``, ``evaluations`` and ``points``,
        the saddles it left and then its end.
    """

    models: tuple[UFM, ...]
    settings: dict[str, Any]
    records: tuple[dict[str, Any], ...]

    @property
    def points(self) -> NDArray[Any]:
        """All points as a structured array, one row a point in the order of the records.

        Fields: model, run, start, scale; end (the run's end, else a point it escaped from); kind (as `classify` says,
        and "global_minimum" where the run is certified); rank (see `rank_at_tolerance`); loss; relative_gap (certified;
        it means nothing where d is too small for the bound); relative_gradient_norm and lowest_eigenvalue as `classify`
        gives them (NaN where it is not exact); norm_excess, ``|G|_2 / tau - 1``, positive at a saddle.
        """
        rows = [
            tuple(_from_json((record | point)[name]) for name in _FIELDS.names or ())
            for record in self.records
            for point in record["points"]
        ]
        return np.array(rows, dtype=_FIELDS)

    def summary(self) -> list[dict[str, Any]]:
        """Count, model by model.

        Returns
        -------
        list of dict
            ``model`` (its description in words), ``d``, ``covered`` (whether theory says that every critical point is a
            global minimum or a strict saddle: see `covered`), ``runs``, ``ends`` (how many of each kind), ``certified``
            (fraction ending at the certified global minimum), ``at_lowest`` (fraction ending within 1e-6 of the lowest
            loss found, relative), ``lowest_loss``, ``highest_loss``, ``largest_gap`` (relative, over the ends),
            ``escapes`` (of each kind), ``saddle_ranks`` (of the strict saddles met, ascending), ``eigenvalues`` (least
            and greatest exact lowest eigenvalue of the strict saddles met, else None), ``evaluations`` (median).
        """
        points = self.points
        rows = []
        for index, ufm in enumerate(self.models):
            here = points[points["model"] == index]
            ends, met = here[here["end"]], here[~here["end"]]
            saddles = met[met["kind"] == "strict_saddle"]
            exact = saddles["lowest_eigenvalue"][np.isfinite(saddles["lowest_eigenvalue"])]
            evaluations = [record["evaluations"] for record in self.records if record["model"] == index]
            lowest = ends["loss"].min(initial=np.inf)
            near_lowest = ends["loss"] - lowest <= _SAME_LOSS * abs(lowest)
            rows.append({
                "model": name_of(ufm),
                "d": ufm.d,
                "covered": covered(ufm),
                "runs": len(ends),
                "ends": dict(Counter(ends["kind"].tolist())),
                "certified": float(np.mean(ends["kind"] == "global_minimum")) if len(ends) else None,
                "at_lowest": float(near_lowest.mean()) if len(ends) else None,
                "lowest_loss": float(lowest) if len(ends) else None,
                "highest_loss": float(ends["loss"].max()) if len(ends) else None,
                "largest_gap": float(ends["relative_gap"].max()) if len(ends) else None,
                "escapes": dict(Counter(met["kind"].tolist())),
                "saddle_ranks": np.unique(saddles["rank"]).tolist(),
                "eigenvalues": [float(exact.min()), float(exact.max())] if len(exact) else None,
                "evaluations": float(np.median(evaluations)) if evaluations else None,
            })  # fmt: skip
        return rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file that `load` reads and that ``census(..., path=...)`` continues."""
        write_journal(Path(path), _header(self.models, self.settings), self.records)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Census:
        """Read what `save` or ``census(..., path=...)`` wrote, finished or not.

        Raises
        ------
        ValueError
            If the file is not a census, or is damaged: each line has a checksum, which is verified.
        OSError
            If it cannot be opened.
        """
        path = Path(path)
        header, records = read_journal(path)
        with reading(path):
            if "census" not in header:
                raise ValueError("it is not a census")
            models = tuple(described_ufm(description) for description in header["models"])
            return _census(models, header["settings"], _by_run(records).values())


def census(
    models: UFM | Sequence[UFM],
    runs: int = 100,
    *,
    seed: int = 0,
    tol: float = 1e-8,
    max_evaluations: int | None = None,
    jobs: int = 1,
    path: str | os.PathLike[str] | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> Census:
    """Descend from many starts and classify every point where a descent left a saddle or ended.

    The first run starts at zero, exactly. The others take turns: normal entries with a standard deviation between 1e-6
    and 10; an exact saddle of random rank (`saddle`); such a saddle with normal entries added, of standard deviation
    between 1e-12 and 0.1. Scales are log-uniform. Run i has the same random numbers in every model.

    Parameters
    ----------
    models : UFM or sequence of UFM
        In float64.
    runs : int, optional
        Descents in each model.
    seed : int, optional
        Not negative.
    tol, max_evaluations
        Of each descent: see `minimize`.
    jobs : int, optional
        Processes. More than one take joblib (the ``cli`` extra).
    path : path, optional
        File to which each run is appended when it is finished. If it exists, the runs in it are not done again: a
        census that was interrupted, or killed, continues and gives what it would have given, and ``runs`` may grow.
        Only one process at a time may write it. A pipe or a device gets the same lines.
    callback : callable, optional
        Called as ``callback(done, total)`` at first and after each run.

    Returns
    -------
    Census

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or `path` holds something else than a census of these models and settings, is
        damaged, or is written by another process.
    OSError
        If `path` cannot be written: before the first run, or when a disk is full. The runs that were finished stay.
    ImportError
        If jobs > 1 and joblib is not installed.

    Notes
    -----
    The claim under test: with d >= K, and for most losses with d = K - 1, every critical point is a global minimum or a
    strict saddle (Gu and Shen 2024, arXiv:2407.10702), so every descent should end at the certified global minimum.
    Each run uses one thread, so that the result does not depend on ``jobs``.
    """
    models = (models,) if isinstance(models, UFM) else tuple(models)
    for index, ufm in enumerate(models):
        if not isinstance(ufm, UFM):
            raise TypeError(f"models must be UFM objects, but number {index} is of type {type(ufm).__name__}")
        if ufm.dtype != np.float64:
            raise ValueError(f"models must be float64 to be certified, but number {index} is {ufm.dtype}")
    runs, jobs, seed = whole_number(runs, "runs", 1), whole_number(jobs, "jobs", 1), whole_number(seed, "seed", 0)
    tol = checked_tolerance(tol, *models)
    if max_evaluations is not None:
        max_evaluations = whole_number(max_evaluations, "max_evaluations", 1)
    settings = {"version": version("ufm-fast"), "seed": seed, "tol": tol, "max_evaluations": max_evaluations}
    total = len(models) * runs
    tasks = [(index, run) for run in range(runs) for index in range(len(models))]
    with nullcontext() if path is None else Journal(Path(path), _header(models, settings)) as journal:
        found = {} if journal is None else _by_run(journal.records)
        todo = [(models[index], index, run, settings) for index, run in tasks if (index, run) not in found]
        if callback is not None:
            callback(total - len(todo), total)
        for done, record in enumerate(_explored(todo, min(jobs, max(1, len(todo)))), total - len(todo) + 1):
            found[record["model"], record["run"]] = record
            if journal is not None:
                journal.append(record)
            if callback is not None:
                callback(done, total)
    return _census(models, settings, [found[task] for task in tasks])


def rank_at_tolerance(ufm: UFM, p: Point, loss: float, tol: float) -> int:
    """Count the singular values s of W that matter to the loss at a tolerance: ``lambda_W s^2 > tol |loss|``."""
    return int(np.sum(ufm.lambda_W * np.linalg.svd(p.W, compute_uv=False) ** 2 > tol * abs(loss)))


def name_of(ufm: UFM) -> str:
    """Name a model in a few words: loss, classes, class sizes or rows, features."""
    loss = ufm.loss_function.describe()
    if ufm.counts is None:
        return f"{loss}, K = {ufm.K}, d = {ufm.d}, M = {ufm.M} rows"
    least, most = ufm.counts.min(), ufm.counts.max()
    return f"{loss}, K = {ufm.K}, d = {ufm.d}, n = {least}" + (f" to {most}" if most > least else "")


def _start(ufm: UFM, run: int, generator: np.random.Generator) -> tuple[str, float, Point]:
    """Return the kind of start, its scale and the point."""
    if run == 0:
        return "zero", 0.0, ufm.unpack(np.zeros(ufm.size))
    kind = ("random", "saddle", "near")[run % 3]
    if kind == "random":
        scale = 10 ** generator.uniform(*_SCALES)
        return kind, scale, ufm.random_point(generator, scale)
    p = _random_saddle(ufm, generator)
    if kind == "saddle":
        return kind, 0.0, p
    scale = 10 ** generator.uniform(*_PERTURBATIONS)
    noise = ufm.random_point(generator, scale)
    return kind, scale, Point(*(part + change for part, change in zip(p, noise, strict=True)))


def _random_saddle(ufm: UFM, generator: np.random.Generator) -> Point:
    """Return a saddle of random rank; where there is none of the rank drawn, of a lower one; zero if there are none."""
    rank = min(ufm.d, ufm.K)
    while rank > 0:
        rank = int(generator.integers(rank))
        try:
            return saddle(ufm, rank, int(generator.integers(2**32)))
        except (ValueError, ArithmeticError):
            continue
    return ufm.unpack(np.zeros(ufm.size))


@single_threaded_blas()
def _explore(ufm: UFM, model: int, run: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Do one run and return its record."""
    ufm = described_ufm(describe_ufm(ufm), threads=1)
    met: list[Point] = []
    before: tuple[Point | None, int] = None, 0

    def watch(intermediate_result: OptimizeResult) -> None:
        nonlocal before
        point, escapes = before
        if intermediate_result.escapes > escapes:
            assert point is not None
            met.append(point)
        before = intermediate_result.point, intermediate_result.escapes

    tol = settings["tol"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start, scale, x0 = _start(ufm, run, np.random.default_rng((settings["seed"], run)))
        result = minimize(ufm, x0, tol=tol, max_evaluations=settings["max_evaluations"], callback=watch)
        points = [_row(ufm, p, tol) | {"end": False} for p in met]
        end = _row(ufm, result.point, tol) | {"end": True, "relative_gap": result.certificate.relative_gap}
    if result.success:
        end["kind"] = "global_minimum"
    return {
        "model": model, "run": run, "start": start, "scale": scale, "evaluations": int(result.nfev),
        "points": [*points, end],
    }  # fmt: skip


def _row(ufm: UFM, p: Point, tol: float) -> dict[str, Any]:
    found = classify(ufm, p, certificate_tol=tol)
    certificate, eigenvalue = found.certificate, found.lowest_eigenvalue
    return {
        "kind": found.kind,
        "rank": rank_at_tolerance(ufm, p, certificate.loss, tol),
        "loss": certificate.loss,
        "relative_gap": certificate.relative_gap,
        "relative_gradient_norm": found.relative_gradient_norm,
        "lowest_eigenvalue": None if np.isnan(eigenvalue) else eigenvalue,
        "norm_excess": certificate.spectral_norm / certificate.threshold - 1,
    }


def _explored(tasks: Iterable[tuple[UFM, int, int, dict[str, Any]]], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the records of the tasks as they are finished."""
    if jobs == 1:
        yield from (_explore(*task) for task in tasks)
        return
    from joblib import Parallel, delayed

    # Workers without work for 10 s leave (within a minute): their parent may have been killed.
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", idle_worker_timeout=10)
    with _deaf_to_interrupts():
        records = parallel(delayed(_explore)(*task) for task in tasks)
    try:
        for record in records:  # noqa: UP028 - "yield from" would close them itself
            yield record
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of work cancelled, after an error that says more
            records.close()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, as this one does for this moment.

    Ctrl-C in a terminal reaches all processes, but it is the parent that ends its workers.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone sets what signals do
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)


def _census(models: tuple[UFM, ...], settings: dict[str, Any], records: Iterable[dict[str, Any]]) -> Census:
    return Census(models, settings, tuple(sorted(records, key=lambda record: (record["model"], record["run"]))))


def _header(models: Sequence[UFM], settings: dict[str, Any]) -> dict[str, Any]:
    return {"census": 1, "settings": settings, "models": [describe_ufm(ufm) for ufm in models]}


def _by_run(records: Iterable[dict[str, Any]]) -> dict[tuple[int, int], dict[str, Any]]:
    return {(record["model"], record["run"]): record for record in records}


def _from_json(value: Any) -> Any:
    return np.nan if value is None else value
