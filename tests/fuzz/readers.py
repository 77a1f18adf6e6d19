"""Coverage-guided fuzzing of all that reads a file, with atheris (which has wheels for Python 3.11 to 3.13 on Linux):

    python -m pip install atheris
    python tests/fuzz/readers.py CORPUS -max_total_time=900

CORPUS is a folder, where inputs that reached something new are kept; a fresh one begins with a file of each kind.
An input is a byte that says which kind, and the content: of the file, or of what is within it behind right checksums.
It must be read, or be refused by one line that names the file, in 10 seconds and 2 GB. The other options are those of
libFuzzer, whose report of a failure has the input's file; given in place of the folder, that is tried alone.
"""

import faulthandler
import sys
import tempfile
from pathlib import Path

import atheris
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
with atheris.instrument_imports(include=["ufm_fast", "zipfile", "json", "pickletools", "numpy.lib"]):
    from damage import JSON, archive, members
    from kept import EVERY
    from test_damaged_files import outcome

OPTIONS = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-len_control=0"]


def in_member(name, member):
    """Put the input in the place of a member of the archive of this kind."""

    def content_of(written, given):
        return archive((members(written) | {member: given}).items())

    return name, content_of, lambda written: members(written)[member]


def in_json(name):
    """Put the input, JSON text, where JSON is in this kind of file."""

    def content_of(written, given):
        return JSON[name].put(written, JSON["counts in JSON"].found(given))

    return (
        name.removesuffix(" run"),
        content_of,
        lambda written: JSON["counts in JSON"].put(b"", JSON[name].found(written)),
    )


def targets():
    """A kind, what makes a file's content of the input, and the input that makes the file as it was written."""
    whole = [(name, lambda _, given: given, lambda written: written) for name in EVERY]
    inside = [in_member("tensors", "zipped/data.pkl"), in_member("point", "W.npy"), in_member("targets", "targets.npy")]
    return whole + inside + [in_json(name) for name in JSON]


def prepared(folder):
    """Write a file of each kind, and leave out those whose packages are not there."""
    found = []
    for number, (name, content_of, given_of) in enumerate(targets()):
        path = folder / str(number) / EVERY[name].file
        path.parent.mkdir()
        try:
            EVERY[name].write(path)
        except pytest.skip.Exception:
            continue
        found.append((path, EVERY[name].read, path.read_bytes(), content_of, given_of))
    return found


def main():
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        kinds = prepared(Path(folder))
        corpus = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
        if corpus is not None and not corpus.exists():
            corpus.mkdir()
            for number, (_, _, written, _, given_of) in enumerate(kinds):
                (corpus / f"seed{number}").write_bytes(bytes([number]) + given_of(written))

        def one_input(data):
            path, read, written, content_of, _ = kinds[data[0] % len(kinds) if data else 0]
            try:
                content = content_of(written, data[1:])
            except (ValueError, RecursionError):  # no JSON
                return
            outcome(path, content, read, {})

        atheris.Setup([*sys.argv, *OPTIONS], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
