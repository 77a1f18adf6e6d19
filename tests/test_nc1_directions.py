"""Which directions of class means NC1 keeps: those that are more than the rounding of sums in double, and no fewer."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf


def nc1_of_all_directions(H, labels, K, rank):
    """trace(S_W S_B^+) / K in float64 from a singular value decomposition of the means, the first class's mean at 0."""
    H = H.astype(np.float64)
    H = H - H[labels == 0].mean(axis=0)
    means = np.array([H[labels == k].mean(axis=0) for k in range(K)])
    deviations = H - means[labels]
    _, values, directions = np.linalg.svd(means - H.mean(axis=0), full_matrices=False)
    assert values[rank - 1] > 1e-9 * values[0]  # so that what is inverted is far from the rounding of float64
    along = deviations @ directions[:rank].T / values[:rank]
    return (along**2).sum() / len(H)


@pytest.mark.parametrize("shift", [0, 2622, 1e6])
def test_one_feature_with_an_offset(shift):
    """The offset is no part of what class means differ in, but of their size."""
    rng = np.random.default_rng(0)
    K, d, n = 500, 768, 4
    labels = np.arange(K * n) % K
    H = (rng.standard_normal((K, d))[labels] / 2 + rng.standard_normal((K * n, d)) / 4).astype(np.float32)
    H[:, 3] += np.float32(shift)
    found = uf.nc_metrics(np.eye(K, d), H, labels)
    assert found.rank_means == K - 1
    assert found.nc1 == pytest.approx(nc1_of_all_directions(H, labels, K, K - 1), rel=1e-6)


@pytest.mark.parametrize("exponent", [2.0, 2.5])
def test_more_classes_than_features_of_very_different_size(exponent):
    rng = np.random.default_rng(1)
    K, d, n = 2000, 64, 3
    labels = np.arange(K * n) % K
    sizes = np.arange(1, d + 1) ** -exponent
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    means = (rng.standard_normal((K, d)) * sizes) @ turn
    H = (means[labels] + sizes[-1] * rng.standard_normal((K * n, d))).astype(np.float32)
    W = means.astype(np.float32)
    found = uf.nc_metrics(W, H, labels)
    assert found.rank_means == found.rank_W == d
    expected = nc1_of_all_directions(H, labels, K, d)
    assert found.nc1 == pytest.approx(expected, rel=1e-3)
    assert uf.nc_metrics(W, H.astype(float), labels).nc1 == pytest.approx(expected, rel=1e-9)


def test_a_classifier_of_low_rank_in_float32_has_low_rank():
    rng = np.random.default_rng(2)
    W = (rng.standard_normal((300, 5)) @ rng.standard_normal((5, 40))).astype(np.float32)
    labels = np.arange(600) % 300
    H = rng.standard_normal((600, 40))
    assert uf.nc_metrics(W, H, labels).rank_W == 5
    assert uf.nc_metrics(W.astype(float), H, labels).rank_W == 40  # where it is what it says


def features_with_an_offset(small):
    """Four classes that differ by about 1 in two directions and by ``small`` in a third; features of size 1e8."""
    rng = np.random.default_rng(3)
    labels = np.arange(80) % 4
    means = np.array([[1.0, 0, small], [-1, 0, small], [0, 1, -small], [0, -1, -small]])
    H = np.zeros((80, 6))
    H[:, :3] = means[labels] + 0.1 * rng.standard_normal((80, 3)) * [1, 1, small]
    H[:, 5] = 1e8
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    return H, labels, turn


def test_directions_below_the_rounding_are_left_out_with_a_warning():
    H, labels, turn = features_with_an_offset(1e-10)
    with pytest.warns(RuntimeWarning, match="NC1 leaves out 1 of 3 directions, in which class means differ by no more"):
        found = uf.nc_metrics(turn[:4], H @ turn, labels)
    assert found.rank_means == 2
    H[:, 2] = 0
    H[:, 5] -= 1e8
    assert found.nc1 == pytest.approx(nc1_of_all_directions(H, labels, 4, 2), rel=0.2)


def test_directions_near_the_rounding_make_nc1_uncertain():
    rng = np.random.default_rng(8)
    labels = np.arange(60) % 3
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    means = np.array([[1, 0, 0, 1e8], [-1, 1e-7, 0, 1e8], [0, 0, 0, 1e8]])
    H = (means[labels] + 1e-8 * rng.standard_normal((60, 4)) * [1, 1, 1, 0]) @ turn
    with pytest.warns(RuntimeWarning, match="NC1 may be off by more than 1%"):
        found = uf.nc_metrics(rng.standard_normal((3, 4)), H, labels)
    assert found.rank_means == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uf.nc_metrics(rng.standard_normal((3, 4)), H - means[2] @ turn, labels)


def test_means_that_differ_by_no_more_than_rounding_have_a_true_reason():
    """Features on the grid of doubles at 1e8: means of twenty lie between its points, but doubles do not."""
    rng = np.random.default_rng(3)
    H, labels = 1e8 + np.spacing(1e8) * rng.integers(0, 2, (80, 6)), np.arange(80) % 4
    with pytest.warns(RuntimeWarning, match=r"class means differ by no more than rounding may have done \("):
        found = uf.nc_metrics(rng.standard_normal((4, 6)), H, labels)
    assert np.isnan(found.nc1)
    assert found.rank_means == 0


def test_features_that_are_always_zero_are_no_direction_left_out():
    rng = np.random.default_rng(4)
    labels = np.arange(90) % 30
    H = np.zeros((90, 12), dtype=np.float32)
    H[:, 2:10:2] = rng.standard_normal((30, 4))[labels] + rng.standard_normal((90, 4))
    H[:, 3] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = uf.nc_metrics(rng.standard_normal((30, 12)), H, labels)
    assert found.rank_means == 4
    assert found.nc1 == pytest.approx(nc1_of_all_directions(H, labels, 30, 4), rel=1e-5)


def test_within_class_variation_that_float32_products_do_not_resolve():
    rng = np.random.default_rng(5)
    K, d, n = 200, 24, 20
    labels = np.arange(K * n) % K
    sizes = 2.0 ** -np.arange(d)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    H = (rng.standard_normal((K, d))[labels] * sizes + 0.1 * rng.standard_normal((K * n, d)) * sizes) @ turn
    W, single = rng.standard_normal((K, d)), H.astype(np.float32)
    with pytest.warns(RuntimeWarning, match="less than the products of float32 features resolve: pass float64"):
        rough = uf.nc_metrics(W, single, labels).nc1
    expected = nc1_of_all_directions(single, labels, K, d)
    assert abs(rough / expected - 1) > 1e-3
    assert uf.nc_metrics(W, single.astype(float), labels).nc1 == pytest.approx(expected, rel=1e-4)


@given(
    seed=st.integers(0, 10**6),
    offset=st.sampled_from([0.0, 1.0, 1e6, 1e15]),
    cuts=st.lists(st.integers(1, 299), max_size=4),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 3),
)
def test_class_means_are_as_close_to_the_exact_ones_as_they_say(seed, offset, cuts, dtype, threads):
    """With outliers first, in batches some of which are merged, against sums of fractions."""
    rng = np.random.default_rng(seed)
    K, d, N = 3, 2, 300
    labels = rng.permutation(np.arange(N) % K)
    H = (offset + rng.standard_normal((N, d)) * 10 ** rng.uniform(-3, 3)).astype(dtype)
    H[: rng.integers(3)] *= 1000
    merged = uf.NCAccumulator(K, d, threads=threads)
    for i, rows in enumerate(np.split(np.arange(N), sorted(cuts))):
        if i % 2:
            merged.merge(uf.NCAccumulator(K, d).update(H[rows], labels[rows]))
        else:
            merged.update(H[rows], labels[rows])
    means, roundings, _, _ = merged._statistics.read(threads)
    for k in range(K):
        rows = H[labels == k].tolist()
        error = [Fraction(mean) - sum(map(Fraction, column)) / len(rows)
                 for mean, column in zip(means[k], zip(*rows, strict=True), strict=True)]  # fmt: skip
        assert sum(part * part for part in error) <= Fraction(roundings[k]) ** 2
        size = np.abs(H[labels == k]).max() + 1e-300
        assert roundings[k] <= 1e-12 * size


def test_the_allowance_does_not_grow_with_readings_or_merges_of_nothing():
    rng = np.random.default_rng(6)
    H, labels = rng.standard_normal((100, 4)) + 7, np.arange(100) % 2
    accumulator = uf.NCAccumulator(2, 4).update(H, labels)
    before = accumulator._statistics.read(1)[1]
    for _ in range(100):
        accumulator.merge(uf.NCAccumulator(2, 4))
        after = accumulator._statistics.read(1)[1]
    assert np.array_equal(before, after)


# Metrics that are undefined say why


@pytest.mark.parametrize(
    ("message", "W"),
    [
        ("W is zero: metrics of W are undefined", np.zeros((3, 4))),
        ("W is zero in the row of class 20: cosines of W are undefined", np.eye(3, 4) * [[1], [1], [0]]),
        ("all rows of W are equal: metrics of centred W are undefined", np.tile([0.1, 0.7, 1.3, -0.1], (3, 1))),
        ("the mean of W's rows is the row of class 10: cosines of centred W",
         np.array([0.3, -0.9, 0.1])[:, None] @ [[0.1, 0.2, 0.7, 0.1]] - 1 / 3),
        ("each row of W is orthogonal to each class mean: nc3_product is undefined", np.eye(4)[[3, 3, 3]]),
    ],
)  # fmt: skip
def test_classifiers_whose_metrics_are_undefined(message, W):
    if "mean of W's rows" in message:
        W[0] = (W[1] + W[2]) / 2
    H = np.array([[1.0, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 0]])[[0, 1, 2, 0, 1, 2]]
    H[:3] += 0.1 * np.eye(3, 4)
    names = np.array([10, 30, 20])
    with pytest.warns(RuntimeWarning) as caught:
        found = uf.nc_metrics(W, H, names[[0, 1, 2] * 2], classes=names)
    assert any(message in str(warning.message) for warning in caught)
    undefined = [name for name, value in found.scalars().items() if value != value]
    named = {"W is zero:": "nc2_W", "W is zero in": "cosine_mean_W", "all rows": "nc2_W_centred",
             "the mean": "equiangularity_W_centred", "each row": "nc3_product"}  # fmt: skip
    assert next(name for start, name in named.items() if message.startswith(start)) in undefined


def test_a_class_in_the_middle_has_no_cosine():
    means = np.array([[0.1, 0.3], [0.7, -0.4], [0.4, -0.05]])
    H = np.repeat(means, 3, axis=0) + 0.01 * np.tile([[1.0, 1], [-1, 0], [0, -1]], (3, 1))
    with pytest.warns(RuntimeWarning) as caught:
        found = uf.nc_metrics(np.eye(3, 2), H, np.repeat(np.arange(3), 3))
    assert any("the mean of class 2 is the global mean" in str(warning.message) for warning in caught)
    assert np.isnan(found.cosine_mean_means)
    assert found.nc2_means > 0


@pytest.mark.parametrize("scale", [1e-120, 1e-60, 1e60, 1e120])
def test_sizes_do_not_matter_to_geometry(scale):
    rng = np.random.default_rng(7)
    W, H, labels = rng.standard_normal((4, 6)), rng.standard_normal((40, 6)), np.arange(40) % 4
    expected, found = uf.nc_metrics(W, H, labels), uf.nc_metrics(scale * W, scale * H, labels)
    for name, value in expected.scalars().items():
        if name.startswith(("nc", "equi", "cos", "rank")):
            size = scale if name == "nc0" else 1  # which is the length of a vector
            assert getattr(found, name) == pytest.approx(size * value, rel=1e-9), name
