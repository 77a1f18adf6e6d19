"""Damaged files of every kind give one clear error; a file is written to what its path names, wholly or not at all."""

import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._io.feature_files import open_arrays
from ufm_fast._io.files import FileError, check_destination, write_file
from ufm_fast._optimize.checkpoint import Checkpoint, describe_run
from ufm_fast.cli.files import read_counts

UFM = uf.UFM(3, 2, [5, 3, 1], lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
POINT = UFM.random_point(0)
ARRAYS = {"W": POINT.W, "H": POINT.H, "labels": np.arange(3)}
NPY = {"labels": np.arange(1, 40)}
CENSUS = ["census", "--K", 3, "--n", 5, "--imbalance", 1, "--loss", "mse", "--jobs", 1]
RUN = describe_run(UFM, None, tol=1e-8, seed=0, restarts=0)

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the devices of Linux")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and permissions of POSIX systems")


def saved_point(path):
    uf.save_point(path, UFM, POINT)


def loaded_point(path):
    ufm, p = uf.load_point(path)
    return {"model": repr(ufm), **p._asdict()}


def saved_checkpoint(path):
    uf.minimize(UFM, checkpoint=path)


def loaded_checkpoint(path):
    return Checkpoint(path, RUN).content


def saved_census(path):
    uf.census(UFM, 2, path=path)


def loaded_census(path):
    found = uf.Census.load(path)
    return {"models": repr(found.models), "settings": found.settings, "records": found.records}


def loaded_arrays(path, names=("labels",)):
    with open_arrays(path) as arrays:
        for name in names:
            if name not in arrays:
                raise FileError(f"{path} lacks {name}")  # said by the inspect command
        return {name: np.concatenate([arrays[name][:1], arrays[name][1:]]) for name in names}


def loaded_archive(path):
    return loaded_arrays(path, ARRAYS)


# The file's name, who writes and reads it, and whether it has checksums.
KINDS = {
    "point": ("point.npz", saved_point, loaded_point, True),
    "checkpoint": ("run.npz", saved_checkpoint, loaded_checkpoint, True),
    "census": ("census.jsonl", saved_census, loaded_census, True),
    "stored": ("arrays.npz", lambda path: np.savez(path, **ARRAYS), loaded_archive, True),
    "compressed": ("arrays.npz", lambda path: np.savez_compressed(path, **ARRAYS), loaded_archive, True),
    "npy": ("labels.npy", lambda path: np.save(path, NPY["labels"]), loaded_arrays, False),
    "counts": ("labels.npy", lambda path: np.save(path, NPY["labels"]), lambda path: {"n": read_counts(path)}, False),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request, tmp_path):
    name, write, read, checked = request.param
    write(tmp_path / name)
    return tmp_path / name, read, checked


def same(found, expected):
    if found.keys() != expected.keys():
        return False
    pairs = [(np.asanyarray(found[name]), np.asanyarray(value)) for name, value in expected.items()]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def outcome(path, read, expected):
    """What a reader makes of a file that may be damaged: "same", "other" or "refused"; no other error may come."""
    try:
        found = read(path)
    except FileError as error:
        message = str(error)
    else:
        return "same" if same(found, expected) else "other"
    assert path.name in message
    assert "\n" not in message
    return "refused"


def test_a_flipped_bit_is_refused_or_changes_nothing(kind):
    """In every byte of a small file, in a sample of a large one. Without checksums, numbers may come out changed."""
    path, read, checked = kind
    expected = read(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    places = range(len(content)) if len(content) < 2000 else rng.choice(len(content), 700, replace=False)
    outcomes = {"same": 0, "other": 0, "refused": 0}
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        found = outcome(path, read, expected)
        if path.suffix == ".jsonl" and place == len(content) - 1:
            assert found == "other"  # a last line without an end was not finished
            continue
        outcomes[found] += 1
    assert outcomes["refused"] > 50
    assert not (checked and outcomes["other"])


def test_a_file_cut_short_is_refused(kind):
    path, read, _ = kind
    expected = read(path)
    content = path.read_bytes()
    ends = {end + 1 for end, byte in enumerate(content) if byte == ord("\n")} if path.suffix == ".jsonl" else set()
    for length in np.unique(np.linspace(0, len(content) - 1, 60).astype(int)):
        path.write_bytes(content[:length])
        found = outcome(path, read, expected)
        if path.suffix == ".jsonl" and length >= min(ends):
            assert found == "other"  # fewer runs
        else:
            assert found == "refused"


def test_text_noise_and_directories_are_refused(kind):
    path, read, _ = kind
    expected = read(path)
    for content in (
        b"no such thing\n",
        b"[1, 2]\n",
        b"\xff\xfe\x00" * 100,
        b"\n",
        b"PK\x05\x06" + bytes(18),
        b"[" * 10**5,
    ):
        path.write_bytes(content)
        assert outcome(path, read, expected) == "refused", content[:10]
    path.unlink()
    if read is not loaded_checkpoint:  # a run without a file begins
        with pytest.raises(FileNotFoundError, match=path.name):
            read(path)
    path.mkdir()
    with pytest.raises(OSError, match=path.name):
        read(path)


def changed(path, **arrays):
    """Write the arrays of an archive again, with others in their place; None leaves one out."""
    with np.load(path, allow_pickle=False) as archive:
        named = {**archive, **arrays}
    np.savez(path, **{name: value for name, value in named.items() if value is not None})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"W": None, "b": None}, "lacks W, b"),
        ({"W": POINT.W.T}, "W must have shape"),
        ({"b": POINT.b[:1]}, "b must have shape"),
        ({"H": POINT.H.astype("f")}, "H must be a float64 array"),
        ({"H": np.array([None])}, "Object arrays"),
        ({"H": POINT.H * np.nan}, "H must be finite"),
        ({"config": "{"}, "point"),
        ({"config": "[]"}, "lacks K"),
        ({"config": np.arange(3)}, "point"),
        ({"config": json.dumps({"K": "three"})}, "lacks d"),
    ],
)
def test_points_with_other_content_are_refused(arrays, message, tmp_path):
    path = tmp_path / "point.npz"
    saved_point(path)
    changed(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        uf.load_point(path)
    assert str(path) in str(caught.value)


def test_models_with_values_of_other_types_are_refused(tmp_path):
    path = tmp_path / "point.npz"
    saved_point(path)
    with np.load(path) as archive:
        config = json.loads(str(archive["config"]))
    for name in config:
        for value in ("x", None, [], {}, -1, 1e300, [[1]], [3.5, 2, 1]):
            changed(path, config=json.dumps({**config, name: value}))
            outcome(path, loaded_point, {})


def test_an_array_longer_than_its_header_says_is_refused(tmp_path):
    """The checksum of an archive's member is right only for one who reads to its end."""
    path = tmp_path / "arrays.npz"
    stream = io.BytesIO()
    np.save(stream, np.arange(10.0))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", stream.getvalue().replace(b"(10,)", b"(9,) "))
    with open_arrays(path) as arrays, pytest.raises(ValueError, match=r"W in .*arrays\.npz"):
        arrays["W"][:]


def test_safetensors_with_flipped_bits(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    numpy.save_file(ARRAYS, path)
    expected = loaded_archive(path)
    content = path.read_bytes()
    outcomes = set()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        outcomes.add(outcome(path, loaded_archive, expected))
    assert outcomes == {"other", "refused"}
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        loaded_archive(path)


@pytest.mark.parametrize("name", ["x", "rows", "stage", "metric", "memory.s"])
def test_checkpoints_whose_arrays_are_others_are_refused(name, tmp_path):
    path = tmp_path / "run.npz"
    saved_checkpoint(path)
    content = loaded_checkpoint(path)
    name = next(key for key in content if key.startswith(name))
    value = content[name]
    before = path.read_bytes()
    for other in (None, value[None], value.astype("U9"), np.zeros(7)):
        path.write_bytes(before)
        changed(path, **{name: other})
        with pytest.raises(ValueError, match=r"run\.npz.* not those that minimize wrote"):
            uf.minimize(UFM, checkpoint=path)


def test_checkpoints_of_another_version_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    monkeypatch.setattr("ufm_fast._optimize.checkpoint.version", lambda name: "0.0.1")
    saved_checkpoint(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="another version"):
        uf.minimize(UFM, checkpoint=path)


@pytest.mark.parametrize(
    "line", [b"{}", b'{"model": 0, "run": 0}', b'{"a": 1', b"", b"3", b"NaN", b'{"a": NaN, "crc32": 0}'], ids=str
)
def test_a_census_with_other_lines_is_refused_with_their_number(line, tmp_path):
    path = tmp_path / "census.jsonl"
    saved_census(path)
    first, second, third = path.read_bytes().splitlines()
    for lines, number in (([line, second, third], 1), ([first, line, third], 2), ([first, second, line], 3)):
        path.write_bytes(b"\n".join(lines) + b"\n")
        before = path.read_bytes()
        for read in (uf.Census.load, lambda path: uf.census(UFM, 2, path=path)):
            with pytest.raises(ValueError, match=rf"line {number} of .*census\.jsonl"):
                read(path)
        assert path.read_bytes() == before


def test_a_census_with_a_line_twice_has_one_run(tmp_path):
    path = tmp_path / "census.jsonl"
    saved_census(path)
    expected = uf.Census.load(path)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + third + second)
    assert uf.Census.load(path).records == expected.records


def test_damaged_files_on_the_command_line(run, tmp_path):
    """Exit code 2 and one line that names the file."""
    point, counts, census = tmp_path / "point.npz", tmp_path / "counts.npy", tmp_path / "census.jsonl"
    saved_point(point)
    np.save(counts, np.array([5, 3, 1]))
    assert run(*CENSUS, "--runs", 1, "--output", census)[0] == 0
    for path in (point, counts, census):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content if path != counts else b"")
    (tmp_path / "deep.json").write_text("[" * 10**5)
    np.save(tmp_path / "huge.npy", np.array([5, 2**63], np.uint64))
    for words in (
        ["classify", point],
        ["spectrum", point],
        ["inspect", point],
        ["solve", "--K", 3, "--d", 2, "--start", point],
        ["solve", "--checkpoint", point],
        ["solve", "--counts", counts],
        ["solve", "--counts", tmp_path / "deep.json"],
        ["solve", "--counts", tmp_path / "huge.npy"],
        [*CENSUS, "--output", census],
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), words
        assert err.startswith("ufm-fast: ")
        assert err.count("\n") == 1
        assert next(str(word) for word in words if str(tmp_path) in str(word)) in err


# Writing


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
    monkeypatch.setattr("ufm_fast._landscape.census._explore", no_work)
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
