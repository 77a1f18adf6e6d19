"""Points saved with their models come back as they were."""

import json

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._io.files import write_file
from ufm_fast._model.storage import describe_ufm

MODELS = [
    uf.UFM(4, 3, [5, 3, 2, 1], loss=uf.CrossEntropy(0.1), lambda_W=1e-3, lambda_H=2e-4, lambda_b=0.5, dtype="float32"),
    uf.UFM(3, 5, 2, loss="mse", lambda_W=1e-3, lambda_H=2e-4, bias=False, collapse=False),
]


@pytest.mark.parametrize("ufm", MODELS, ids=repr)
def test_round_trip(tmp_path, ufm):
    path, p = tmp_path / "point.npz", ufm.random_point(seed=1)
    uf.save_point(path, ufm, p)
    twin, again = uf.load_point(path)
    assert repr(twin) == repr(ufm)
    np.testing.assert_array_equal(twin.counts, ufm.counts)
    for part, expected in zip(again, p, strict=True):
        np.testing.assert_array_equal(part, expected)
        assert part.dtype == expected.dtype
    assert twin.loss(again) == ufm.loss(p)
    assert [entry.name for entry in tmp_path.iterdir()] == ["point.npz"]


def test_what_is_no_point_is_refused(tmp_path):
    ufm = MODELS[0]
    p, path = ufm.random_point(), tmp_path / "point.npz"
    with pytest.raises(ValueError, match="W must have shape"):
        uf.save_point(path, ufm, p._replace(W=p.W[:2]))
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        uf.load_point(path)
    path.write_text("no archive")
    with pytest.raises(ValueError, match="must be an"):
        uf.load_point(path)
    np.savez(path, W=p.W, H=p.H)
    with pytest.raises(ValueError, match="lacks b, config"):
        uf.load_point(path)
    config = describe_ufm(ufm)
    for changed, message in (
        ({key: value for key, value in config.items() if key != "lambda_W"}, "lacks lambda_W"),
        (config | {"loss": "hinge"}, "hinge"),
        (config | {"d": 7}, "W must have shape"),
        ([], "lacks K, d"),
    ):
        np.savez(path, **p._asdict(), config=json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            uf.load_point(path)


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "result.npz"
    path.write_bytes(b"old")

    def fail(stream):
        stream.write(b"new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
