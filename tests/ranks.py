"""Programs on several ranks of MPI, by the running interpreter or by the one that UFM_FAST_PETSC_PYTHON names.

It gets this package, compiled for the same Python, from where the running interpreter has it.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import ufm_fast

ROOT = Path(__file__).parents[1]
NAMED = os.environ.get("UFM_FAST_PETSC_PYTHON")
PYTHON = NAMED or sys.executable


class Ranks:
    """Runs programs, if the interpreter has these modules; skips the test otherwise, or fails it if one was named."""

    def __init__(self, folder, modules):
        refuse, self._folders = pytest.fail if NAMED else pytest.skip, [str(folder)]
        self._mpiexec = shutil.which("mpiexec")
        if self._mpiexec is None:
            refuse("mpiexec is not installed")
        metadata_folder = Path(metadata.distribution("ufm-fast")._path)
        for source in (Path(ufm_fast.__file__).parent, metadata_folder):
            (folder / source.name).symlink_to(source, target_is_directory=True)
        code, _, error = self._output([PYTHON, "-c", f"import ufm_fast._runtime.core, {modules}"], 60)
        if code:
            refuse(f"{PYTHON} cannot import {modules}: {error.splitlines()[-1] if error else code}")
        self._crowded = ["--oversubscribe"] if "Open" in self._output([self._mpiexec, "--version"], 60)[1] else []

    def run(self, number, *words, module="mpi4py", folders=()):
        """Run a program through a module of mpi4py on so many ranks; return what they print."""
        command = [self._mpiexec, *self._crowded, "-n", str(number), PYTHON, "-m", module, *map(str, words)]
        code, output, error = self._output(command, 240, folders)
        assert code == 0, error
        return output

    def _output(self, command, seconds, folders=()):
        """Run a command with one thread a process, and only these folders on top of the interpreter's own."""
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        container = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}  # needs a permission that containers lack
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        path = {"PYTHONPATH": os.pathsep.join([*self._folders, *map(str, folders)])}
        done = subprocess.run(
            command, env={**os.environ, **root, **container, **threads, **path}, capture_output=True, text=True,
            timeout=seconds, check=False, cwd=ROOT,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr
