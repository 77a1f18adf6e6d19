"""Scripts on several ranks of MPI."""

import os
import shutil
import subprocess
import sys

import pytest

_ANYWHERE = {  # Open MPI asks before it starts more processes than there are processors, or any as root
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def need_mpi():
    pytest.importorskip("mpi4py")
    if shutil.which("mpiexec") is None:
        pytest.skip("needs mpiexec")


def on_ranks(number, *words, **environment):
    """Run Python with these arguments on so many ranks; return the lines that they print, in no order."""
    command = ["mpiexec", "-n", str(number), sys.executable, *map(str, words)]
    environment = {**_ANYWHERE, **os.environ, **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
