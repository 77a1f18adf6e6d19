"""Processes that do what they are asked, and in between stand still: none of their threads uses a processor (Linux)."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def pin(threads: int) -> None:
    """Let this process run on so many processors only; to be called before any library is loaded."""
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("the benchmark holds every library to its threads by processor affinity, which needs Linux")
    processors = sorted(os.sched_getaffinity(0))
    if threads > len(processors):
        raise SystemExit(f"{threads} threads asked for, but only {len(processors)} processors to run on")
    os.sched_setaffinity(0, processors[:threads])


def resident(field: str) -> float:
    """MiB of a field of this process's status: VmRSS is what it holds now, VmHWM the most that it ever held."""
    return int(re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) / 1024


class Failure(Exception):
    """What was asked for raised an exception or took too long, or the process ended."""


class Worker:
    """A process held to so many processors; it ends with the `with` block, or when its parent ends in any way."""

    def __init__(self, threads: int):
        self._pipe, theirs = Pipe()
        command = [sys.executable, __file__, str(theirs.fileno()), str(threads)]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self._pause()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # ends a paused process too
        self._process.wait()
        self._pipe.close()

    def ask(self, function: Callable, *arguments: Any, limit: float | None = None) -> Any:
        """Resume the process, let it call a function of a module, and pause it again.

        After a limit in seconds the process is of no more use.
        """
        try:
            self._process.send_signal(signal.SIGCONT)
            self._pipe.send((function, arguments))
            if not self._pipe.poll(limit):
                raise Failure(f"not done in {limit:.0f} s")
            answer, reason = self._pipe.recv()
        except (EOFError, OSError):
            raise Failure(f"its process ended with status {self._process.wait()}") from None
        self._pause()
        if reason:
            raise Failure(reason)
        return answer

    def _pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        with suppress(ChildProcessError):  # it has ended: the next call of `ask` tells
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    pipe = Connection(int(sys.argv[1]))
    pin(int(sys.argv[2]))
    warnings.simplefilter("ignore")  # of peers
    while True:
        function, arguments = pipe.recv()
        try:
            reply = function(*arguments), None
        except Exception as error:
            reply = None, f"{type(error).__name__}: {error}".splitlines()[0][:200]
        pipe.send(reply)


if __name__ == "__main__":
    main()
