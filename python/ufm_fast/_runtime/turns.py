"""Turns of threads at an object."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets threads take turns at an object.

    A thread that comes again in the midst of its own turn, as the handler of a signal does, would wait for itself: it
    gets an error.
    """

    def __init__(self, name: str) -> None:
        self._name, self._lock, self._taken = name, threading.RLock(), False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other thread is at work, and keep others waiting until the end of the with statement.

        Raises
        ------
        RuntimeError
            In the midst of a turn of this thread.
        """
        with self._lock:
            if self._taken:
                raise RuntimeError(
                    f"{self._name} is at work in this thread: a signal's handler cannot use it before it is done"
                )
            self._taken = True
            try:
                yield
            finally:
                self._taken = False
