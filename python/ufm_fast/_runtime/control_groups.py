"""What Linux's control groups leave to this process: its own group and those around it, of both versions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self")
# Of version 2, and of version 1.
_MEMORY_LIMITS = "memory.max", "memory.high", "memory.limit_in_bytes"
_MEMORY_USED = "memory.current", "memory.usage_in_bytes"
_FILES_IN_CACHE = "inactive_file", "total_inactive_file"  # which make room for others


def memory_left() -> Iterator[int]:
    """Give the bytes that each group with a limit has left."""
    for folder in _folders("memory"):
        limits = [limit for name in _MEMORY_LIMITS if (limit := _number(folder / name)) is not None]
        if limits:
            used = sum(_number(folder / name) or 0 for name in _MEMORY_USED)
            yield min(limits) - used + _files_in_cache(folder)


def processors_allowed() -> Iterator[float]:
    """Give how many processors' time the quota of each group with one is."""
    for folder in _folders("cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        both = _text(folder / "cpu.max").split()
        if len(both) == 2 and both[0] != "max":
            quota, period = int(both[0]), int(both[1])
        if quota and period and quota > 0:
            yield quota / period


@cache
def _folders(controller: str) -> tuple[Path, ...]:
    """Find the folders of the groups that this process is in, of version 2 and of a controller of version 1."""
    groups: dict[str, PurePosixPath] = {}
    for line in _text(_PROCESS / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    found = []
    for line in _text(_PROCESS / "mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        root, folder = mount.split()[3:5]
        kind, _, options = system.split(" ", 2)
        named = {"cgroup2": "", "cgroup": controller}.get(kind)
        if named is None or named not in groups or (named and named not in options.split(",")):
            continue
        inside = groups[named].relative_to(root).parts if groups[named].is_relative_to(root) else ()
        found += [Path(folder, *inside[:depth]) for depth in range(len(inside) + 1)]
    return tuple(found)


def _files_in_cache(folder: Path) -> int:
    counts = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return max(int(counts.get(name, 0)) for name in _FILES_IN_CACHE)


def _number(path: Path) -> int | None:
    """Read a number; None for other words, such as "max", and without the file."""
    text = _text(path).strip()
    return int(text) if text.removeprefix("-").isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # on other systems, or in a sandbox
        return ""
