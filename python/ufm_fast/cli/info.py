"""``ufm-fast info``: what runs here, and why."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich import print as rich_print
from rich.table import Table

import ufm_fast as uf


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show the version, the instruction set in use and why, the BLAS, and the threads."""
    config = uf.show_config("dicts")
    if as_json:
        print(json.dumps(config))
        return
    table = Table("setting", "value", title="ufm-fast")
    for name, value in config.items():
        table.add_row(name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    rich_print(table)
