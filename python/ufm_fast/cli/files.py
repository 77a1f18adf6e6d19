"""What the commands read and write: class counts, points, results."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console, RenderableType

import ufm_fast as uf

from .._io.files import FileError, check_destination, reading, write_file
from .._io.numpy_files import read_array
from .messages import abandon, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def read_counts(path: Path) -> NDArray[np.int64]:
    """Read samples per class: ``.npy``, ``.json`` (a list), or text (integers, separators, ``#`` comments).

    Text whose first word is no number is a list of images with their labels, as `ufm_fast.counts` reads it.

    Raises
    ------
    FileError
        If the file does not hold a flat list of integers.
    OSError
        If it cannot be opened.
    """
    if path.suffix == ".txt" and _lists_images(path):
        return uf.counts(path)
    with reading(path):
        values = _read_list(path, int)
        if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"a flat list of integers is needed, not {values.dtype} of shape {values.shape}")
        largest = int(values.max())  # as a number of NumPy, old releases compare it in floating point
        if largest > np.iinfo(np.int64).max:
            raise ValueError(f"there is a count above 2^63 - 1: {largest}")
    return values.astype(np.int64)


def _lists_images(path: Path) -> bool:
    with reading(path), path.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "#")
    return first.lstrip()[0] not in "#+-0123456789" or "/" in first.partition("#")[0]


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Read real numbers from a file like those of `read_counts`.

    Raises
    ------
    FileError
        If the file does not hold a flat list of numbers.
    OSError
        If it cannot be opened.
    """
    with reading(path):
        values = _read_list(path, float)
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iuf":
            raise ValueError(f"a flat list of numbers is needed, not {values.dtype} of shape {values.shape}")
    return values.astype(np.float64)


def _read_list(path: Path, number: type[int] | type[float]) -> NDArray[Any]:
    if path.suffix == ".npy":
        return read_array(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return np.asarray(json.loads(text))
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).replace(",", " ").replace(";", " ").split()
    return np.array([number(word) for word in words])


def read_problem(path: Path, threads: int | None) -> tuple[uf.UFM, uf.Point]:
    """Read a model and a point of it.

    Raises
    ------
    typer.BadParameter
        If the file is not as `ufm_fast.load_point` needs it, or the number of threads is not positive.
    """
    try:
        return uf.load_point(path, threads=threads)
    except (ValueError, TypeError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="POINT.npz") from error


def arrays_of(ufm: uf.UFM, p: uf.Point) -> dict[str, Any]:
    """Return the arrays of a point by name, and the samples per class if the model has classes."""
    return {**p._asdict(), **({} if ufm.counts is None else {"counts": ufm.counts})}


def write_result(path: Path, *, arrays: dict[str, Any], history: dict[str, Any], config: dict[str, Any]) -> None:
    """Write an ``.npz`` archive: `arrays`, ``history_NAME`` for each NAME in `history`, and ``config`` as JSON text."""
    named = {f"history_{name}": values for name, values in history.items()}
    write_file(path, lambda stream: np.savez_compressed(stream, config=json.dumps(config), **arrays, **named))


def write_table(path: Path, rows: NDArray[Any]) -> None:
    """Write a structured array as comma-separated values: the names of its fields, then a line a row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([rows.dtype.names or (), *rows.tolist()])
    write_file(path, lambda stream: stream.write(text.getvalue().encode()))


def check_destinations(output: Path | None, plot: Path | None, checkpoint: Path | None = None) -> None:
    """Refuse paths that cannot be written, before the work is done.

    Raises
    ------
    typer.BadParameter
        If one cannot be written, two are one file, or no figure can be saved under its suffix.
    ModuleNotFoundError
        If a figure is wanted and Matplotlib is not there.
    """
    files: dict[Path, str] = {}
    for name, path in (("--output", output), ("--plot", plot), ("--checkpoint", checkpoint)):
        try:
            file = None if path is None else check_destination(path)
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint=name) from error
        if file is not None and files.setdefault(file, name) != name:
            raise typer.BadParameter(f"{path} is the file of {files[file]} too", param_hint=name)
    if plot is not None and plot.suffix not in _FIGURE_SUFFIXES:
        raise typer.BadParameter(f"{plot} should end in {', '.join(_FIGURE_SUFFIXES)}", param_hint="--plot")
    if plot is not None:
        import_module("matplotlib")  # takes a while, and is needed for nothing else


@contextmanager
def going_on_from(path: Path | None, option: str, advice: str) -> Iterator[None]:
    """Name `option` when what an earlier run left in `path` is refused, and give `advice` when this one is interrupted.

    Raises
    ------
    typer.BadParameter
        In place of a FileError, and of what a function raises that refuses its arguments.
    KeyboardInterrupt
        With the advice if the file is there.
    """
    try:
        yield
    except FileError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from error
    except KeyboardInterrupt as stop:
        if path is None or not path.is_file():
            raise
        raise KeyboardInterrupt(advice) from stop


@dataclass(frozen=True)
class Result:
    """What a command has found, in each form in which it can be asked for.

    Attributes
    ----------
    summary : dict
        For ``--json``.
    config : dict
        What the command was asked to do.
    table : callable
        Makes what is printed without ``--json``.
    arrays, history : dict
        For ``--output``.
    rows : ndarray, optional
        A structured array for ``--output FILE.csv``.
    figure : callable, optional
        Makes what ``--plot`` saves.
    failure : str
        Why the exit code is 1, if it is.
    """

    summary: dict[str, Any]
    config: dict[str, Any]
    table: Callable[[], RenderableType]
    arrays: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    rows: NDArray[Any] | None = None
    figure: Callable[[], Figure] | None = None
    failure: str = ""


def deliver(result: Result, *, as_json: bool, output: Path | None = None, plot: Path | None = None) -> None:
    """Print a result, write it and draw it, as asked for.

    Raises
    ------
    typer.Exit
        With exit code 1, and the reason on standard error, if the result is a failure.
    """
    show({**result.summary, "config": result.config}, result.table, as_json=as_json)
    if output is not None and result.rows is not None and output.suffix == ".csv":
        write_table(output, result.rows)
    elif output is not None:
        write_result(output, arrays=result.arrays, history=result.history, config=result.config)
    if plot is not None and result.figure is not None:
        save_figure(plot, result.figure())
    if result.failure:
        tell(result.failure)
        raise typer.Exit(1)


def save_figure(path: Path, figure: Figure) -> None:
    """Save in the format that the suffix names."""
    write_file(path, lambda stream: figure.savefig(stream, format=path.suffix[1:]))


def show(result: dict[str, Any], table: Callable[[], RenderableType], *, as_json: bool) -> None:
    """Print one JSON object, or a table. A reader that leaves early, as head does, is no error: files still follow."""
    if as_json:
        text = json.dumps(result, allow_nan=False) + "\n"
    else:
        console = Console()
        with console.capture() as capture:
            console.print(table())
        text = capture.get()
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        abandon(sys.stdout)
