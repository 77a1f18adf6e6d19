"""The Hessian in the coordinates of the full-sample problem, and the projector onto the rotations."""

import numpy as np
import pytest
import scipy.sparse.linalg

import ufm_fast as uf

DECAYS = {"lambda_W": 0.02, "lambda_H": 0.01}
COUNTS = {"balanced": [4, 4, 4], "unbalanced": [5, 2, 1]}


def samples_of(ufm):
    return uf.UFM(ufm.K, ufm.d, ufm.counts, **DECAYS, lambda_b=ufm.lambda_b, bias=ufm.bias, collapse=False)


def dense(operator):
    return operator @ np.eye(operator.shape[0], dtype=operator.dtype)


def explicit_rotations(W, H, biases):
    """The tangents (W S, H S, 0), one for each pair of features, and what they span, by a decomposition."""
    d = W.shape[1]
    tangents = []
    for i in range(d):
        for j in range(i):
            S = np.zeros((d, d))
            S[i, j], S[j, i] = 1, -1
            tangents.append(np.concatenate([(W @ S).ravel(), (H @ S).ravel(), np.zeros(biases)]))
    left, values, _ = np.linalg.svd(np.array(tangents).T, full_matrices=False)
    return left[:, values > 1e-10 * max(values.max(), 1e-300)]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("bias", [True, False])
def test_eigenvalues_are_those_of_a_row_a_sample(counts, bias):
    """All of them are eigenvalues of the Hessian with a row a sample; its others belong to moves within classes."""
    ufm = uf.UFM(3, 2, COUNTS[counts], **DECAYS, lambda_b=0.1 * bias, bias=bias)
    p = ufm.random_point(1, scale=0.5)
    full = samples_of(ufm)
    of_samples = full.hessian(full.expand(p))
    expected = np.linalg.eigvalsh(dense(of_samples))
    for value in np.linalg.eigvalsh(dense(ufm.hessian(p, coordinates="samples"))):
        assert abs(expected - value).min() < 1e-13
    assert np.array_equal(dense(of_samples), dense(full.hessian(full.expand(p), coordinates="samples")))


@pytest.mark.parametrize("counts", COUNTS)
def test_eigensolvers_and_lowest_eigenpairs_agree(counts):
    ufm = uf.UFM(3, 3, COUNTS[counts], **DECAYS, lambda_b=0.1)
    p = uf.saddle(ufm, 1)
    lowest = uf.lowest_eigenpairs(ufm, p, 2, deflate=False).eigenvalues
    assert lowest[0] == pytest.approx(uf.classify(ufm, p).lowest_eigenvalue, rel=1e-10)
    samples, packed = ufm.hessian(p, coordinates="samples"), ufm.hessian(p)
    metric = scipy.sparse.diags(ufm.metric)
    for values in (
        scipy.sparse.linalg.eigsh(samples, 2, which="SA", return_eigenvectors=False),
        scipy.sparse.linalg.eigsh(packed, 2, M=metric, Minv=scipy.sparse.diags(1 / ufm.metric), which="SA")[0],
    ):
        assert np.sort(values) == pytest.approx(lowest, rel=1e-8)
    alone = scipy.sparse.linalg.eigsh(packed, 1, which="SA", return_eigenvectors=False)
    assert alone[0] < 1.04 * lowest[0]  # which is why there are two coordinates


def test_the_metric_is_that_of_the_samples():
    ufm = uf.UFM(3, 2, [5, 2, 1], **DECAYS, lambda_b=0.1)
    p, q = ufm.random_point(1), ufm.random_point(2)
    full = samples_of(ufm)
    inner = full.pack(full.expand(p)) @ full.pack(full.expand(q))
    assert ufm.pack(p) @ (ufm.metric * ufm.pack(q)) == pytest.approx(inner, rel=1e-14)
    rows = uf.UFM(2, 1, targets=[0, 1, 1], n=[2, 1, 1], ridges=[3.0, 0.5, 1], bias=False, **DECAYS)
    assert rows.metric.tolist() == [1, 1, 3, 0.5, 1]


SHAPES = [(3, 3, None), (3, 2, None), (2, 9, None), (4, 4, 2), (4, 6, 1)]


@pytest.mark.parametrize("coordinates", ["packed", "samples"])
@pytest.mark.parametrize(("K", "d", "rank"), SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rotations_against_explicit_tangents(K, d, rank, coordinates, dtype):
    ufm = uf.UFM(K, d, np.arange(1, K + 1), **DECAYS, lambda_b=0.1, dtype=dtype)
    p = ufm.random_point(3)
    if rank is not None:
        onto = np.zeros((d, d), dtype)
        onto[:rank, :rank] = np.eye(rank)
        p = uf.Point(p.W @ onto, p.H @ onto, p.b)
    H = p.H if coordinates == "packed" else p.H * np.sqrt(ufm.counts)[:, None]
    tangents = explicit_rotations(*(np.asarray(part, float) for part in (p.W, H)), K)
    projector = ufm.rotations(p, coordinates=coordinates)
    rounding = 1e-12 if dtype == "float64" else 1e-5
    assert projector.dimension == tangents.shape[1]
    np.testing.assert_allclose(dense(projector), tangents @ tangents.T, atol=rounding)
    assert projector.dtype == dtype
    np.testing.assert_allclose(dense(projector.H), dense(projector).T, atol=rounding)


@pytest.mark.parametrize("rounding", [0.0, 1e-14, 1e-9])
@pytest.mark.parametrize("coordinates", ["packed", "samples"])
def test_rotations_are_the_null_space_at_a_minimum(coordinates, rounding):
    """Only they are: what is left of the Hessian across them is definite. What rounding fills does not count."""
    ufm = uf.UFM(4, 5, [7, 5, 2, 1], **DECAYS, lambda_b=0.1)
    W, H, b = uf.minimize(ufm, tol=1e-12).point
    if rounding:
        rng = np.random.default_rng(1)
        W, H = (X + rounding * rng.standard_normal(X.shape) for X in (W, H))
    p = uf.Point(W, H, b)
    assert ufm.rotations(p, coordinates=coordinates).dimension == 3 * 2 + 3
    hessian = dense(ufm.hessian(p, coordinates=coordinates))
    projector = dense(ufm.rotations(p, coordinates=coordinates))
    assert np.linalg.norm(hessian @ projector) < 1e-7
    values = np.linalg.eigvalsh(hessian + projector)  # eigenvalue 1 on the null space
    assert values[0] > 1e-3


def test_a_point_of_zeros_has_no_rotations():
    ufm = uf.UFM(3, 3, **DECAYS)
    projector = ufm.rotations(ufm.unpack(np.zeros(ufm.size)))
    assert projector.dimension == 0
    assert not dense(projector).any()


def test_what_is_refused():
    ufm = uf.UFM(3, 3, **DECAYS)
    p = ufm.random_point(0)
    for method in (ufm.hessian, ufm.rotations):
        with pytest.raises(ValueError, match="coordinates must be 'packed' or 'samples', not 'full'"):
            method(p, coordinates="full")
    with pytest.raises(TypeError, match="v must not be a masked array"):
        ufm.rotations(p) @ np.ma.ones(ufm.size)
