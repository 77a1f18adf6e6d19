"""Work of all ranks that fails on all of them if it fails on one, so that none waits for another forever."""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

Result = TypeVar("Result")

_PAUSE = 0.002  # seconds between two looks whether the first rank is done


def as_communicator(comm: Any) -> MPI.Comm:
    """Return a communicator of mpi4py: None stands for that of all processes; PETSc's are taken too."""
    if comm is None:
        return MPI.COMM_WORLD
    if isinstance(comm, MPI.Comm):
        return comm
    if hasattr(comm, "tompi4py"):
        return comm.tompi4py()
    raise TypeError(f"comm must be a communicator of mpi4py or petsc4py, not {type(comm).__name__}")


def together(comm: MPI.Comm, work: Callable[[], Result]) -> Result:
    """Return what work() gives here, once it has succeeded on all ranks; otherwise every rank raises."""
    result, error = attempt(work)
    failed = np.array([error is not None], np.int32)
    comm.Allreduce(MPI.IN_PLACE, failed)
    if failed[0]:
        raise_first(comm, error)
    return result  # type: ignore[return-value]  # it is None only with an error


def on_first_rank(comm: MPI.Comm, work: Callable[[], Result]) -> Result:
    """Return on every rank what work() gives on rank 0; if it raises there, every rank does.

    The other ranks sleep meanwhile, so that their processors are free for threads of rank 0.
    """
    answer = attempt(work) if comm.rank == 0 else (None, None)
    done = comm.Ibarrier()
    while not done.Test():
        time.sleep(_PAUSE)
    if comm.bcast(answer[1] is not None):
        raise_first(comm, answer[1])
    found: Result = comm.bcast(answer[0])
    return found


def attempt(work: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    """Return what work() gives, and what it raises."""
    try:
        return work(), None
    except BaseException as error:  # also an interrupt: the other ranks wait for this one
        return None, error


def raise_first(comm: MPI.Comm, error: BaseException | None) -> NoReturn:
    """Raise this rank's error or, on ranks that have none, one like that of the first rank that has.

    To be called on all ranks, if one has an error. Only words travel: not every exception can be sent.
    """
    described = None if error is None else (type(error).__name__, str(error))
    found = comm.allgather(described)
    if error is not None:
        raise error
    rank, (name, message) = next((rank, each) for rank, each in enumerate(found) if each is not None)
    kind = getattr(builtins, name, RuntimeError)
    try:
        copy = kind(f"on rank {rank}: {message}")
    except TypeError:  # an exception of more arguments
        copy = RuntimeError(f"on rank {rank}: {name}: {message}")
    raise copy


def edges(count: int, size: int) -> NDArray[np.int64]:
    """Return where the pieces of `count` things begin, and the last ends, that PETSc gives to so many ranks."""
    least, more = divmod(count, size)
    ranks = np.arange(size + 1)
    return ranks * least + np.minimum(ranks, more)
