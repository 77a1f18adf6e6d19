"""A file is written to what its path names, wholly or not at all."""

import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ufm_fast as uf
from saved import ARRAYS, CENSUS, POINT, UFM, loaded_point, same, saved_census, saved_point
from ufm_fast._io.files import check_destination, write_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the devices of Linux")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and permissions of POSIX systems")


@posix
def test_a_link_is_followed_and_permissions_stay(tmp_path):
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to("target.npz")
    uf.save_point(link, UFM, POINT)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    uf.load_point(target)
    (tmp_path / "dangling.npz").symlink_to("new.npz")
    uf.save_point(tmp_path / "dangling.npz", UFM, POINT)
    uf.load_point(tmp_path / "new.npz")
    umask = os.umask(0o027)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new.npz").stat().st_mode) == 0o666 & ~umask
    assert {entry.name for entry in tmp_path.iterdir()} == {"target.npz", "link.npz", "dangling.npz", "new.npz"}


def from_pipe(path, write):
    """Make a pipe, let `write` write it, and return what comes out of it."""
    os.mkfifo(path)
    content = []
    reader = threading.Thread(target=lambda: content.append(path.read_bytes()))
    reader.start()
    write(path)
    reader.join(60)
    assert stat.S_ISFIFO(path.stat().st_mode)
    return content[0]


@posix
def test_pipes_get_what_files_get(run, tmp_path):
    pipe = tmp_path / "pipe"
    (tmp_path / "point.npz").write_bytes(from_pipe(pipe, saved_point))
    assert same(loaded_point(tmp_path / "point.npz"), {"model": repr(UFM), **POINT._asdict()})
    pipe.unlink()
    (tmp_path / "census.jsonl").write_bytes(from_pipe(pipe, saved_census))
    assert uf.Census.load(tmp_path / "census.jsonl").records == uf.census(UFM, 2).records
    png = tmp_path / "pipe.png"
    words = ["solve", "--K", 3, "--json", "--plot", png]
    assert from_pipe(png, lambda _: run(*words)).startswith(b"\x89PNG")


@pytest.fixture
def device(tmp_path):
    """Give a device by its name in /dev: to root, who could replace the system's own by a file, a copy of it."""

    def device(name):
        path = Path("/dev", name)
        if os.geteuid():
            return path
        try:
            os.mknod(tmp_path / name, path.stat().st_mode, path.stat().st_rdev)
            (tmp_path / name).write_bytes(b"")
        except OSError:
            pytest.skip("no devices can be made in the temporary directory")
        return tmp_path / name

    return device


@linux
def test_devices_are_written_in_place(run, device):
    null, full = device("null"), device("full")
    for words in (["solve", "--K", 3], [*CENSUS, "--runs", 1]):
        assert run(*words, "--json", "--output", null)[::2] == (0, "")
        code, _, err = run(*words, "--json", "--output", full)
        assert (code, err.count("\n")) == (2, 1)
        assert f"No space left on device: '{full}'" in err
    assert uf.minimize(UFM, checkpoint=null).fun == uf.minimize(UFM).fun
    assert null.is_char_device()


@linux
def test_standard_output_goes_on_where_it_is(tmp_path):
    path, link = tmp_path / "both", tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    command = [sys.executable, "-m", "ufm_fast", "solve", "--K", "3", "--json", "--output", str(link)]
    with path.open("wb") as stream:
        subprocess.run(command, stdout=stream, check=True, timeout=120)
    assert link.is_symlink()
    printed, _, archive = path.read_bytes().partition(b"\n")
    with np.load(io.BytesIO(archive)) as saved:
        assert json.loads(str(saved["config"])) == json.loads(printed)["config"]


UNWRITABLE = ["no/such.png", "file/below.png", ".", "x" * 300 + ".png"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    return tmp_path


def no_work(*_, **__):
    raise AssertionError("work has begun")


@pytest.mark.parametrize("path", UNWRITABLE, ids=lambda path: path[:15])
def test_what_cannot_be_written_is_found_before_the_work(path, folder, run, monkeypatch):
    saved_point(folder / "point.npz")
    np.savez(folder / "arrays.npz", **ARRAYS)
    monkeypatch.setattr("ufm_fast._optimize.minimize.stages_of", no_work)
    monkeypatch.setattr("ufm_fast._landscape.census.explore", no_work)
    for call in (
        lambda: uf.minimize(UFM, checkpoint=path),
        lambda: uf.census(UFM, 1, path=path),
        lambda: check_destination(Path(path)),
        lambda: write_file(Path(path), no_work),
    ):
        with pytest.raises(OSError, match=re.escape(path)):
            call()
    for name in ("minimize", "classify", "lowest_eigenpairs", "inspect"):
        monkeypatch.setattr(uf, name, no_work)
    for words in (
        ["solve", "--output"],
        ["solve", "--plot"],
        ["solve", "--checkpoint"],
        ["classify", "point.npz", "--output"],
        ["spectrum", "point.npz", "--output"],
        ["spectrum", "point.npz", "--plot"],
        ["census", "--output"],
        ["census", "--plot"],
        ["inspect", "arrays.npz", "--plot"],
    ):
        code, out, err = run(*words, path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("ufm-fast: ")
        assert words[-1] in err
        assert path in err.replace("\n", "")
    assert {entry.name for entry in folder.iterdir()} == {"file", "point.npz", "arrays.npz"}


FULL = """
import resource, sys
import numpy as np
import ufm_fast as uf

ufm = uf.UFM(30, 30, 5, lambda_W=1e-3, lambda_H=2e-4)
uf.save_point("point.npz", ufm, uf.Point(np.zeros((30, 30)), np.zeros((30, 30)), np.zeros(30)))
small = uf.UFM(3, 2, [5, 3, 1], lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
for work in (
    lambda: uf.save_point("point.npz", ufm, ufm.random_point()),
    lambda: uf.minimize(ufm, checkpoint="run.npz"),
    lambda: uf.census(small, 20, path="census.jsonl"),
    lambda: uf.census(small, 20, path="census.jsonl"),
):
    try:
        work()
        print("no error")
    except OSError as error:
        print(error.filename)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    uf.census(small, 20, path="new.jsonl")
except OSError as error:
    print(error.filename)
"""


@linux
def test_a_full_disk_is_an_error_and_leaves_no_half_written_line(run_python, folder):
    """The limit on the size of files is met within a line, as a full disk is."""
    names = "point.npz run.npz census.jsonl census.jsonl new.jsonl"
    assert run_python(FULL).split() == names.split()
    assert {entry.name for entry in folder.iterdir()} == {"file", "point.npz", "census.jsonl"}
    assert not uf.load_point("point.npz")[1].W.any()
    content = (folder / "census.jsonl").read_bytes()
    assert content.endswith(b"}\n")
    found = uf.Census.load("census.jsonl")
    assert 1 <= len(found.records) == content.count(b"\n") - 1 < 20
    assert uf.census(found.models, 20, path="census.jsonl").records == uf.census(UFM, 20).records


@posix
def test_one_process_at_a_time_writes_a_census(tmp_path):
    path = tmp_path / "census.jsonl"
    seen = []

    def meanwhile(done, total):
        seen.append(uf.Census.load(path))
        with pytest.raises(ValueError, match=r"census\.jsonl is being written by another process"):
            uf.census(UFM, 2, path=path)

    found = uf.census(UFM, 2, path=path, callback=meanwhile)
    assert [len(census.records) for census in seen] == [0, 1, 2]
    assert uf.census(UFM, 2, path=path).records == uf.Census.load(path).records == found.records
