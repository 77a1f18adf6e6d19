"""The command line: what it refuses, and what all commands share."""

import json
import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

import ufm_fast as uf
from refusals import assert_refused
from ufm_fast.cli import main


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nonsense"], ["nonsense"]),
        (["solve", "--nonsense"], ["--nonsense"]),
        (["solve", "extra"], ["extra"]),
        (["solve", "--K", "x"], ["--K"]),
        (["solve", "--K", "1"], ["--K", "1"]),
        (["solve", "--n", "0"], ["--n", "0"]),
        (["solve", "--K", "5", "--n", "3", "--imbalance", "5"], ["--imbalance", "3"]),
        (["solve", "--K", "5", "--n", "3", "--imbalance", "nan"], ["--imbalance", "nan"]),
        (["solve", "--counts", "nonsense"], ["--counts", "nonsense", "cifar100-lt"]),
        (["solve", "--counts", "mnist", "--n", "3"], ["--n", "--counts"]),
        (["solve", "--counts", "mnist", "--K", "11"], ["--K", "11", "10"]),
        (["solve", "--counts", "mnist", "--imbalance", "3"], ["imbalance", "mnist"]),
        (["solve", "--d", "0"], ["d must", "0"]),
        (["solve", "--loss", "hinge"], ["--loss", "hinge"]),
        (["solve", "--label-smoothing", "1"], ["label_smoothing", "1"]),
        (["solve", "--loss", "mse", "--label-smoothing", "0.1"], ["--label-smoothing", "mse"]),
        (["solve", "--lambda-W", "-1"], ["lambda_W", "-1"]),
        (["solve", "--lambda-W", "nan"], ["lambda_W", "nan"]),
        (["solve", "--lambda-H", "0"], ["lambda_H", "0"]),
        (["solve", "--lambda-b", "-2"], ["lambda_b", "-2"]),
        (["solve", "--no-bias", "--lambda-b", "1"], ["--lambda-b", "bias"]),
        (["solve", "--tol", "0"], ["--tol", "0"]),
        (["solve", "--K", "1000", "--tol", "1e-12"], ["--tol", "3.6e-12", "1e-12"]),
        (["solve", "--tol", "nan"], ["--tol", "nan"]),
        (["solve", "--seed", "-1"], ["--seed"]),
        (["solve", "--threads", "0"], ["threads", "0"]),
        (["solve", "--dtype", "float16"], ["--dtype", "float16"]),
        (["solve", "--max-evaluations", "0"], ["--max-evaluations"]),
        (["solve", "--start", "nowhere.npz"], ["--start", "nowhere.npz"]),
        (["solve", "--output", "no/such/folder.npz"], ["--output", "folder.npz"]),
        (["solve", "--plot", "figure.bmp"], ["--plot", ".png"]),
        (["solve", "--output", "run.npz", "--checkpoint", "./run.npz"], ["--checkpoint", "run.npz", "--output"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_options_get_one_line(run, words, expected):
    assert_refused(run(*words), *expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.txt", b"12 apples"),
        ("empty.txt", b""),
        ("binary.txt", b"\xff\xfe\x00\x80"),
        ("fractions.json", b"[1.5, 2]"),
        ("nested.json", b"[[1, 2], [3]]"),
        ("broken.json", b"[1, 2"),
        ("broken.npy", b"\x93NUMPY"),
        ("zero.txt", b"3 0"),
        ("single.txt", b"3"),
    ],
)
def test_wrong_counts_files_are_refused(run, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert_refused(run("solve", "--counts", tmp_path / name))


def test_counts_from_a_file_take_no_imbalance(run, tmp_path):
    (tmp_path / "counts.txt").write_text("3 2")
    assert_refused(run("solve", "--counts", tmp_path / "counts.txt", "--imbalance", 2), "--imbalance")


def test_wrong_starts_are_refused(run, tmp_path):
    path = tmp_path / "start.npz"
    words = ["solve", "--K", 3, "--start", path]
    W, b = np.zeros((3, 3)), np.zeros(3)
    path.write_text("no archive")
    assert_refused(run(*words), "--start", ".npz")
    np.savez(path, W=W, H=W)
    assert_refused(run(*words), "--start", "lacks b")
    np.savez(path, W=W, H=np.zeros((4, 3)), b=b)
    assert_refused(run(*words), "--start", "(4, 3)")
    np.savez(path, W=np.full((3, 3), np.nan), H=W, b=b)
    assert_refused(run(*words), "--start", "W")
    np.savez(path, W=W + 1j, H=W, b=b)
    assert_refused(run(*words), "--start", "complex")
    np.savez(path, W=np.array([None]), H=W, b=b)
    assert_refused(run(*words), "--start")


def test_interruption(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(uf, "minimize", interrupted)
    code, out, err = run("solve")
    assert (code, out, err) == (130, "", "ufm-fast: interrupted\n")


@pytest.mark.parametrize("module", ["typer", "rich", "matplotlib"])
def test_missing_extra_is_named(run_python, module):
    script = f"""
import contextlib, io, sys
sys.modules[{module!r}] = None
from ufm_fast.cli import main
with contextlib.redirect_stderr(io.StringIO()) as err:
    code = main(["solve", "--K", "3", "--plot", "figure.png"])
print(code, err.getvalue(), end="")
"""
    assert run_python(script) == f"2 ufm-fast: {module} is missing; pip install 'ufm-fast[cli]'\n"


def test_other_import_errors_are_not_hidden(run_python):
    script = """
import sys
sys.modules["ufm_fast.cli.solve"] = None
from ufm_fast.cli import main
try:
    main(["info"])
except ImportError as error:
    print(error.name)
"""
    assert run_python(script) == "ufm_fast.cli.solve\n"


def test_info(run):
    code, out, err = run("info", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == uf.show_config(mode="dicts")
    code, out, err = run("info")
    assert (code, err) == (0, "")
    assert "instruction set" in out
    assert np.__version__ in out


def test_version_and_help(run):
    assert run("--version") == (0, f"ufm-fast {metadata.version('ufm-fast')}\n", "")
    code, out, _ = run()
    assert code == 0
    assert "solve" in out
    assert "info" in out
    code, out, _ = run("solve", "--help")
    assert code == 0
    options = (
        "--K --d --n --counts --imbalance --loss --label-smoothing --lambda-W --lambda-H --lambda-b --no-bias --start "
        "--seed --tol --threads --dtype --json --output --plot"
    )
    assert set(options.split()) <= set(out.split())


def test_module_and_script_are_the_same_program():
    done = subprocess.run([sys.executable, "-m", "ufm_fast", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ufm-fast {metadata.version('ufm-fast')}\n"
    (script,) = metadata.entry_points(group="console_scripts", name="ufm-fast")
    assert script.load() is main


@pytest.mark.skipif(sys.platform == "win32", reason="pseudoterminals are POSIX")
def test_progress_on_a_terminal_only(run):
    import pty

    words = [sys.executable, "-m", "ufm_fast", "solve", "--counts", "cifar10-lt"]

    def on_terminal(*more):
        master, slave = pty.openpty()
        done = subprocess.run([*words, *more], stdout=subprocess.PIPE, stderr=slave, check=True, timeout=120)
        os.close(slave)
        shown = b""
        try:
            while block := os.read(master, 4096):
                shown += block
        except OSError:  # Linux reports the closed end as an error
            pass
        os.close(master)
        return done.stdout.decode(), shown.decode()

    out, shown = on_terminal()
    assert "escapes" in shown
    assert "Certified global optimum" in out
    assert "evaluation 1" not in out
    assert on_terminal("--json")[1] == ""
    assert run("solve", "--counts", "cifar10-lt")[2] == ""
