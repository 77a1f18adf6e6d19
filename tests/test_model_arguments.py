"""What a model refuses, by name."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from comparison import models

VALUES = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
LAYOUTS = ["strided", "unaligned"]
CONVERTED = [*LAYOUTS, "list", "other float", "integers", "foreign byte order"]  # of packed vectors
WAYS = [
    *VALUES, *LAYOUTS, "list", "none", "scalar", "other float", "integers", "complex", "foreign byte order",
    "a row more", "an axis more", "empty",
]  # fmt: skip


def spoil(good, how):
    """(spoilt copy of a float array, exception it deserves)."""
    if how in VALUES:
        bad = good.copy()
        bad.flat[good.size // 2] = VALUES[how]
        return bad, ValueError
    if how == "strided":
        return np.repeat(good, 2, 0)[::2], ValueError
    if how == "unaligned":
        return np.frombuffer(b"x" + good.tobytes(), np.uint8)[1:].view(good.dtype).reshape(good.shape), ValueError
    shapes = {"a row more": np.concatenate([good, good[:1]]), "an axis more": good[None], "empty": good[:0]}
    if how in shapes:
        return shapes[how], ValueError
    other = {
        "list": good.tolist(),
        "none": None,
        "scalar": float(good.flat[0]),
        "other float": good.astype({"d": "f", "f": "d"}[good.dtype.char]),
        "integers": good.astype(int),
        "complex": good.astype(complex),
        "foreign byte order": good.astype(good.dtype.newbyteorder()),
    }
    return other[how], TypeError


@given(models, st.sampled_from("WHb"), st.sampled_from(WAYS), st.sampled_from(["p", "v"]))
def test_bad_points_are_refused_by_name(ufm, name, how, role):
    p = ufm.random_point(scale=1.0)
    part, error = spoil(getattr(p, name), how)
    bad = p._replace(**{name: part})
    if role == "v":
        calls = [lambda: ufm.hvp(p, bad)]
    else:
        calls = [lambda: ufm.loss(bad), lambda: ufm.loss_and_grad(bad), lambda: ufm.hvp(bad, p)]
        if how not in LAYOUTS:  # pack copies, so it may take any layout
            calls += [lambda: ufm.pack(bad), lambda: ufm.hessian(bad)]
    for call in calls:
        with pytest.raises(error, match=rf"\b{name} must "):
            call()


@given(models, st.sampled_from([way for way in WAYS if way not in CONVERTED]), st.sampled_from("xv"))
def test_bad_flat_points_are_refused_by_name(ufm, how, name):
    x = ufm.pack(ufm.random_point(scale=1.0))
    bad, error = spoil(x, how)
    error = ValueError if how == "scalar" else error
    if name == "v":
        calls = [lambda: ufm.hessp(x, bad)]
    else:
        calls = [lambda: ufm.fun(bad), lambda: ufm.fun_and_grad(bad), lambda: ufm.hessp(bad, x)]
    for call in calls:
        with pytest.raises(error, match=r"\b[xvWHb] must "):
            call()


def test_bias_of_a_model_without_one_must_be_zero():
    ufm = uf.UFM(4, 3, lambda_W=0.1, lambda_H=0.1, bias=False)
    p = ufm.random_point()._replace(b=np.ones(4))
    with pytest.raises(ValueError, match="b must be zeros"):
        ufm.loss(p)
    with pytest.raises(ValueError, match="b must be zeros"):
        ufm.pack(p)


@pytest.mark.parametrize("collapse", [True, False])
def test_collapse_and_expand_refuse_the_other_kind(collapse):
    ufm = uf.UFM(4, 3, 5, lambda_W=0.1, lambda_H=0.1, collapse=collapse)
    means, rows = np.zeros((4, 3)), np.zeros((20, 3))
    with pytest.raises(ValueError, match=r"H must have shape \(20, 3\)"):
        ufm.collapse(uf.Point(means, means, np.zeros(4)))
    with pytest.raises(ValueError, match=r"H must have shape \(4, 3\)"):
        ufm.expand(uf.Point(means, rows, np.zeros(4)))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"K": 1}, ValueError),
        ({"K": 3.0}, TypeError),
        ({"d": 0}, ValueError),
        ({"d": "3"}, TypeError),
        ({"n": 0}, ValueError),
        ({"n": [1, 2]}, ValueError),
        ({"n": [1, 2, 0]}, ValueError),
        ({"n": 1.5}, TypeError),
        ({"n": [1.0, 2.0, 3.0]}, TypeError),
        ({"loss": "hinge"}, ValueError),
        ({"loss": 3}, TypeError),
        ({"lambda_W": 0.0}, ValueError),
        ({"lambda_W": -1.0}, ValueError),
        ({"lambda_H": float("nan")}, ValueError),
        ({"lambda_H": "small"}, TypeError),
        ({"lambda_b": -0.1}, ValueError),
        ({"lambda_b": float("inf")}, ValueError),
        ({"dtype": "float16"}, TypeError),
        ({"dtype": int}, TypeError),
        ({"threads": 0}, ValueError),
        ({"threads": 2.0}, TypeError),
    ],
    ids=str,
)
def test_bad_models_are_refused_by_name(change, error):
    arguments = {"K": 3, "d": 3, "lambda_W": 0.1, "lambda_H": 0.1, **change}
    with pytest.raises(error, match=next(iter(change))):
        uf.UFM(**arguments)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_label_smoothing_lies_in_its_interval(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        uf.CrossEntropy(label_smoothing=smoothing)


@given(models)
def test_sizes(ufm):
    assert ufm.counts.sum() == ufm.N
    assert (ufm.K if ufm.collapse_classes else ufm.N) == ufm.M
    assert ufm.size == ufm.K * ufm.d + ufm.M * ufm.d + (ufm.K if ufm.bias else 0)
    assert ufm.tau == pytest.approx(np.sqrt(0.02 * 0.003), rel=1e-15)
    assert ufm.counts.dtype == np.int64


@pytest.mark.parametrize("model", [lambda ufm: ufm, lambda ufm: ufm.rows(0, 2), lambda ufm: ufm.merged()[0]])
@pytest.mark.parametrize("name", ["lambda_W", "K", "threads", "counts", "lambda_w"])
def test_a_model_stays_as_it_was_made(model, name):
    """The core has copies: it would not notice."""
    made = model(uf.UFM(3, 2, [3, 2, 1], lambda_W=0.02, lambda_H=0.01, lambda_b=0.05))
    before = dict(vars(made))
    with pytest.raises(AttributeError, match=f"^{name} cannot be set: a (UFM|RowShard) stays as it was made; make ano"):
        setattr(made, name, 1)
    assert vars(made) == before
    assert vars(copy.copy(made)).keys() == before.keys()


def test_entries_of_counts_and_weights_cannot_be_set():
    ufm = uf.UFM(3, 2, [3, 2, 1], weights=[1, 2, 3], lambda_W=0.02, lambda_H=0.01)
    for numbers in (ufm.counts, ufm.weights):
        with pytest.raises(ValueError, match="read-only"):
            numbers[0] = 5


def test_decays_that_make_terms_overflow():
    """The refusal alone tells, without a warning of NumPy's."""
    for n in ([1.0, 2.0, 100.0], [1.0, 1e308, 1.0]):
        with pytest.raises(ValueError, match="ridges must make terms in the range of float64"):
            uf.UFM(3, 2, n, targets=np.arange(3), lambda_W=1.0, lambda_H=1e308)
