"""census: the critical points that many descents meet, and where they end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from .._io.files import reading
from .._io.journal import Journal, read_journal, write_journal
from .._model.canonical import CanonicalProblem
from .._model.facts import covered
from .._model.model import UFM
from .._model.storage import describe_ufm, described_ufm
from .._optimize.minimize import require_descent_memory
from .._optimize.tolerance import checked_tolerance
from .._runtime.arguments import file_path, shown, whole_number
from .census_runs import Task, explore
from .workers import Workers, checked_workers, runs_at_once, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.census(ufm, runs=3)
    >>> set(found.points["kind"][found.points["end"]].tolist())
    {'global_minimum'}
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

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
        >>> points = uf.census(ufm, runs=2).points
        >>> set(points["kind"][points["end"]].tolist())
        {'global_minimum'}
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

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
        >>> uf.census(ufm, runs=2).summary()[0]["certified"]
        1.0
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
        """Write everything to a file that `load` reads and that ``census(..., path=...)`` continues.

        Examples
        --------
        >>> import tempfile, ufm_fast as uf
        >>> ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
        >>> found = uf.census(ufm, runs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.save(f"{folder}/census.jsonl")
        ...     uf.Census.load(f"{folder}/census.jsonl").records == found.records
        True
        """
        write_journal(file_path(path, "path"), _header(self.models, self.settings), self.records)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Census:
        """Read what `save` or ``census(..., path=...)`` wrote, finished or not.

        Raises
        ------
        ValueError
            If the file is not a census, or is damaged: each line has a checksum, which is verified.
        OSError
            If it cannot be opened.

        Examples
        --------
        >>> import tempfile, ufm_fast as uf
        >>> ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = uf.census(ufm, runs=2, path=f"{folder}/census.jsonl")
        ...     len(uf.Census.load(f"{folder}/census.jsonl").records)
        2
        """
        path = file_path(path, "path")
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
    workers: Workers = None,
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
    workers : int or function like map, optional
        Who does the runs: by default this process, or what ``joblib.parallel_config`` says (threads, Dask, Ray). An int
        is a number of joblib's workers, processes unless joblib is told otherwise: 1 is this process, -1 all
        processors, -2 all but one; but for 1 it takes joblib (the ``cli`` extra). A function is called once, as
        ``workers(function, tasks)``, and gives the results in any order, best one by one, such as
        ``multiprocessing.Pool().imap`` or ``mpi4py.futures.MPIPoolExecutor().map``; docs/workers.md has more.
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
    MemoryError
        If there is not memory for as many runs as there are workers on this machine.
    OSError
        If `path` cannot be written: before the first run, or when a disk is full. The runs that were finished stay.
    ImportError
        If workers is an int other than 1 and joblib is not installed.

    Notes
    -----
    The claim under test: with d >= K, and for most losses with d = K - 1, every critical point is a global minimum or a
    strict saddle (Gu and Shen 2024, arXiv:2407.10702), so every descent should end at the certified global minimum.
    Each run uses one thread, so that the result does not depend on ``workers``.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.census(ufm, runs=3)
    >>> [row["certified"] for row in found.summary()]
    [1.0]
    """
    models = (models,) if isinstance(models, UFM) else tuple(models)
    for index, ufm in enumerate(models):
        if not isinstance(ufm, UFM):
            raise TypeError(f"models must be UFM objects, but number {index} is of type {type(ufm).__name__}")
        if ufm.dtype != np.float64:
            raise ValueError(f"models must be float64 to be certified, but number {index} is {ufm.dtype}")
    runs, seed, workers = whole_number(runs, "runs", 1), whole_number(seed, "seed", 0), checked_workers(workers)
    tol = checked_tolerance(tol, *models)
    if max_evaluations is not None:
        max_evaluations = whole_number(max_evaluations, "max_evaluations", 1)
    settings = {"version": version("ufm-fast"), "seed": seed, "tol": tol, "max_evaluations": max_evaluations}
    total = len(models) * runs
    tasks = [(index, run) for run in range(runs) for index in range(len(models))]
    for ufm in models:
        require_descent_memory("census", CanonicalProblem(ufm), near_minimum=False, copies=runs_at_once(workers, total))
    with nullcontext() if path is None else Journal(file_path(path, "path"), _header(models, settings)) as journal:
        found = {} if journal is None else _by_run(journal.records)
        alone = [described_ufm(describe_ufm(ufm), threads=1) for ufm in models]
        todo = [Task(alone[index], index, run, settings) for index, run in tasks if (index, run) not in found]
        if callback is not None:
            callback(total - len(todo), total)
        with closing(spread(explore, todo, workers)) as records:
            for done, record in enumerate(records, total - len(todo) + 1):
                if not isinstance(record, dict):
                    raise TypeError(f"workers must give what the function returns, as map does, not {shown(record)}")
                found[record["model"], record["run"]] = record
                if journal is not None:
                    journal.append(record)
                if callback is not None:
                    callback(done, total)
    missing = len(set(tasks) - set(found))
    if missing:
        raise ValueError(
            f"workers must give a result for each task, as map does, but {missing} of {len(todo)} are missing"
        )
    return _census(models, settings, [found[task] for task in tasks])


def name_of(ufm: UFM) -> str:
    """Name a model in a few words: loss, classes, class sizes or rows, features."""
    loss = ufm.loss_function.describe()
    if ufm.counts is None:
        return f"{loss}, K = {ufm.K}, d = {ufm.d}, M = {ufm.M} rows"
    least, most = ufm.counts.min(), ufm.counts.max()
    return f"{loss}, K = {ufm.K}, d = {ufm.d}, n = {least}" + (f" to {most}" if most > least else "")


def _census(models: tuple[UFM, ...], settings: dict[str, Any], records: Iterable[dict[str, Any]]) -> Census:
    return Census(models, settings, tuple(sorted(records, key=lambda record: (record["model"], record["run"]))))


def _header(models: Sequence[UFM], settings: dict[str, Any]) -> dict[str, Any]:
    return {"census": 1, "settings": settings, "models": [describe_ufm(ufm) for ufm in models]}


def _by_run(records: Iterable[dict[str, Any]]) -> dict[tuple[int, int], dict[str, Any]]:
    return {(record["model"], record["run"]): record for record in records}


def _from_json(value: Any) -> Any:
    return np.nan if value is None else value
