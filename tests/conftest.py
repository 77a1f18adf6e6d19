"""What several test files share."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# For the oracle's many small products; before NumPy is loaded. Tests of threads set their own limits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell starts what it runs in the background deaf to Ctrl-C, which some tests send to the programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def folder_of_the_tests(tmp_path_factory):
    """Run in a folder of their own: what a test writes under a relative path never lands in the checkout."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("tests"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def threads_beyond_the_processors():
    """Start as many threads as a test asks for, though this machine may have fewer processors."""
    from ufm_fast._runtime import core, threads

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_most_useful", lambda: core.most_threads)
        yield


@pytest.fixture
def run_python():
    """Run a script in a fresh interpreter that can import the tests' oracle; return its standard output."""

    def run(script: str, **environment: str) -> str:
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=900,  # sanitizers make everything slow
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def run(capsys):
    """Run the program in this process; return exit code, standard output and standard error."""
    from ufm_fast.cli import main

    def run(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
