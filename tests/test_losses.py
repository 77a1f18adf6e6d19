"""The losses: kernels on rows against the oracle and decimal arithmetic, and what each says of itself."""

import itertools
import json
import pickle
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from comparison import BIASES, affine_cross_entropy, assert_close, tolerance
from oracle import Oracle
from row_losses import RowLoss
from ufm_fast._model.canonical import CanonicalProblem
from ufm_fast._model.losses import LOSSES, as_loss, describe_loss, described_loss
from ufm_fast._model.model import rows_model
from ufm_fast._model.rows import Rows

K, M = 6, 23
SHIFT = np.sin(np.arange(K))
MEMBERS = [
    uf.CrossEntropy(),
    uf.CrossEntropy(0.1),
    uf.CrossEntropy(scale=1 + SHIFT**2),
    uf.CrossEntropy(0.2, scale=1 + SHIFT**2, shift=3 * SHIFT),
    uf.CrossEntropy(shift=SHIFT, margin=SHIFT),
    affine_cross_entropy(K),
    uf.MSE(),
    uf.BinaryCrossEntropy(),
    uf.BinaryCrossEntropy(0.2),
    uf.Focal(0),
    uf.Focal(0.5),
    uf.Focal(1),
    uf.Focal(3.7),
]
KINDS = ["labels", "dense", "sparse"]


def needs_labels(loss):
    return isinstance(loss, uf.Focal) or getattr(loss, "margin", None) is not None


def targets_of(kind, loss, rng):
    """Of a kind, and as a matrix."""
    if kind == "labels":
        labels = rng.integers(0, K - 1, M)  # nobody belongs to the last class
        return labels, np.eye(K)[labels]
    matrix = rng.random((M, K)) * (rng.random((M, K)) < 0.5) + 0.1 * np.eye(M, K)
    matrix[:, 0] += 0.05
    if isinstance(loss, uf.CrossEntropy):
        matrix /= matrix.sum(axis=1, keepdims=True)
    elif isinstance(loss, uf.MSE):
        matrix -= 0.5 * (matrix > 0)
    matrix = np.minimum(matrix, 1)
    if kind == "dense":
        return matrix, matrix
    starts = np.concatenate([[0], np.cumsum((matrix != 0).sum(axis=1))])
    return (starts, np.flatnonzero(matrix) % K, matrix[matrix != 0]), matrix


def rows(kind, loss, seed=0):
    rng = np.random.default_rng(seed)
    targets, matrix = targets_of(kind, loss, rng)
    return Rows(targets, rng.uniform(0.5, 2, M) / M, rng.uniform(0.3, 4, M)), matrix


def row_loss(loss):
    vectors = {name: tuple(x) if isinstance(x, list) else x for name, x in loss.parameters.items()}
    return RowLoss(name=loss.name, **vectors)


CASES = [(loss, kind) for loss, kind in itertools.product(MEMBERS, KINDS) if kind == "labels" or not needs_labels(loss)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("bias", BIASES, ids=["free", "decayed", "none"])
@pytest.mark.parametrize(("loss", "kind"), CASES, ids=str)
def test_rows_agree_with_the_oracle(loss, kind, bias, dtype):
    data, matrix = rows(kind, loss)
    ufm = rows_model(K, 5, data, loss=loss, lambda_W=0.03, lambda_H=0.01, dtype=dtype, **bias)
    oracle = Oracle.of(ufm, (matrix, data.weights, data.ridges))
    p, v = ufm.random_point(1, 0.8), ufm.random_point(2, 1.0)
    wide, wide_v = [np.float64(part) for part in p], [np.float64(part) for part in v]
    value, gradient = ufm.loss_and_grad(p)
    assert value == pytest.approx(oracle.loss(*wide), rel=tolerance(dtype))
    assert ufm.loss(p) == pytest.approx(oracle.loss(*wide), rel=tolerance(dtype))
    assert_close(gradient, oracle.gradient(*wide), dtype)
    assert_close(ufm.hvp(p, v), oracle.hvp(*wide, *wide_v), dtype)
    stored = ufm.hessian(p) @ ufm.pack(v)
    assert_close(ufm.unpack(stored), oracle.hvp(*wide, *wide_v), dtype)


vectors = st.lists(st.floats(-3, 3), min_size=K, max_size=K)
scales = st.lists(st.floats(0.1, 3), min_size=K, max_size=K)
losses = st.one_of(
    st.builds(
        uf.CrossEntropy,
        st.floats(0, 0.9),
        st.none() | scales,
        st.none() | vectors,
        st.none() | vectors,
    ),
    st.builds(uf.BinaryCrossEntropy, st.floats(0, 0.9)),
    st.builds(uf.Focal, st.floats(0, 6)),
    st.just(uf.MSE()),
)
seeds, sizes = st.integers(0, 2**32 - 1), st.floats(0.01, 8)


@given(losses, seeds, sizes, st.integers(1, 3), st.sampled_from(BIASES))
def test_any_parameters_agree_with_the_oracle(loss, seed, size, d, bias):
    data, matrix = rows("labels", loss, seed)
    ufm = rows_model(K, d, data, loss=loss, lambda_W=0.03, lambda_H=0.01, **bias)
    oracle = Oracle.of(ufm, (matrix, data.weights, data.ridges))
    p, v = ufm.random_point(seed, size**0.5), ufm.random_point(seed + 1, 1.0)
    value, gradient = ufm.loss_and_grad(p)
    assert value == pytest.approx(oracle.loss(*p), rel=1e-12)
    assert_close(gradient, oracle.gradient(*p), "float64")
    assert_close(ufm.hvp(p, v), oracle.hvp(*p, *v), "float64")


LOGITS = [
    [0.0, 0.0, 0.0], [40.0, 0.0, -700.0], [-40.0, 39.5, 1.0], [800.0, -800.0, 3.0], [-300.0, -301.0, 20.0],
    [1e-9, -1e-9, 0.0], [5.0, 30.0, -30.0],
]  # fmt: skip
FAR = [
    uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.CrossEntropy(scale=[0.5, 2.0, 1.0], shift=[1.0, 0.0, -3.0]),
    uf.CrossEntropy(margin=[0.5, 1.0, 0.0]), uf.BinaryCrossEntropy(), uf.BinaryCrossEntropy(0.1), uf.Focal(0),
    uf.Focal(0.5), uf.Focal(2),
]  # fmt: skip


def exact_derivatives(loss, z, label):
    """Value, gradient and second derivative by differences with 400 digits."""
    with localcontext() as context:
        context.prec, h = 400, Decimal(10) ** -20
        target = [Decimal(int(k == label)) for k in range(3)]

        def at(*steps):
            logits = [Decimal(x) + h * step for x, step in zip(z, steps, strict=True)]
            return row_loss(loss).decimal(logits, target)

        unit = np.eye(3, dtype=int)
        ahead, behind, here = [at(*e) for e in unit], [at(*-e) for e in unit], at(0, 0, 0)
        second = np.zeros((3, 3))
        for j, k in itertools.combinations_with_replacement(range(3), 2):
            both = at(*(unit[j] + unit[k])) + at(*-(unit[j] + unit[k]))
            second[j, k] = second[k, j] = (both - ahead[j] - ahead[k] - behind[j] - behind[k] + 2 * here) / (2 * h * h)
        return float(here), np.array([(x - y) / (2 * h) for x, y in zip(ahead, behind, strict=True)], float), second


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("z", LOGITS, ids=str)
@pytest.mark.parametrize("loss", FAR, ids=str)
def test_extreme_logits_against_decimal_arithmetic(loss, z, label):
    """Small losses, gradients and curvatures keep their relative accuracy; what is below 1e-290 counts as zero."""
    one = np.ones(1)
    tiny = {"lambda_W": 1e-300, "lambda_H": 1e-300, "bias": False}
    ufm = rows_model(3, 1, Rows(np.array([label]), one, one), loss=loss, **tiny)
    p = uf.Point(np.array(z)[:, None], np.ones((1, 1)), np.zeros(3))
    value, gradient, second = exact_derivatives(loss, z, label)
    cancels = 1e-15 if getattr(loss, "label_smoothing", 0) else 1e-290  # p - t, where both are alike
    assert ufm.loss(p) == pytest.approx(value, rel=1e-12, abs=1e-290)
    np.testing.assert_allclose(ufm.loss_and_grad(p)[1].W[:, 0], gradient, rtol=1e-12, atol=cancels)
    directions = [uf.Point(np.eye(3)[:, [k]], np.zeros((1, 1)), np.zeros(3)) for k in range(3)]
    products = np.array([ufm.hvp(p, direction).W[:, 0] for direction in directions])
    np.testing.assert_allclose(products, second, atol=1e-290 + 1e-12 * np.abs(second).max(), rtol=0)


@given(losses, seeds, sizes)
def test_curvatures_lie_within_their_bounds(loss, seed, size):
    rng = np.random.default_rng(seed)
    Z, T = size * rng.standard_normal((1, K)), np.eye(K)[rng.integers(0, K, 1)]
    second = np.array([row_loss(loss).product(Z, T, e[None, :])[0] for e in np.eye(K)])
    values = np.linalg.eigvalsh((second + second.T) / 2)
    slack = 1e-12 * max(1, loss.curvature)
    assert loss.least_curvature - slack <= values[0]
    assert values[-1] <= loss.curvature + slack


@given(losses, seeds, sizes, st.floats(1e-3, 10), st.booleans())
def test_a_change_of_the_logits_changes_losses_within_the_bound(loss, seed, size, error, labels):
    rng = np.random.default_rng(seed)
    if not labels and needs_labels(loss):
        labels = True
    _, T = targets_of("labels" if labels else "dense", loss, rng)
    weights, Z = rng.random(M), size * rng.standard_normal((M, K))
    formula = row_loss(loss)
    value = weights @ formula.value(Z, T)
    downhill = -np.sign(formula.gradient(Z, T))
    for move in (downhill, -downhill, np.sign(rng.standard_normal((M, K)))):
        change = abs(weights @ formula.value(Z + error * move, T) - value)
        assert change <= loss.change(value, error, K, weights.sum(), labels) * (1 + 1e-9) + 1e-12 * value


@given(losses, seeds, sizes)
def test_invariant_directions(loss, seed, size):
    rng = np.random.default_rng(seed)
    Z, T = size * rng.standard_normal((M, K)), np.eye(K)[rng.integers(0, K, M)]
    v = loss.invariant_direction(K)
    assert (v is None) == isinstance(loss, uf.MSE | uf.BinaryCrossEntropy)
    if v is None:
        return
    moved = row_loss(loss).value(Z + rng.standard_normal((M, 1)) * v, T)
    np.testing.assert_allclose(moved, row_loss(loss).value(Z, T), rtol=1e-11, atol=1e-13)
    assert abs(loss.centred(Z[0]) @ v) <= 1e-12 * np.linalg.norm(Z[0]) * np.linalg.norm(v)
    assert loss.centred(Z.T) == pytest.approx(np.array([loss.centred(z) for z in Z]).T, abs=1e-12)


@given(losses, seeds, st.permutations(range(K)))
def test_losses_that_treat_classes_alike(loss, seed, order):
    rng = np.random.default_rng(seed)
    Z, T = rng.standard_normal((M, K)), np.eye(K)[rng.integers(0, K, M)]
    here, permuted = row_loss(loss).value(Z, T), row_loss(loss).value(Z[:, order], T[:, order])
    if loss.treats_classes_alike:
        np.testing.assert_allclose(permuted, here, rtol=1e-12)
    else:
        assert loss.name == "cross_entropy"


@pytest.mark.parametrize("loss", MEMBERS, ids=str)
def test_largest_rank_follows_from_the_invariant_direction(loss):
    """At any point G v = 0, so the columns of W at a critical point are orthogonal to v."""
    ufm = uf.UFM(K, K, loss=loss, lambda_W=0.01, lambda_H=0.02, lambda_b=0.1)
    G = ufm._problem.gradient_matrix(*ufm.random_point(0, 1.0), 1)
    v = loss.invariant_direction(K)
    assert (np.linalg.matrix_rank(G, tol=1e-12) == K) == (v is None)
    if v is not None:
        assert np.abs(G @ v).max() <= 1e-15


@pytest.mark.parametrize("lambda_b", [0.0, 0.05])
@pytest.mark.parametrize("loss", [loss for loss in MEMBERS if loss.convex], ids=str)
def test_the_best_bias_is_where_the_gradient_vanishes(loss, lambda_b):
    data, _ = rows("labels", loss)
    problem = CanonicalProblem(rows_model(K, 3, data, loss=loss, lambda_W=0.1, lambda_H=0.1, lambda_b=lambda_b))
    if isinstance(loss, uf.CrossEntropy | uf.BinaryCrossEntropy) and loss.label_smoothing == 0 and lambda_b == 0:
        return  # nobody belongs to the last class, whose best bias is minus infinity
    Z = np.random.default_rng(0).standard_normal((M, K))
    b = problem.best_bias(Z, np.full(K, 0.3))
    assert np.abs(problem.data_term(Z, b)[2] + lambda_b * b).max() <= 1e-9
    if lambda_b == 0 and loss.invariant_direction(K) is not None:
        assert abs(b @ loss.invariant_direction(K)) <= 1e-12


@pytest.mark.parametrize("loss", MEMBERS, ids=str)
def test_losses_survive_files_and_pickles(loss, tmp_path):
    described = json.loads(json.dumps(describe_loss(loss)))
    assert described_loss(described) == loss
    assert hash(described_loss(described)) == hash(loss)
    assert pickle.loads(pickle.dumps(loss)) == loss
    ufm = uf.UFM(K, 3, loss=loss, lambda_W=0.1, lambda_H=0.1)
    p = ufm.random_point(0)
    uf.save_point(tmp_path / "point.npz", ufm, p)
    loaded, q = uf.load_point(tmp_path / "point.npz")
    assert loaded.loss_function == loss
    assert loaded.loss(q) == ufm.loss(p)
    assert pickle.loads(pickle.dumps(ufm)).loss(p) == ufm.loss(p)


def test_losses_show_what_they_are():
    assert repr(uf.CrossEntropy()) == "CrossEntropy(label_smoothing=0.0)"
    assert repr(uf.CrossEntropy(scale=[1, 2])) == "CrossEntropy(label_smoothing=0.0, scale=(1.0, 2.0))"
    assert uf.CrossEntropy(0.1, shift=[1, -2]).describe() == "cross-entropy smoothed by 0.1 with shift -2 to 1"
    assert uf.Focal(2).describe() == "focal loss with gamma 2"
    assert as_loss("bce") == uf.BinaryCrossEntropy()
    assert list(LOSSES) == ["cross_entropy", "mse", "bce", "focal", "ordinal"]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uf.CrossEntropy(1.0), r"label_smoothing must lie in \[0, 1\)"),
        (lambda: uf.CrossEntropy(scale=[1, 0]), r"scale\[1\] must be positive"),
        (lambda: uf.CrossEntropy(scale=[1, INF]), r"scale\[1\] must be positive and finite"),
        (lambda: uf.CrossEntropy(shift=[1, NAN]), r"shift\[1\] must lie in"),
        (lambda: uf.CrossEntropy(margin=[[1, 2]]), r"margin must be a sequence of numbers, not of shape \(1, 2\)"),
        (lambda: uf.CrossEntropy(margin=[]), r"margin must be a sequence of numbers"),
        (lambda: uf.BinaryCrossEntropy(-0.1), "label_smoothing"),
        (lambda: uf.Focal(-1), "gamma must be non-negative and finite"),
        (lambda: uf.Focal(INF), "gamma must be non-negative and finite"),
        (lambda: as_loss("focal"), r"'focal' needs parameters: give Focal\(gamma\)"),
        (lambda: as_loss("hinge"), "loss must be 'cross_entropy', 'mse', 'bce' or 'ordinal', not 'hinge'"),
        (lambda: described_loss({"loss": "focal"}), "lacks gamma"),
        (lambda: described_loss({"loss": "cross_entropy"}), "lacks label_smoothing"),
        (
            lambda: uf.UFM(3, 2, loss=uf.CrossEntropy(shift=[1, 2]), lambda_W=1, lambda_H=1),
            "shift must hold a number for each of the K = 3 classes, not 2",
        ),
        (
            lambda: uf.UFM(2, 2, loss=uf.CrossEntropy(shift=[1, 1e60]), lambda_W=1, lambda_H=1, dtype="float32"),
            "must be finite, but not so shift",
        ),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_that_are_no_numbers_are_refused():
    for make in (lambda: uf.Focal("2"), lambda: uf.CrossEntropy(scale=["a", "b"]), lambda: uf.CrossEntropy(True)):
        with pytest.raises(TypeError):
            make()
    with pytest.raises(TypeError):
        uf.Focal()


@pytest.mark.parametrize(
    ("loss", "row", "message"),
    [
        (uf.CrossEntropy(), [0.5, 0.4], "sum to one in every row, but row 1 sums to 0.9"),
        (uf.CrossEntropy(shift=[0, 1]), [1.5, -0.5], "but row 1 holds -0.5"),
        (uf.CrossEntropy(margin=[0, 1]), [1.0, 0.0], "of cross-entropy with a margin must be labels"),
        (uf.BinaryCrossEntropy(), [0.5, 1.25], r"must lie in \[0, 1\], but row 1 holds 1.25"),
        (uf.BinaryCrossEntropy(), [0.5, -0.25], "but row 1 holds -0.25"),
        (uf.Focal(1), [1.0, 0.0], "of focal loss must be labels"),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_targets_that_are_refused_are_named(loss, row, message, dtype):
    data = Rows(np.array([[0.5, 0.5], row]), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=message):
        rows_model(2, 3, data, loss=loss, lambda_W=1, lambda_H=1, dtype=dtype)
