"""Damaged files of every kind: what was written, or one line that names the file; no other error, no other numbers."""

import io
import tracemalloc
import warnings

import numpy as np
import pytest
from damage import HEADERS, JSON, archive, arrays, changed, damaged, damages, members, npy
from drawn import COUNT, fuzz
from hypothesis import given
from hypothesis import strategies as st
from kept import EVERY

from saved import KINDS, same
from ufm_fast._io.files import FileError

SEALED = "checkpoint", "path"  # have a digest of all that is in them
ARCHIVES = [name for name, kind in EVERY.items() if kind.file.endswith((".npz", ".pt"))]
MOST = 50e6  # bytes that the reading of a small file may take


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a file of each kind as it is asked for; give its path, its content and what its reader makes of it."""
    known = {}

    def write(name):
        if name not in known:
            kind = EVERY[name]
            path = tmp_path_factory.mktemp("kind") / kind.file
            try:
                kind.write(path)
            except pytest.skip.Exception:
                known[name] = None
            else:
                known[name] = path, path.read_bytes(), kind.read(path)
        return known[name]

    return write


def outcome(path, content, read, expected):
    """What a reader makes of the content: "same", "other" or "refused", which is one line that names the file."""
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(path)
    except FileError as error:
        message = str(error)
    else:
        return "same" if same(found, expected) else "other"
    assert str(path) in message
    assert "\n" not in message, message
    return "refused"


def is_interrupted(path, before, after):
    """Whether these are the first lines of a journal, whose last may be unfinished."""
    return path.suffix == ".jsonl" and before.startswith(after[: after.rfind(b"\n") + 1])


@fuzz(300)
@given(name=st.sampled_from(sorted(EVERY)), damage=damages())
def test_bytes(written, name, damage):
    file = written(name)
    if file is None:
        return
    path, content, expected = file
    after = damaged(content, damage)
    found = outcome(path, after, EVERY[name].read, expected)
    assert found != "other" or not EVERY[name].checked or is_interrupted(path, content, after)


@pytest.mark.parametrize("name", ["point", "checkpoint", "census"])
def test_single_bits(written, name):
    """Some in each part of a file; all of a point where as many as 1000 examples are asked for."""
    path, content, expected = written(name)
    step = max(1, 8 * len(content) // (10 * COUNT or 700))
    for bit in range(int(np.random.default_rng().integers(step)) if COUNT else 0, 8 * len(content), step):
        after = bytearray(content)
        after[bit // 8] ^= 1 << bit % 8
        found = outcome(path, bytes(after), KINDS[name].read, expected)
        assert found != "other" or is_interrupted(path, content, bytes(after)), (bit // 8, bit % 8)


@fuzz(200)
@given(data=st.data())
def test_members_of_archives(written, data):
    """Other arrays, other names, other bytes, with the right checksums."""
    name = data.draw(st.sampled_from(ARCHIVES))
    file = written(name)
    parts = [] if file is None else list(members(file[1]).items())
    if not parts:
        return
    path, _, expected = file
    place = data.draw(st.sampled_from(range(len(parts))))
    member, inside = parts[place]
    change = data.draw(st.sampled_from(["array", "bytes", "gone", "name", "twice", "more"]))
    if change == "array" and member.endswith(".npy"):
        parts[place] = member, data.draw(st.sampled_from(arrays(np.load(io.BytesIO(inside)))))
    elif change == "bytes":
        parts[place] = member, damaged(inside, data.draw(damages()))
    elif change == "gone":
        del parts[place]
    elif change == "name":
        parts[place] = data.draw(st.sampled_from(["", "a\nb.npy", ".npy", "x", *dict(parts)])), inside
    elif change == "more":
        parts.append((data.draw(st.sampled_from(["more", "more.npy", "a\nb.npy"])), inside))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of two members of one name
        after = archive(parts)
    found = outcome(path, after, EVERY[name].read, expected)
    assert found != "other" or name not in SEALED


@fuzz(200)
@given(kind=st.sampled_from(sorted(JSON)), seed=st.integers(0, 2**32 - 1))
def test_json(written, kind, seed):
    """Other values, with the right checksums."""
    name = "census" if kind == "census run" else kind
    file = written(name)
    if file is None:
        return
    path, content, expected = file
    after = JSON[kind].put(content, changed(JSON[kind].found(content), np.random.default_rng(seed)))
    found = outcome(path, after, EVERY[name].read, expected)
    assert found != "other" or name not in SEALED


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].file.endswith((".npy", ".npz"))])
def test_memory(written, name, header):
    """A header may say anything: what is not there takes no memory."""
    path, content, expected = written(name)
    file = npy(HEADERS[header])
    parts = members(content)
    contents = [archive((parts | {member: file}).items()) for member in parts] or [file]
    tracemalloc.start()
    try:
        for other in contents:
            outcome(path, other, EVERY[name].read, expected)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
