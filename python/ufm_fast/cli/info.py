"""``ufm-fast info``: what runs here, and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

import ufm_fast as uf

from .files import show


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show the version, the instruction set in use and why, the BLAS, and the threads."""
    config = uf.show_config("dicts")
    show(config, lambda: _table(config), as_json=as_json)


def _table(config: dict[str, Any]) -> Table:
    table = Table("setting", "value", title="ufm-fast")
    for name, value in config.items():
        table.add_row(name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    return table
