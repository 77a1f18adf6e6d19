"""``ufm-fast inspect --every-epoch``: the same measurement at each checkpoint in a folder."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.table import Table

import ufm_fast as uf

from .._io.feature_files import SUFFIXES
from .._networks.tables import short
from .files import save_figure, show, write_result, write_table
from .inspect_files import REFUSALS
from .inspect_measure import Measurement
from .inspect_report import metrics_of, without_nan
from .messages import tell
from .progress import follow_count

_COMPARISON = ("loss", "data_loss", "lower_bound", "relative_gap", "spectral_norm", "threshold", "stationarity")
_COLUMNS = {
    "NC1": "nc1", "NC2 of\nmeans": "nc2_means", "NC2\nof W": "nc2_W", "NC3": "nc3_product", "NC4": "nc4_agreement",
    "loss": "loss", "relative\ngap": "relative_gap",
}  # fmt: skip


def inspect_epochs(
    folder: Path, measure: Measurement, *, as_json: bool, output: Path | None, plot: Path | None
) -> None:
    """Measure each checkpoint in a folder, and print, save and draw a row of each. What cannot be read is named.

    Raises
    ------
    typer.BadParameter
        If there are no checkpoints, or none could be read.
    typer.Exit
        With exit code 2 if some could not be read.
    """
    checkpoints = _checkpoints(folder)
    results: list[dict[str, Any]] = []
    with follow_count("checkpoints", enabled=not as_json) as progress:
        for name, files in checkpoints.items():
            try:
                numbers = _numbers(measure(*files)[1])
            except (*REFUSALS, OSError) as error:
                numbers = {"error": str(error)}
            results.append({"checkpoint": name, **numbers})
            if as_json:
                show(without_nan(results[-1]), Table, as_json=True)
            if progress is not None:
                progress(len(results), len(checkpoints))
    rows = [result for result in results if "error" not in result]
    failures = [f"{result['checkpoint']}: {result['error']}" for result in results if "error" in result]
    if not rows:
        raise typer.BadParameter(
            f"none of {len(failures)} checkpoints will do; {failures[0]}", param_hint="--every-epoch"
        )
    if not as_json:
        show({}, lambda: _table(results), as_json=False)
    _save(_structured(rows), folder, output, plot)
    if failures:
        for failure in failures:
            tell(failure)
        raise typer.Exit(2)


def _checkpoints(folder: Path) -> dict[str, list[Path]]:
    """Find the files, and folders of files, that can be read; a number in a name counts as such for their order."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: _natural(entry.name))
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--every-epoch") from error
    found = {}
    for entry in entries:
        files = sorted(entry.iterdir()) if entry.is_dir() else [entry]
        readable = [file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
        if readable and not entry.name.startswith("."):
            found[entry.name] = readable
    if not found:
        raise typer.BadParameter(f"there is no checkpoint in {folder}", param_hint="--every-epoch")
    return found


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _numbers(found: uf.Inspection | uf.NCMetrics) -> dict[str, Any]:
    m = metrics_of(found)
    row = {**m.scalars(), "missing": len(m.missing)}
    if isinstance(found, uf.Inspection):
        decays = {f"lambda_{name}": getattr(found.decays, f"lambda_{name}") for name in "WHb"}
        row |= decays | {name: getattr(found, name) for name in _COMPARISON}
    return row


def _table(results: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        title=f"{len(results)} checkpoints", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    columns = {heading: name for heading, name in _COLUMNS.items() if any(name in row for row in results)}
    table.add_column("checkpoint", overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results:
        cells = ["failed"] if "error" in row else [_shown(row.get(name)) for name in columns.values()]
        table.add_row(row["checkpoint"], *cells)
    return table


def _shown(value: float | None) -> str:
    return "" if value != value else short(value)


def _structured(rows: Sequence[dict[str, Any]]) -> NDArray[Any]:
    """Make a structured array, a row a checkpoint; NaN for what is undefined."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        numbers = (row.get(name) for row in rows)
        columns[name] = np.array([math.nan if number is None else number for number in numbers])
    table = np.empty(len(rows), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    return table


def _save(rows: NDArray[Any], folder: Path, output: Path | None, plot: Path | None) -> None:
    if output is not None and output.suffix == ".csv":
        write_table(output, rows)
    elif output is not None:
        columns = {name: rows[name] for name in rows.dtype.names or ()}
        write_result(output, arrays=columns, history={}, config={"every_epoch": str(folder)})
    if plot is not None:
        from ..plotting.epochs import plot_epochs

        save_figure(plot, plot_epochs(rows))
