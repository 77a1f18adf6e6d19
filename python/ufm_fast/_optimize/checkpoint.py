"""A file from which a run of minimize goes on as if it had never been interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._io.files import FileError, check_destination, read_archive, reading, write_file
from .._model.model import UFM, Point
from .._model.storage import describe_ufm
from .preconditioners import KroneckerMetric, PairMetric

if TYPE_CHECKING:
    from .._numerics.quasi_newton import Memory
    from .bounds import Bounds
    from .lbfgs import Metric
    from .objective import Objective, State

INTERVAL = 30.0  # seconds between writes
_STATE = "x", "b", "Z", "loss", "G", "gradient"
_BOUNDS: dict[str, type] = {"threshold": float, "proximal": bool, "gap": float}
_METRICS: dict[str, type[PairMetric] | type[KroneckerMetric]] = {"pair": PairMetric, "kronecker": KroneckerMetric}

Content = dict[str, Any]


class Checkpoint:
    """The file of one run. `content` is what it held: arrays by name, empty if there was no file.

    Raises
    ------
    FileError
        If the file is damaged, is no checkpoint, or one of another run.
    OSError
        If it cannot be read, or could not be written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.content: Content = {}
        self._held: Content | None = None
        self._written = time.monotonic()
        target = check_destination(path)
        if target is not None and target.exists():
            self._read()

    def _read(self) -> None:
        with reading(self.path):
            content = read_archive(self.path)
            if "checkpoint" not in content:
                raise ValueError("it is not a checkpoint of minimize")
            theirs = json.loads(str(content.pop("checkpoint")))
            differing = ", ".join(sorted(key for key in self.header if theirs.get(key) != self.header[key]))
            if not differing and theirs.get("digest") != _digest(content):
                raise ValueError("its arrays are not those that minimize wrote")
        if differing:
            raise FileError(f"{self.path} belongs to a run with another {differing}; give the same or another file")
        self.content = content

    def hold(self, content: Content) -> None:
        """Take what the file should hold from now on, and write it if the last time is long ago.

        Arrays must not change afterwards.
        """
        self._held = content
        if time.monotonic() - self._written >= INTERVAL:
            self.write()

    def write(self) -> None:
        """Write what was held last, if that is not done yet."""
        if self._held is not None:
            content = {name: np.asanyarray(value) for name, value in self._held.items()}
            header = json.dumps({**self.header, "digest": _digest(content)})
            write_file(self.path, lambda stream: np.savez(stream, **content, checkpoint=header))
            self._held, self._written = None, time.monotonic()


def describe_run(ufm: UFM, x0: Point | None, **settings: Any) -> dict[str, Any]:
    """Give what a checkpoint belongs to, in JSON's types."""
    start = None if x0 is None else _digest(x0._asdict())
    return {"version": version("ufm-fast"), "model": describe_ufm(ufm), "start": start, **settings}


def _digest(arrays: Content) -> str:
    """Return a hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def loop_content(state: State, metric: Metric, memory: Memory, bounds: Bounds, escapes: int) -> Content:
    """Give the variables of the loop of `descend` as arrays."""
    name = next(name for name, kind in _METRICS.items() if isinstance(metric, kind))
    content: Content = {part: getattr(state, part) for part in _STATE}
    content |= {f"bounds.{part}": getattr(bounds, part) for part in _BOUNDS}
    content |= {f"metric.{part}": value for part, value in metric.carried().items()}
    content |= {f"memory.{part}": value for part, value in memory.carried().items()}
    return {**content, "metric": name, "escaped_before": escapes}


def restored_loop(objective: Objective, content: Content, bounds: Bounds) -> tuple[State, Metric, Memory, int]:
    """Undo `loop_content`: fill the bounds, and make the rest anew."""
    from .lbfgs import new_memory
    from .objective import State

    A, B, b = objective.split(content["x"])
    values = {part: content[part] for part in _STATE}
    values |= {"A": A, "B": B, "b": content["b"] if b is None else b, "loss": float(content["loss"])}
    state = State(**values)
    metric = _METRICS[str(content["metric"])](objective)
    metric.restore(_part(content, "metric"))
    memory = new_memory(objective, state, metric)
    memory.restore(_part(content, "memory"))
    for name, kind in _BOUNDS.items():
        setattr(bounds, name, kind(content[f"bounds.{name}"]))
    return state, metric, memory, int(content["escaped_before"])


def _part(content: Content, name: str) -> Content:
    return {key.removeprefix(f"{name}."): value for key, value in content.items() if key.startswith(f"{name}.")}
