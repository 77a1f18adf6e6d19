"""A long-tailed model whose rows are spread over MPI ranks: from a saddle to the certified minimum, and its curvature.

    mpiexec -n 2 python examples/petsc_solve.py
    mpiexec -n 2 python examples/petsc_solve.py --classes 200 --method bntr -ufm_fast_tao_monitor

Needs petsc4py and slepc4py: see docs/distributed.md. Options of PETSc come last, with the prefix ufm_fast_.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import petsc4py

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--classes", type=int, default=30)
parser.add_argument("--method", default="bntr", help="a type of TAO, such as lmvm, ntr or bntr")
options, rest = parser.parse_known_args()
petsc4py.init([sys.argv[0], *rest])

import ufm_fast as uf  # noqa: E402 - PETSc reads its options first
from ufm_fast.petsc import Shard, slepc_lowest, tao_solve  # noqa: E402


def main() -> None:
    K = options.classes
    n = np.geomspace(500, 5, K).astype(int)
    ufm = uf.UFM(K, K, n, lambda_W=5e-3, lambda_H=1e-5, lambda_b=0.01)
    shard = Shard(ufm)
    first = shard.comm.rank == 0

    def report(line: str) -> None:
        if first:
            print(line, flush=True)

    report(f"{ufm} on {shard.comm.size} ranks, {len(shard.rows)} of {ufm.M} rows of H on the first")
    saddle = uf.saddle(ufm, 3) if first else None
    lowest = slepc_lowest(shard, saddle)
    report(f"at a saddle of rank 3: lowest eigenvalue {lowest.eigenvalues[0]:.3e}, {lowest.products} Hessian products")

    result = tao_solve(shard, saddle, method=options.method)
    report(f"{options.method} from there: {result.message}")
    report(f"f = {result.fun:.12g}, escapes {result.escapes}, gradients {result.nfev}, Hessian products {result.nhev}")

    lowest = slepc_lowest(shard, result.x)
    report(f"at its end, across {lowest.deflated} rotations: lowest eigenvalue {lowest.eigenvalues[0]:.3e}")


if __name__ == "__main__":
    main()
