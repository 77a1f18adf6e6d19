"""Threads of Python that work for a call; the caller can be interrupted while it waits for them.

They are started by `_thread`: a signal in the midst of `threading.Thread.start` can leave its locks taken, and the new
thread then waits for ever, and with it the interpreter's end.
"""

from __future__ import annotations

import _thread
import atexit
import os
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

_LOOK = 0.1  # seconds between looks for signals, on systems that do not wake up for them
_at_work: set[Helper] = set()


class Helper:
    """A thread that calls a function in the context of its maker, and keeps what comes of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self._context = function, copy_context()
        self._value: Any = None
        self._error: BaseException | None = None
        self._working = _thread.allocate_lock()
        self._working.acquire()
        _thread.start_new_thread(self._work, ())

    def _work(self) -> None:
        _at_work.add(self)
        try:
            self._value = self._context.run(self._function)
        except BaseException as error:
            self._error = error
        del self._function
        _at_work.discard(self)
        self._working.release()

    def result(self) -> Any:
        """Wait, once, for the function's end; return its value or raise its error. Signals end the wait."""
        while not self._working.acquire(timeout=_LOOK):
            pass
        if self._error is not None:
            raise self._error
        return self._value


def helpers_at_work() -> bool:
    """Whether a thread still works for a call that has ended, as Ctrl-C ends calls."""
    return bool(_at_work)


@atexit.register
def _wait() -> None:
    """Let threads end before the interpreter does, as it lets those of `threading`."""
    while _at_work:
        time.sleep(_LOOK / 10)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_at_work.clear)
