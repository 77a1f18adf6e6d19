"""NC4: the counts are those of float64, and a second pass over other features is noticed."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf


def in_double(metrics, W, H, b):
    """The fraction, every decision in float64."""
    H = np.asarray(H).astype(np.float64)
    present = np.flatnonzero(metrics.counts)
    M = (metrics.class_means - metrics.global_mean)[present]
    nearest = present[np.argmax((H - metrics.global_mean) @ M.T - (M**2).sum(axis=1) / 2, axis=1)]
    return np.mean(np.argmax(H @ W.T + b, axis=1) == nearest)


@given(
    seed=st.integers(0, 10**6), K=st.integers(2, 25), d=st.integers(1, 40), offset=st.sampled_from([0, 3, 1e4]),
    dtype=st.sampled_from(["float16", "float32", "float64"]), exponent=st.integers(-1, 1),
    noise=st.sampled_from([0, 1e-6, 0.01, 0.1, 0.5, 3]), wrong=st.sampled_from([0.01, 0.5, 2]),
)  # fmt: skip
def test_counts_are_those_of_float64(seed, K, d, offset, dtype, exponent, noise, wrong):
    """However far the classes have collapsed, and whether the classifier agrees with their means."""
    scale = {"float16": 1.0, "float32": 1e30**exponent, "float64": 1e120**exponent}[dtype]
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, 400)
    means = rng.standard_normal((K, d))
    H = (scale * (means[labels] + noise * rng.standard_normal((400, d)) + offset)).astype(dtype)
    W = means + wrong * rng.standard_normal((K, d))
    b = scale * rng.standard_normal(K)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = uf.nc_metrics(W, H, labels, b)
    if found.rank_means > 0:
        assert found.nc4_agreement == in_double(found, W, H, b)


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_samples_too_near_to_a_boundary_for_float32(size):
    """Logits that differ by what only float64 sees, on either side, with a large part in common."""
    rng = np.random.default_rng(0)
    K, d, N = 6, 50, 3000
    W = rng.standard_normal((K, d))
    one, other = rng.integers(0, K, N), rng.integers(0, K, N)
    differences = W[one] - W[other]
    H = rng.standard_normal((N, d)) + 5 * W[one] + 5 * W[other]
    squares = np.maximum((differences**2).sum(axis=1), 1e-9)
    H -= differences * ((H * differences).sum(axis=1) / squares)[:, None]  # on the boundary
    H += differences * 10.0 ** rng.uniform(-12, -5, (N, 1)) * rng.choice([-1, 1], (N, 1))
    H, labels = size * H, np.minimum(one, other)
    labels[:K] = np.arange(K)
    found = uf.nc_metrics(W, H, labels)
    assert found.nc4_agreement == in_double(found, W, H, 0)
    single = H.astype(np.float32)
    assert np.mean(np.argmax(single @ W.T.astype(np.float32), axis=1) != np.argmax(H @ W.T, axis=1)) > 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [0, 0.3])
@pytest.mark.parametrize("offset", [0, 100])
def test_samples_on_the_rim_of_the_ball_in_which_decisions_are_those_of_the_mean(dtype, turned, offset):
    """In pairs about their class's mean, on the way to the boundary with another class, a little before or behind."""
    rng = np.random.default_rng(2)
    K, d, pairs = 5, 12, 400
    means = rng.standard_normal((K, d)) + offset
    W = means - means.mean(axis=0) + turned * rng.standard_normal((K, d))
    b = -(W * means).sum(axis=1) / 2 if turned else -(W**2).sum(axis=1) / 2 - W @ means.mean(axis=0)
    labels, k = rng.integers(0, K, pairs), rng.integers(0, K, pairs)
    away = np.where(rng.random(pairs) < 0.5, 1, 0)[:, None]  # from the boundary of logits, or of distances
    normals = away * (W[k] - W[labels]) + (1 - away) * (means[k] - means[labels])
    heights = (W[labels] * means[labels]).sum(axis=1) + b[labels] - (W[k] * means[labels]).sum(axis=1) - b[k]
    heights = np.where(away[:, 0] == 1, heights, (normals**2).sum(axis=1) / 2)
    squares = np.maximum((normals**2).sum(axis=1), 1e-300)
    factors = 1 + rng.choice([-1, 1], pairs) * 10.0 ** rng.uniform(-10, -2, pairs)
    steps = (factors * heights / squares)[:, None] * normals
    steps[k == labels] = 0
    H = np.concatenate([means[labels] + steps, means[labels] - steps]).astype(dtype)
    labels = np.tile(labels, 2)
    found = uf.nc_metrics(W, H, labels, b)
    assert found.nc4_agreement == in_double(found, W, H, b)
    accumulator = uf.NCAccumulator(K, d).update(H, labels)
    for wrong in (labels, (labels + 1) % K, rng.permutation(labels)):  # labels say where to look, not what is true
        assert accumulator.result(W, b, batches=[(H, wrong)]).nc4_agreement == found.nc4_agreement


def test_ties_go_to_the_first_class():
    W = np.array([[1.0, 0], [1, 0], [0, 1]])
    H = np.array([[1.0, 0], [2, 0], [0, 3], [0, 4]])
    for first, agreement in ((0, 1), (1, 0.5)):
        with pytest.warns(RuntimeWarning, match="1 of 3 classes have no samples"):
            assert uf.nc_metrics(W, H, [first, first, 2, 2]).nc4_agreement == agreement


def test_the_largest_logit_may_be_that_of_a_class_without_samples():
    W = np.array([[1.0, 0], [0, 1], [5, 5]])
    H = np.array([[1.0, 0], [1.2, 0], [0, 1], [-1, 1]])
    with pytest.warns(RuntimeWarning, match="1 of 3 classes have no samples"):
        assert uf.nc_metrics(W, H, [0, 0, 1, 1]).nc4_agreement == 0.25


@pytest.fixture
def seen():
    """An accumulator, its features, W."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 5000)
    H = (rng.standard_normal((5, 20))[labels] + rng.standard_normal((5000, 20)) + 10).astype(np.float32)
    return uf.NCAccumulator(5, 20).update(H, labels), H, rng.standard_normal((5, 20))


@pytest.mark.parametrize("change", ["one sample", "one entry", "another set", "in part twice"])
def test_another_second_pass_of_as_many_samples_is_refused(seen, change):
    accumulator, H, W = seen
    other = H.copy()
    if change == "one sample":
        other[17] = other[18]
    elif change == "one entry":
        other[17, 3] += 1e-4
    elif change == "another set":
        other = H + np.random.default_rng(2).standard_normal(H.shape).astype(np.float32)
    else:
        other[4000:] = H[:1000]
    with pytest.raises(ValueError, match=r"must be the features that were counted.* off by .* rounding may have done"):
        accumulator.result(W, batches=[other[:3000], other[3000:]])


def test_the_same_features_in_another_order_or_precision_pass(seen):
    accumulator, H, W = seen
    order = np.random.default_rng(3).permutation(len(H))
    expected = in_double(accumulator.result(W), W, H, 0)
    for batches in ([H[order]], np.array_split(H, 700), [H[:9].astype(float), H[9:]]):
        assert accumulator.result(W, batches=batches).nc4_agreement == expected
    exact = H.astype(np.float64) + 1e-9
    labels = np.random.default_rng(1).integers(0, 5, 5000)
    double = uf.NCAccumulator(5, 20).update(exact, labels)
    assert double.result(W, batches=[exact.astype(np.float32)]).nc4_agreement == pytest.approx(expected, abs=1e-3)


@given(seed=st.integers(0, 10**6), offset=st.sampled_from([0.0, 1e3, 1e7]), scale=st.sampled_from([1e-30, 1, 1e30]))
def test_the_sum_of_the_same_features_is_never_refused(seed, offset, scale):
    """The largest rounding there is: naive sums of numbers of one sign, in order of size."""
    rng = np.random.default_rng(seed)
    dtype = rng.choice(["float32", "float64"])
    H = (scale * np.sort(rng.pareto(1, (2000, 3)) + offset, axis=0)).astype(dtype)
    labels = rng.integers(0, 3, 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = uf.nc_metrics(rng.standard_normal((3, 3)), H, labels)
    assert 0 <= found.nc4_agreement <= 1 or found.rank_means == 0


def test_features_that_are_not_finite_the_second_time(seen):
    accumulator, H, W = seen
    H[7, 2] = np.nan
    with pytest.raises(ValueError, match="batches must be finite"):
        accumulator.result(W, batches=[H])


def test_labels_leave_samples_out_in_the_second_pass_as_in_the_first(seen):
    _, H, W = seen
    labels = np.random.default_rng(1).integers(0, 5, 5000)
    kept = labels != 3
    accumulator = uf.NCAccumulator(5, 20, ignore_index=[3, 7]).update(H, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # class 3 has no samples
        expected = in_double(accumulator.result(W), W, H[kept], 0)
        for batches in ([H[kept]], [[H, labels]], zip(np.array_split(H, 9), np.array_split(labels, 9), strict=True)):
            assert accumulator.result(W, batches=batches).nc4_agreement == expected
    with pytest.raises(ValueError, match=f"must hold the {kept.sum()} samples that were counted, once more, not 5000"):
        accumulator.result(W, batches=[H])
