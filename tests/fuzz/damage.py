"""Damage to a file: to its bytes, and to what is in them behind checksums, which then fit again."""

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

#: Of the content, two places in it and a generator of random numbers, makes the damaged content.
BYTES = {
    "flip a bit": lambda content, i, j, rng: (
        content[:i] + bytes([content[i] ^ 1 << rng.integers(8)]) + content[i + 1 :]
    ),
    "cut short": lambda content, i, j, rng: content[:i],
    "lose a block": lambda content, i, j, rng: content[:i] + content[j:],
    "repeat a block": lambda content, i, j, rng: content[:j] + content[i:],
    "zeros": lambda content, i, j, rng: content[:i] + bytes(j - i) + content[j:],
    "ones": lambda content, i, j, rng: content[:i] + b"\xff" * (j - i) + content[j:],
    "noise": lambda content, i, j, rng: content[:i] + rng.bytes(j - i) + content[j:],
    "swap blocks": lambda content, i, j, rng: content[j:] + content[i:j] + content[:i],
    "reverse a block": lambda content, i, j, rng: content[:i] + content[i:j][::-1] + content[j:],
    "tail of zeros": lambda content, i, j, rng: content + bytes(j - i + 1),
    "tail of noise": lambda content, i, j, rng: content + rng.bytes(j - i + 1),
    "twice": lambda content, i, j, rng: content + content,
    "a number": lambda content, i, j, rng: content[:i] + _number(rng) + content[i + 8 :],
}


def _number(rng):
    """Eight bytes that a header may hold as a size, or an array as NaN."""
    some = [0, 1, 255, 2**15, 2**31 - 1, 2**32 - 1, 10**12, 2**62, 2**63, 2**64 - 1, 0x7FF8 << 48, 0x7FF0 << 48]
    return int(rng.choice(np.array(some, np.uint64))).to_bytes(8, str(rng.choice(["little", "big"])))


@st.composite
def damages(draw, most=3):
    """Some damages, each a name, the two ends of what is damaged as parts of the whole, and the seed of a generator."""
    places = st.floats(0, 1, exclude_max=True)
    one = st.tuples(st.sampled_from(sorted(BYTES)), places, places | st.floats(0, 0.02), st.integers(0, 2**16))
    return draw(st.lists(one, min_size=1, max_size=most))


def damaged(content, damage):
    for name, start, length, seed in damage:
        if not content:
            break
        first = int(start * len(content))
        last = min(first + 1 + int(length * len(content)), len(content))
        content = BYTES[name](content, first, last, np.random.default_rng(seed))
    return content


#: A header of NumPy's that another kind of array has, with few numbers behind it.
HEADERS = {
    "more numbers than there are": {"descr": "<f8", "fortran_order": False, "shape": (10**12,)},
    "more rows than there are": {"descr": "<f8", "fortran_order": True, "shape": (10**12, 3)},
    "too many to count": {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**40)},
    "no numbers": {"descr": "<f8", "fortran_order": False, "shape": (0, 10**12)},
    "half of the numbers": {"descr": "<f4", "fortran_order": False, "shape": (3,)},
    "negative": {"descr": "<f8", "fortran_order": False, "shape": (-1, 3)},
    "one number": {"descr": "<f8", "fortran_order": False, "shape": ()},
    "objects": {"descr": "|O", "fortran_order": False, "shape": (3,)},
    "text": {"descr": "<U1000000000", "fortran_order": False, "shape": (3,)},
    "records": {"descr": [("a", "<f8"), ("b", "<i4", (3,))], "fortran_order": False, "shape": (3,)},
    "times": {"descr": "<M8[ns]", "fortran_order": False, "shape": (3,)},
}


def npy(header, content=bytes(24)):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def arrays(array):
    """What may be in the place of an array of an archive."""
    others = [
        np.zeros(0),
        np.zeros((1, 1, 1)),
        np.array("text"),
        np.array([2**63], np.uint64),
        array[None],
        array.ravel()[:1],
    ]
    if array.dtype.names is None:
        others.append(array.astype("U9"))
    others += [np.full(array.shape, number) for number in (np.nan, np.inf, -1, 1e308, 10**12, 1j, "x", True)]
    return [*(npy(header) for header in HEADERS.values()), *map(_stored, others)]


def _stored(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def members(content):
    """The members of an archive by name, or nothing if the content is none."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(parts):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        for name, content in parts:
            written.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


class Json(NamedTuple):
    """JSON in a file: how it is found in the content, and how the content is with another in its place."""

    found: Callable[[bytes], Any]
    put: Callable[[bytes, Any], bytes]


def json_member(name):
    """JSON text that is an array of an archive."""

    def found(content):
        return json.loads(str(np.load(io.BytesIO(members(content)[name]))))

    def put(content, value):
        return archive((members(content) | {name: _stored(np.array(json.dumps(value)))}).items())

    return Json(found, put)


def json_line(number):
    """JSON that is a line of a journal, whose checksum fits again."""

    def found(content):
        return json.loads(content.splitlines()[number])

    def put(content, value):
        lines = content.splitlines()
        if isinstance(value, dict):
            value.pop("crc32", None)
            value["crc32"] = zlib.crc32(json.dumps(value).encode())
        lines[number] = json.dumps(value).encode()
        return b"".join(line + b"\n" for line in lines)

    return Json(found, put)


def _safetensors_header(content):
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def _with_safetensors_header(content, value):
    header = json.dumps(value).encode()
    numbers = content[8 + int.from_bytes(content[:8], "little") :]
    return len(header).to_bytes(8, "little") + header + numbers


#: Where JSON is, by the kind of file.
JSON = {
    "point": json_member("config.npy"),
    "point of rows": json_member("config.npy"),
    "checkpoint": json_member("checkpoint.npy"),
    "path": json_member("checkpoint.npy"),
    "census": json_line(0),
    "census run": json_line(1),
    "features: safetensors": Json(_safetensors_header, _with_safetensors_header),
    "counts in JSON": Json(json.loads, lambda content, value: json.dumps(value).encode()),
}

VALUES = [
    None, True, 0, 1, -1, 3, 10**9, 10**12, 10**30, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), "", "mse",
    "a\nb", "<f8", "x" * 9, [], [0], [1, 2, 3], [10**12] * 2, [[1.0]], ["a"], {}, {"a": 1}, {"dtype": "<f8"},
]  # fmt: skip


def changed(value, rng):
    """JSON with something in it replaced, gone or twice."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[rng.integers(len(keys))]
        other = value.copy()
        if rng.random() < 0.15:
            del other[key]
        else:
            other[key] = changed(value[key], rng)
        return other
    if isinstance(value, str) and len(value) > 9 and rng.random() < 0.5:
        place = rng.integers(len(value))
        return value[:place] + str(rng.choice(list("\x00 ~AZ=\n"))) + value[place + rng.integers(2) :]
    return VALUES[rng.integers(len(VALUES))]
