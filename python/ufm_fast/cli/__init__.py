"""The command line program ``ufm-fast``: one module a command, put together in :mod:`ufm_fast.cli.app`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_EXTRA = ("typer", "rich", "click", "matplotlib", "joblib")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0: done; 1: finished, but the result is not certified; 2: wrong options, or the ``cli`` extra is not installed;
        130: interrupted. Whenever it is not 0, one line on standard error says why.
    """
    try:
        from .app import run

        return run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        print("ufm-fast: interrupted", file=sys.stderr)
        return 130
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        print(f"ufm-fast: {package} is missing; pip install 'ufm-fast[cli]'", file=sys.stderr)
        return 2
