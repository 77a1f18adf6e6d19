"""How much memory the machine has, and a refusal to begin work that needs more."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
_GIB = 2**30


def machine_memory() -> float:
    """Return the bytes of memory that this process can have: physical memory, or a smaller limit of its control group.

    Infinity where the system tells neither.
    """
    known = [float("inf")]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows, for one
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            known.append(int(Path(path).read_text(encoding="ascii")))
    return min(size for size in known if size > 0)


def require_memory(function: str, numbers: float, *, advice: str = "", **sizes: int) -> None:
    """Raise MemoryError if work on so many numbers of double precision needs more than the machine has.

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
    needed, has = 8 * numbers, machine_memory()
    if needed > has:
        named = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        raise MemoryError(
            f"{function} needs about {needed / _GIB:.3g} GiB of memory for {named}; this machine has {has / _GIB:.3g}"
            + (f": {advice}" if advice else "")
        )
