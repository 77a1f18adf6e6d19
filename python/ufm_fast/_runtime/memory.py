"""How much memory there is for this process, and a refusal to begin work that needs more."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from .control_groups import memory_left

_GIB = 2**30
_SMALL = 2**24  # bytes that are not worth asking for: what is there takes a third of a millisecond to read
_PROC = Path("/proc")
_LIMITS = {"RLIMIT_AS": 0, "RLIMIT_DATA": 5}  # and where /proc/self/statm has the pages that count


def available_memory() -> float:
    """Return how many more bytes this process can have, or infinity where the system does not say.

    The least of: the memory that the machine can give without swapping (where the system does not say, all that the
    machine has); what each of the process's control groups leaves; what the process's limits, as of ``ulimit -v``, do.
    """
    return max(0.0, min(_machine(), *memory_left(), *_limits()))


def spare_memory() -> float:
    """Return how many bytes are there to be spent where they only save time: a quarter of those available."""
    available = available_memory()
    return available / 4 if math.isfinite(available) else _GIB


def spares(needed: float) -> bool:
    """Whether so many bytes, which only save time, are few or no more than `spare_memory`."""
    return needed <= _SMALL or needed <= spare_memory()


def require_memory(function: str, numbers: float, *, advice: str = "", **sizes: int) -> None:
    """Raise MemoryError if work on so many numbers of double precision needs more memory than there is.

    Parameters
    ----------
    function : str
        Name of the public function.
    numbers : float
        As many as it holds at its peak.
    advice : str, optional
        How less memory would do, for the message.
    **sizes : int
        The sizes that make them so many, for the message.
    """
    needed = 8 * numbers
    if needed <= _SMALL:
        return
    has = available_memory()
    if needed > has:
        named = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        raise MemoryError(
            f"{function} needs about {needed / _GIB:.3g} GiB of memory for {named}; {has / _GIB:.3g} are available"
            + (f": {advice}" if advice else "")
        )


def _machine() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (_PROC / "meminfo").read_text(encoding="ascii")
        return 1024 * int(text.split("MemAvailable:", 1)[1].split()[0])
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows, for one
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.inf


def _limits() -> Iterator[float]:
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such limits on other systems
        import resource

        for name, place in _LIMITS.items():
            limit = resource.getrlimit(getattr(resource, name))[0]
            if limit != resource.RLIM_INFINITY:
                pages = (_PROC / "self/statm").read_text(encoding="ascii").split()
                yield limit - int(pages[place]) * resource.getpagesize()
