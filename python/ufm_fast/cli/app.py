"""The Typer application: which commands there are, and how errors reach the user."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from .._io.files import FileError
from .census import census
from .classify import classify
from .config import config
from .info import info
from .inspect import inspect
from .messages import abandon, tell
from .path import path
from .solve import solve
from .spectrum import spectrum

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Unconstrained feature models of neural collapse: certified global optima, exact escapes from saddles.",
)
app.command()(solve)
app.command()(classify)
app.command()(spectrum)
app.command()(census)
app.command()(path)
app.command()(inspect)
app.command()(info)
app.command()(config)

# Some versions of Typer carry their own copy of click, others import click: this reaches the UsageError of both.
_UsageError: Any = typer.BadParameter.__base__


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ufm-fast {version('ufm-fast')}")
        raise typer.Exit


@app.callback()
def _program(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run the command named by `arguments` (the help if there are none) and return the exit code."""
    try:
        code = _invoke(arguments or ["--help"])
        print(end="", flush=True)
        return code
    except _UsageError as error:
        message = " ".join(error.format_message().split())
    except (FileError, MemoryError) as error:
        message = str(error) or "memory does not suffice"
    except OSError as error:
        if error.filename is None:  # of standard output: that of a file names it
            abandon(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return 0
        message = str(error)
    tell(message)
    return 2


def _invoke(arguments: list[str]) -> int:
    try:
        with typer.main.get_command(app).make_context("ufm-fast", arguments) as context:
            context.command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except SystemExit:  # of rich, when the reader of a help text leaves early
        pass
    return 0
