"""Statistics of features that are spread over ranks."""

from __future__ import annotations

from typing import Any

from .._networks.accumulator import NCAccumulator
from .together import as_communicator, attempt, raise_first, together


def merged(accumulator: NCAccumulator, comm: Any = None) -> NCAccumulator:
    """Merge the accumulators of all ranks, each of which has gathered features of its own.

    Parameters
    ----------
    accumulator : NCAccumulator
        Of the same K, d and options on every rank. It is left as it is. One without samples adds nothing.
    comm : communicator of mpi4py or petsc4py, optional
        None stands for all processes.

    Returns
    -------
    NCAccumulator
        On every rank, with the same bits: that of all features, whose `result` gives the metrics.

    Raises
    ------
    TypeError, ValueError
        On every rank, if an accumulator is none, or does not fit those of other ranks.

    Notes
    -----
    Pairs of ranks merge in log2(ranks) rounds, each of which sends K x d numbers and, with statistics="full", d x d.
    NC4 needs the class means of all ranks before it looks at a feature: pass the features of all ranks as `batches` to
    `result`, on a rank that can have them one batch after another.

    Examples
    --------
    Each rank updates an accumulator with its part of the data:

    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> from ufm_fast.petsc import merged
    >>> H, labels = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3
    >>> mine = uf.NCAccumulator(3, 4).update(H, labels)
    >>> metrics = merged(mine).result(np.eye(3, 4))
    >>> bool(metrics.nc1 > 0)
    True
    """
    comm = as_communicator(comm)
    together(comm, lambda: _check(accumulator))
    threads = accumulator.threads
    whole, error = attempt(lambda: NCAccumulator.from_state(accumulator.state(), threads))
    step = 1
    while step < comm.size:
        if comm.rank % (2 * step) == step:
            comm.send((error, None if whole is None else whole.state()), comm.rank - step)
            break
        if comm.rank % (2 * step) == 0 and comm.rank + step < comm.size:
            whole, error = _with(whole, error, *comm.recv(source=comm.rank + step))
        step *= 2
    if comm.bcast(error is not None):
        raise_first(comm, error if comm.rank == 0 else None)
    total = comm.bcast(whole.state() if whole is not None and comm.rank == 0 else None)
    return together(comm, lambda: NCAccumulator.from_state(total, threads))


def _check(accumulator: NCAccumulator) -> None:
    if not isinstance(accumulator, NCAccumulator):
        raise TypeError(f"accumulator must be an NCAccumulator, not {type(accumulator).__name__}")
    accumulator.state()  # refuses one that an interrupted update has left useless


def _with(
    whole: NCAccumulator | None, error: BaseException | None, other_error: BaseException | None, other: Any
) -> tuple[NCAccumulator | None, BaseException | None]:
    """Return what a rank has, merged with the state or the error that another has sent."""
    if whole is None or error is not None or other_error is not None:
        return None, error or other_error
    return attempt(lambda: whole.merge(NCAccumulator.from_state(other, whole.threads)))
