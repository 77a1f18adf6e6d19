"""What the programs of this folder share."""

from mpi4py import MPI

COMM = MPI.COMM_WORLD


def raises(error, words, call):
    """Every rank raises such an error, and can go on together with the others."""
    message = None
    try:
        call()
    except error as found:
        message = str(found)
    assert message is not None, f"no {error.__name__}: {words}"
    assert words in message, message
    assert COMM.allreduce(1) == COMM.size


def run(*checks):
    """Run checks one after another, and say which are done."""
    for check in checks:
        check()
        if COMM.rank == 0:
            print(check.__name__, flush=True)
