"""The losses of `ufm_fast.losses` against their papers' formulas, sample by sample, and what shifts do."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from ufm_fast import losses
from ufm_fast._model.model import rows_model
from ufm_fast._model.rows import Rows

counts = st.lists(st.integers(1, 10**6), min_size=2, max_size=9)
seeds, exponents = st.integers(0, 2**32 - 1), st.floats(0, 2)
DECAYS = {"lambda_W": 0.02, "lambda_H": 0.01}


def value(loss, z, label):
    """The loss of one row of logits, by the core."""
    one = np.ones(1)
    tiny = {"lambda_W": 1e-300, "lambda_H": 1e-300, "bias": False}
    ufm = rows_model(len(z), 1, Rows(np.array([label]), one, one), loss=loss, **tiny)
    return ufm.loss(uf.Point(z[:, None], np.ones((1, 1)), np.zeros(len(z))))


def log_loss(logits, label):
    """-log softmax(logits)_label"""
    top = max(logits)
    return math.log(math.fsum(math.exp(a - top) for a in logits)) + top - logits[label]


def logit_adjusted(n, z, label, strength):
    return log_loss([x + strength * math.log(count / sum(n)) for x, count in zip(z, n, strict=True)], label)


def ldam(n, z, label, largest_margin, scale):
    C = largest_margin * min(n) ** 0.25
    logits = [
        scale * (x - (C / count**0.25 if k == label else 0)) for k, (x, count) in enumerate(zip(z, n, strict=True))
    ]
    return log_loss(logits, label)


def cdt(n, z, label, gamma):
    return log_loss([x / (max(n) / count) ** gamma for x, count in zip(z, n, strict=True)], label)


def vector_scaling(n, z, label, gamma, strength):
    logits = [
        x * (count / max(n)) ** gamma + strength * math.log(count / sum(n)) for x, count in zip(z, n, strict=True)
    ]
    return log_loss(logits, label)


FAMILIES = [
    (losses.logit_adjusted, logit_adjusted, st.tuples(st.floats(-2, 2))),
    (losses.ldam, ldam, st.tuples(st.floats(0, 2), st.floats(0.1, 30))),
    (losses.cdt, cdt, st.tuples(exponents)),
    (losses.vector_scaling, vector_scaling, st.tuples(exponents, st.floats(-2, 2))),
]


@pytest.mark.parametrize(("make", "plain", "parameters"), FAMILIES, ids=lambda x: getattr(x, "__name__", ""))
@given(n=counts, seed=seeds, data=st.data())
def test_constructors_agree_with_the_published_formulas(make, plain, parameters, n, seed, data):
    chosen = data.draw(parameters)
    rng = np.random.default_rng(seed)
    z, label = 5 * rng.standard_normal(len(n)), int(rng.integers(len(n)))
    expected = plain(n, z.tolist(), label, *chosen)
    assert value(make(n, *chosen), z, label) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@given(n=counts, beta=st.floats(0, 0.9999))
def test_class_balanced_weights(n, beta):
    effective = [math.fsum(beta**i for i in range(min(count, 400_000))) for count in np.minimum(n, 3000)]
    expected = [1 / e for e in effective]
    expected = np.array(expected) * len(n) / sum(expected)
    np.testing.assert_allclose(losses.class_balanced_weights(np.minimum(n, 3000), beta), expected, rtol=1e-11)


def test_limits():
    n = [1000, 100, 10]
    plain = uf.CrossEntropy()
    z = np.array([0.3, -1.0, 2.0])
    for loss in (losses.cdt(n, 0), losses.vector_scaling(n, 0, 0), losses.ldam(n, 0), losses.logit_adjusted(n, 0)):
        assert value(loss, z, 1) == pytest.approx(value(plain, z, 1), rel=1e-15)
    assert losses.vector_scaling(n, 0.3, 0).scale == losses.cdt(n, 0.3).scale
    assert losses.vector_scaling(n, 0, 1.5).shift == losses.logit_adjusted(n, 1.5).shift
    assert losses.ldam(n).scale is None
    assert max(losses.ldam(n, scale=30).margin) == 15
    assert losses.class_balanced_weights(n, 0).tolist() == [1, 1, 1]
    inverse = 1 / np.array(n)
    near_one = losses.class_balanced_weights(n, 1 - 1e-12)
    np.testing.assert_allclose(near_one, 3 * inverse / inverse.sum(), rtol=1e-4)


@pytest.mark.parametrize("scale", [None, [1.0, 0.5, 2.0, 1.5]])
@pytest.mark.parametrize("lambda_b", [0.0, 0.1])
def test_a_shift_is_without_effect_where_the_bias_has_no_decay(scale, lambda_b):
    """Loss and gradients in W and H are those of no shift at the bias b - shift / scale; with a decay not the loss."""
    n = [9, 5, 2, 1]
    shift = np.array(losses.logit_adjusted(n).shift)
    plain, shifted = (
        uf.UFM(4, 3, n, loss=uf.CrossEntropy(scale=scale, shift=iota), **DECAYS, lambda_b=lambda_b)
        for iota in (None, shift)
    )
    p = plain.random_point(0, 1.0)
    moved = p._replace(b=p.b - shift / np.array(scale or 1.0))
    (value, gradient), (other, other_gradient) = plain.loss_and_grad(p), shifted.loss_and_grad(moved)
    extra = lambda_b / 2 * (moved.b @ moved.b - p.b @ p.b)
    assert other - extra == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(other_gradient.W, gradient.W, atol=1e-15)
    np.testing.assert_allclose(other_gradient.H, gradient.H, atol=1e-15)
    assert (abs(extra) > 1e-2) == (lambda_b > 0)


@pytest.mark.parametrize("scale", [None, [1.0, 0.5, 2.0, 1.5]])
def test_a_common_shift_changes_nothing(scale):
    shift = np.array([0.3, -1.0, 2.0, 0.1])
    one, other = (uf.UFM(4, 3, loss=uf.CrossEntropy(scale=scale, shift=s), **DECAYS) for s in (shift, shift + 7))
    p = one.random_point(0, 1.0)
    (value, gradient), (same, same_gradient) = one.loss_and_grad(p), other.loss_and_grad(p)
    assert same == pytest.approx(value, rel=1e-14)
    for x, y in zip(gradient, same_gradient, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-15)


def test_shifted_and_plain_minima_have_the_same_classifier_and_features():
    """Descents by a solver of SciPy's, from starts that correspond."""
    from scipy.optimize import minimize

    n = [9, 5, 2, 1]
    loss = losses.logit_adjusted(n)
    ends = []
    for each in (uf.CrossEntropy(), loss):
        ufm = uf.UFM(4, 4, n, loss=each, **DECAYS)
        start = ufm.pack(ufm.random_point(0))
        end = minimize(ufm.fun_and_grad, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
        ends.append((end.fun, ufm.unpack(end.x)))
    (plain, p), (shifted, q) = ends
    assert shifted == pytest.approx(plain, rel=1e-9)
    np.testing.assert_allclose(p.W @ p.H.T, q.W @ q.H.T, atol=1e-3)
    difference = p.b - q.b - np.array(loss.shift)
    np.testing.assert_allclose(difference - difference.mean(), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.cdt([5, 0], 1), "n must be positive, but class 1 has 0"),
        (lambda: losses.cdt([5, 1], -1), "gamma must be non-negative"),
        (lambda: losses.ldam([5, 1], -0.5), "largest_margin must be non-negative"),
        (lambda: losses.ldam([5, 1], scale=0), "scale must be positive"),
        (lambda: losses.logit_adjusted([5, 1], math.nan), "strength must lie in"),
        (lambda: losses.vector_scaling([[5, 1]], 1, 1), "n must be"),
        (lambda: losses.class_balanced_weights([5, 1], 1), r"beta must lie in \[0, 1\)"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_counts_that_are_no_ints_are_refused():
    with pytest.raises(TypeError, match="n must be an int"):
        losses.cdt([5.0, 1.0], 1)


def test_examples_run():
    found = doctest.testmod(losses)
    assert found.attempted >= 5
    assert found.failed == 0


def test_the_module_is_public():
    assert uf.losses is losses
    assert set(losses.__all__) == {"logit_adjusted", "ldam", "cdt", "vector_scaling", "class_balanced_weights"}
