"""The command line program ``ufm-fast``: one module a command, put together in :mod:`ufm_fast.cli.app`."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .._runtime.helpers import helpers_at_work
from .messages import tell, telling_warnings

_EXTRA = ("typer", "rich", "click", "matplotlib", "joblib")
_ENDING = ("SIGTERM", "SIGHUP")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    SIGTERM, and SIGHUP unless it is ignored (as under nohup), are taken like Ctrl-C: a checkpoint or the file of a
    census holds what is done.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0: done; 1: finished, but the result is not certified; 2: wrong options, a file that is damaged or cannot be
        read or written, or the ``cli`` extra is not installed; 130: interrupted; 143: terminated (129: by SIGHUP).
        Whenever it is not 0, one line on standard error says why.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # in place of an error where its encoding lacks a character
    with _ending_signals() as received, telling_warnings():
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt as stop:
            words = ["terminated" if received else "interrupted", *map(str, stop.args)]
            tell("; ".join(words))
            code = 128 + (received or [signal.SIGINT])[0]
            if helpers_at_work():
                os._exit(code)  # else the end of the process would wait for them
            return code


@contextmanager
def _ending_signals() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt for the first signal that is to end the program, and note it in the list."""
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        if not received:  # more may follow (timeout sends two), while the work is being saved
            received.append(number)
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
        ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
        before = {number: signal.signal(number, stop) for number in ours}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str]) -> int:
    try:
        try:
            from .._runtime.threads import get_num_threads
            from .app import run

            get_num_threads()
        except ValueError as error:  # an environment variable: UFM_FAST_ISA or UFM_FAST_NUM_THREADS
            tell(error)
            return 2
        return run(arguments)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        tell(f"{package} is missing; pip install 'ufm-fast[cli]'")
        return 2
