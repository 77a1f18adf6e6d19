"""Standard streams whose readers leave, or that cannot be written: also where Python keeps nothing back for them."""

import os
import sys

import numpy as np
import pytest

import ufm_fast as uf
from test_cli_process import PROGRAM, finished

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")

CENSUS = "census --K 3 --n 4 --imbalance 1 --runs 2 --workers 1"
COMMANDS = [
    "solve --K 3", "classify point.npz", "spectrum point.npz", CENSUS, "path --K 3 --points 2", "inspect net.npz",
    "inspect --every-epoch epochs", "info", "config --cflags", "--version", "--help", "census --help",
]  # fmt: skip
BUFFERING = [{}, {"PYTHONUNBUFFERED": "1"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the files are that commands read."""
    folder = tmp_path_factory.mktemp("streams")
    ufm = uf.UFM(3, 3, [4, 3, 2], lambda_W=1e-2, lambda_H=1e-3)
    uf.save_point(folder / "point.npz", ufm, uf.global_minimum(ufm).point)
    W, labels = np.random.default_rng(0).standard_normal((3, 5)), np.arange(12) % 3
    (folder / "epochs").mkdir()
    for name in ("net.npz", "epochs/1.npz", "epochs/2.npz"):
        np.savez(folder / name, W=W, H=W[labels] + 0.1 * np.eye(12, 5), labels=labels)
    return folder


@pytest.fixture
def broken():
    """A pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_command_minds_a_reader_that_leaves(folder, broken, words, as_json):
    """As head does. Without buffers a print fails, and not the end of the program."""
    if as_json and (words.startswith("config") or "--" in words.split()[0] or "--help" in words):
        pytest.skip("has no --json")
    command = [*PROGRAM, *words.split(), *(["--json"] if as_json else [])]
    assert finished(command, stdout=broken, cwd=folder, env={"PYTHONUNBUFFERED": "1"}) == (0, None, "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("words", ["solve --K 3", "inspect --every-epoch epochs --json", "--version", "--help"])
def test_a_full_disk_is_an_error_at_once(folder, words):
    with open("/dev/full", "w") as full:
        code, _, err = finished([*PROGRAM, *words.split()], stdout=full, cwd=folder, env={"PYTHONUNBUFFERED": "1"})
    assert (code, err) == (2, "ufm-fast: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("environment", BUFFERING)
@pytest.mark.parametrize(("words", "code"), [("solve --K 1", 2), ("solve --K 4 --start random --max-evaluations 1", 1)])
def test_the_exit_code_stands_where_nobody_reads_why(folder, broken, words, code, environment):
    command = [*PROGRAM, *words.split()]
    assert finished(command, stderr=broken, cwd=folder, env=environment)[0] == code
    assert finished(command, stdout=broken, stderr=broken, cwd=folder, env=environment)[0] == code
    for closed in ("2>&-", ">&- 2>&-"):
        assert finished(["sh", "-c", f'exec "$@" {closed}', "sh", *command], cwd=folder, env=environment)[0] == code


def test_what_standard_error_cannot_take_is_not_printed_elsewhere(folder):
    command = [*PROGRAM, *["solve", "--K", "4", "--start", "random", "--max-evaluations", "1", "--json"]]
    _, out, _ = finished(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], cwd=folder)
    assert out.count("\n") == 1
    assert out.startswith("{")
