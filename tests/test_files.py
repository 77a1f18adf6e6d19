"""Damaged files of every kind give one clear error."""

import io
import json
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io

import ufm_fast as uf
from saved import (
    ARRAYS,
    CENSUS,
    KINDS,
    POINT,
    UFM,
    loaded_archive,
    loaded_arrays,
    loaded_checkpoint,
    loaded_point,
    same,
    saved_census,
    saved_checkpoint,
    saved_point,
    saved_point_of_rows,
)
from ufm_fast._io.feature_files import open_arrays
from ufm_fast._io.files import FileError
from ufm_fast._io.numpy_files import read_archive


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request, tmp_path):
    name, write, read, checked = request.param
    write(tmp_path / name)
    return tmp_path / name, read, checked


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


def test_a_point_with_more_classes_than_numbers(tmp_path):
    """Rows do not tell how many classes there are; a model of so many is not made before the bias is looked at."""
    path = tmp_path / "point.npz"
    saved_point_of_rows(path)
    with np.load(path) as archive:
        config = json.loads(str(archive["config"]))
    changed(path, config=json.dumps({**config, "K": 10**7}))
    with pytest.raises(ValueError, match=r"b must have shape \(10000000,\) for K = 10000000, not \(3,\)"):
        uf.load_point(path)


def test_an_array_longer_than_its_header_says_is_refused(tmp_path):
    """The checksum of an archive's member is right only for one who reads to its end."""
    path = tmp_path / "arrays.npz"
    stream = io.BytesIO()
    np.save(stream, np.arange(10.0))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", stream.getvalue().replace(b"(10,)", b"(9,) "))
    with pytest.raises(ValueError, match=r"W in .*arrays\.npz"), open_arrays(path) as arrays:
        arrays["W"][:]


def peak_of(function, *arguments):
    """The memory that a call takes which refuses a file, and what it says."""
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            function(*arguments)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("read", [read_archive, loaded_archive])
def test_a_member_that_is_said_to_hold_more_than_there_is(read, compress, tmp_path):
    """The array's header and the archive agree on 4 GB."""
    path, stream, size = tmp_path / "arrays.npz", io.BytesIO(), 4 * 10**9
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("W.npy", stream.getvalue())
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = (size + len(stream.getvalue())).to_bytes(4, "little")
    path.write_bytes(content)
    peak, message = peak_of(read, path)
    assert f"'W.npy' cannot have {size + len(stream.getvalue())} bytes" in message
    assert peak < 1e7


def test_a_member_that_is_hidden_by_another(tmp_path):
    """The comment of the first is said to be as long as the entry of the second."""
    path = tmp_path / "arrays.npz"
    np.savez(path, targets=np.eye(3), n=np.ones(3))
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    content[first + 32 : first + 34] = (content.index(b"PK\x05\x06") - second).to_bytes(2, "little")
    path.write_bytes(content)
    for read in (read_archive, loaded_archive):
        with pytest.raises(FileError, match="it must have 2 members, but 1 are found"):
            read(path)


def test_a_matlab_variable_that_is_longer_than_it_says(tmp_path):
    path, zeros = tmp_path / "W.mat", bytes(10**8)
    scipy.io.savemat(path, {"W": np.eye(3)}, do_compression=True)
    content = path.read_bytes()
    variable = zlib.compress(zlib.decompress(content[136:]) + zeros)
    path.write_bytes(content[:132] + len(variable).to_bytes(4, "little") + variable)
    del zeros
    peak, message = peak_of(loaded_arrays, path, ("W",))
    assert "bytes that are due" in message
    assert peak < 1e7


def test_a_list_of_images_with_a_label_beyond_its_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.jpg 0\nb.jpg 1000000000\n")
    peak, message = peak_of(uf.counts, path)
    assert "one of 2 lines has 1000000000" in message
    assert peak < 1e7


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
        with pytest.raises(ValueError, match=r"run\.npz.* not those that were written"):
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
