"""Models whose rows are spread over MPI ranks, with PETSc's solvers and SLEPc's eigen-solvers on them.

Imported only when asked for. All need mpi4py, `Shard`, `tao_solve` and `slepc_lowest` also petsc4py, and the last
slepc4py. See docs/distributed.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accumulators import merged
    from .classes import ClassParallel
    from .eigenpairs import LowestPairs, slepc_lowest
    from .shard import Shard
    from .solve import tao_solve

_HOMES = {
    "Shard": "shard",
    "tao_solve": "solve",
    "slepc_lowest": "eigenpairs",
    "LowestPairs": "eigenpairs",
    "merged": "accumulators",
    "ClassParallel": "classes",
}

__all__ = ["ClassParallel", "LowestPairs", "Shard", "merged", "slepc_lowest", "tao_solve"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
