"""The command line as a process: signals, pipes, encodings and environment variables."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

import ufm_fast as uf

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and pipes")

PROGRAM = [sys.executable, "-m", "ufm_fast"]
CODES = {"SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130}


def heed_signals():
    """In a new process: undo what nohup, or a shell that runs tests in the background, ignores."""
    for name in CODES:
        signal.signal(signal.Signals[name], signal.SIG_DFL)


def finished(command, **options):
    """Run to the end; return exit code, standard output if it is not elsewhere, and standard error."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    options = {
        "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options, "env": environment | options.get("env", {}),
    }  # fmt: skip
    pipes = {"text": True, "preexec_fn": heed_signals}
    done = subprocess.run(command, timeout=120, check=False, **pipes, **options)
    return done.returncode, done.stdout, done.stderr


# Sends the signal when the fifth state is held, and once more while the checkpoint is written.
STOPPED = """
import os, signal, sys
from ufm_fast.cli import main
from ufm_fast._optimize.checkpoint import Checkpoint

number, hold, write, held = signal.Signals[sys.argv[1]], Checkpoint.offer, Checkpoint.write, 0

def hold_and_stop(self, content):
    global held
    held += 1
    hold(self, content)
    if held == 5:
        os.kill(os.getpid(), number)

def stop_and_write(self):
    if number != signal.SIGINT:
        os.kill(os.getpid(), number)
    write(self)

Checkpoint.offer, Checkpoint.write = hold_and_stop, stop_and_write
sys.exit(main(sys.argv[2:]))
"""
TABLE, OBJECT, HELP = ["solve", "--K", "3"], ["solve", "--K", "3", "--json"], ["solve", "--help"]
SOLVE = ["solve", "--json", "--counts", "cifar10-lt", "--start", "random", "--seed", "1"]


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_a_signal_ends_a_run_with_its_checkpoint(name, code, tmp_path):
    path = tmp_path / "run.npz"
    words = [*SOLVE, "--checkpoint", str(path)]
    word = "interrupted" if name == "SIGINT" else "terminated"
    expected = f"ufm-fast: {word}; the same command goes on from {path}\n"
    assert finished([sys.executable, "-c", STOPPED, name, *words]) == (code, "", expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.npz"]
    found, whole = (json.loads(finished([*PROGRAM, *command])[1]) for command in (words, SOLVE))
    for part in ("loss", "lower_bound", "nfev", "escapes", "message"):
        assert found[part] == whole[part]


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_a_signal_ends_a_run_without_a_checkpoint(name, code):
    script = STOPPED.replace("def hold_and_stop(self, content)", "def stop_at_once(*_, **__)").replace(
        "Checkpoint.offer, Checkpoint.write = hold_and_stop, stop_and_write",
        "import ufm_fast; ufm_fast.minimize = lambda *_, **__: os.kill(os.getpid(), number)",
    )
    word = "interrupted" if name == "SIGINT" else "terminated"
    assert finished([sys.executable, "-c", script, name, *SOLVE]) == (code, "", f"ufm-fast: {word}\n")


def test_an_ignored_signal_stays_ignored(tmp_path):
    """As under nohup."""
    script = STOPPED.replace("sys.exit", "signal.signal(number, signal.SIG_IGN); sys.exit")
    words = [*SOLVE, "--checkpoint", str(tmp_path / "run.npz")]
    code, out, err = finished([sys.executable, "-c", script, "SIGHUP", *words])
    assert (code, err) == (0, "")
    assert json.loads(out)["success"]


@pytest.mark.parametrize(
    ("name", "send", "workers"),
    [("SIGTERM", os.kill, 1), ("SIGTERM", os.kill, 2), ("SIGTERM", os.killpg, 2), ("SIGINT", os.killpg, 2)],
)
def test_a_signal_ends_a_census_between_two_lines(name, send, workers, tmp_path):
    path = tmp_path / "census.jsonl"
    words = ["census", "--K", "8", "--n", "20", "--imbalance", "1", "--runs", "100000", "--workers", str(workers)]
    command = [*PROGRAM, *words, "--output", str(path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,
    )
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_bytes().count(b"\n") > 5):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    send(process.pid, signal.Signals[name])
    out, err = process.communicate(timeout=120)
    word = "interrupted" if name == "SIGINT" else "terminated"
    assert (process.returncode, out) == (CODES[name], "")
    # joblib's tracker of semaphores, a process of its own, may notice that one was left, and warn in several lines
    ours = [line for line in err.splitlines() if "resource_tracker" not in line and not line.startswith("  warnings")]
    assert ours == [f"ufm-fast: {word}; the same command does what {path} lacks"]
    assert path.read_bytes().endswith(b"}\n")
    models = uf.Census.load(path).models
    assert uf.census(models, 4, path=path).records == uf.census(models, 4).records


@pytest.mark.parametrize("words", [TABLE, OBJECT, HELP, ["--version"], ["info"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(words, tmp_path):
    """As head does: the files are written all the same."""
    reader, writer = os.pipe()
    os.close(reader)
    files = ["--output", "result.npz"] if "--K" in words else []
    assert finished([*PROGRAM, *words, *files], stdout=writer, cwd=tmp_path) == (0, None, "")
    os.close(writer)
    if files:
        uf.load_point(tmp_path / "result.npz")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("words", [TABLE, OBJECT, HELP, ["--version"]], ids=" ".join)
def test_standard_output_on_a_full_disk_is_an_error(words):
    with open("/dev/full", "w") as full:
        code, _, err = finished([*PROGRAM, *words], stdout=full)
    assert (code, err) == (2, "ufm-fast: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("words", [TABLE, OBJECT, HELP, ["--version"]], ids=" ".join)
def test_closed_standard_output(words):
    command = shlex.join([*PROGRAM, *words])
    assert finished(["sh", "-c", f"exec {command} >&-"]) == (0, "", "")


@pytest.mark.parametrize("words", [TABLE, HELP, ["info"]], ids=" ".join)
def test_an_encoding_without_all_characters(words):
    """A narrow terminal shortens words by an ellipsis, which ASCII lacks."""
    code, out, err = finished([*PROGRAM, *words], env={"PYTHONIOENCODING": "ascii", "COLUMNS": "40"})
    assert (code, err) == (0, "")
    assert out.isascii()
    assert "\\u2026" in out


@pytest.mark.parametrize("name", ["UFM_FAST_ISA", "UFM_FAST_NUM_THREADS"])
def test_wrong_environment_variables_get_one_line(name):
    code, out, err = finished([*PROGRAM, "solve", "--K", "3"], env={name: "nonsense"})
    assert (code, out) == (2, "")
    assert err.startswith(f"ufm-fast: the environment variable {name}")
    assert err.count("\n") == 1
