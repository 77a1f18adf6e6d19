"""Threads of Python that work for a call; the caller can be interrupted while it waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

_LOOK = 0.1  # seconds between looks for signals, on systems that do not wake up for them


class _Thread(threading.Thread):
    """A thread of a helper. It has no attributes of its own: Python gives more of them to threads in every version."""


class Helper:
    """A thread that calls a function in the context of its maker, and keeps what comes of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self._context = function, copy_context()
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = _Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._value = self._context.run(self._function)
        except BaseException as error:
            self._error = error
        del self._function

    def result(self) -> Any:
        """Wait for the function's end and return its value, or raise its error; signals end the wait."""
        while self._thread.is_alive():
            self._thread.join(_LOOK)
        if self._error is not None:
            raise self._error
        return self._value


def helpers_at_work() -> bool:
    """Whether a thread still works for a call that has ended, as Ctrl-C ends calls."""
    return any(isinstance(thread, _Thread) for thread in threading.enumerate())
