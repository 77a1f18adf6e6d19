"""saddle against the oracle: exact critical points of the rank asked for, with a negative Hessian eigenvalue."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle

LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]
BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-2}, {"bias": False}]


def model(K, d, n, loss, **options):
    return uf.UFM(K, d, n, loss=loss, lambda_W=5e-4, lambda_H=5e-4 / np.mean(n), **options)


def relative_gradient(ufm, p):
    """|gradient| over tau |(A, B)|, and the singular values of A, in canonical class coordinates."""
    grad_W, grad_H, grad_b = Oracle.of(ufm).gradient(*p)
    rho, root = (ufm.lambda_H / ufm.lambda_W) ** 0.25, np.sqrt(ufm.counts)[:, None]
    A, B = p.W / rho, rho * root * p.H
    size = ufm.tau * np.hypot(np.linalg.norm(A), np.linalg.norm(B)) or np.linalg.norm(ufm.counts / ufm.N)
    norm = np.sqrt(
        (rho * grad_W).ravel() @ (rho * grad_W).ravel() + ((grad_H / (rho * root)) ** 2).sum() + grad_b @ grad_b
    )
    return norm / size, np.linalg.svd(A, compute_uv=False), np.linalg.svd(B, compute_uv=False)


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize(
    "n", [20, [500, 200, 90, 40, 15, 7, 5, 5], [50] * 4 + [6] * 4], ids=["balanced", "long", "two"]
)
def test_every_rank(n, loss, bias):
    ufm = model(8, 8, n, loss, **bias)
    for rank in range(7):
        p = uf.saddle(ufm, rank, seed=rank)
        error, singular_A, singular_B = relative_gradient(ufm, p)
        assert error < 1e-10
        for singular in (singular_A, singular_B):
            assert np.count_nonzero(singular > 1e-3) == rank
            assert singular[rank:].max() < 1e-12
        assert uf.classify(ufm, p).kind == "strict_saddle"


@given(
    st.integers(0, 3), st.sampled_from([5, 6, 9]), st.sampled_from(LOSSES), st.sampled_from(BIASES), st.integers(0, 99)
)
def test_negative_curvature_of_the_dense_hessian(rank, d, loss, bias, seed):
    counts = np.random.default_rng(seed).integers(1, 30, 5) if seed % 2 else np.full(5, 4)
    ufm = model(5, d, counts, loss, **bias)
    p = uf.saddle(ufm, rank, seed)
    # isometric coordinates sqrt(n_k) h_k, in which the lowest eigenvalue is that of the problem with a row a sample
    scale = np.concatenate([np.ones(5 * d), np.repeat(1 / np.sqrt(counts), d), np.ones(5 if ufm.bias else 0)])
    hessian = scale[:, None] * Oracle.of(ufm).hessian(*p) * scale
    lowest = np.linalg.eigvalsh(hessian)[0]
    G = Oracle.of(ufm).residuals(*p) / np.sqrt(counts)[:, None]
    norm = np.linalg.norm(G, 2)
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    assert lowest < 0
    assert lowest == pytest.approx(mean - np.hypot(half, norm), rel=1e-9)


def test_seed_chooses():
    for ufm in (
        model(6, 6, 20, "cross_entropy"),
        model(6, 6, 20, "mse"),
        model(6, 6, [9, 8, 7, 6, 5, 4], "cross_entropy"),
    ):
        scores = [p.W @ p.H.T for p in (uf.saddle(ufm, 2, seed) for seed in (0, 0, 1))]
        assert np.array_equal(scores[0], scores[1])
        assert np.abs(scores[0] - scores[2]).max() > 1e-2


def test_rows_per_sample_and_float32():
    collapsed, full = (model(5, 4, [4, 3, 2, 2, 1], "cross_entropy", collapse=c) for c in (True, False))
    p, q = uf.saddle(collapsed, 2), uf.saddle(full, 2)
    assert np.array_equal(full.expand(p).H, q.H)
    single = uf.saddle(model(5, 4, [4, 3, 2, 2, 1], "cross_entropy", dtype="float32"), 2)
    assert single.W.dtype == single.H.dtype == single.b.dtype == np.float32
    np.testing.assert_allclose(single.W, p.W, rtol=1e-6, atol=1e-6)


def test_wide_features_and_merged_groups_of_unequal_size():
    ufm = model(11, 40, 30, uf.CrossEntropy())
    for rank in (3, 4, 9):
        p = uf.saddle(ufm, rank)
        error, singular, _ = relative_gradient(ufm, p)
        assert error < 1e-11
        assert np.count_nonzero(singular > 1e-3) == rank
        norm = np.linalg.norm(Oracle.of(ufm).residuals(*p) / np.sqrt(30), 2)
        assert norm == pytest.approx(1 / (11 * np.sqrt(30)), rel=1e-12)  # contrasts within a group


@pytest.mark.parametrize("rank", [3, 20, 28, 33, 38])
def test_equal_counts_are_merged(rank):
    """40 classes with 29 distinct counts, in as many groups as the rank allows: fewer ranks than counts, and more."""
    counts = np.round(np.geomspace(300, 5, 40)).astype(int)
    distinct = len(np.unique(counts))
    ufm = model(40, 40, counts, uf.CrossEntropy(), lambda_b=1e-2)
    p = uf.saddle(ufm, rank, seed=1)
    error, singular, _ = relative_gradient(ufm, p)
    assert error < 1e-10
    assert np.count_nonzero(singular > 1e-3) == rank
    distances = np.linalg.norm(p.W[:, None] - p.W, axis=2)
    merged = distances < 1e-10 * np.linalg.norm(p.W)
    assert np.array_equal(merged & np.equal.outer(counts, counts), merged)
    assert len(np.unique(merged, axis=0)) == max(distinct, rank + 1)
    assert uf.classify(ufm, p).kind == "strict_saddle"


def test_ranks_without_saddles():
    ufm = model(6, 6, 20, "cross_entropy")
    for rank in (-1, 5, 6):
        with pytest.raises(ValueError, match=r"rank must be between 0 and 4"):
            uf.saddle(ufm, rank)
    with pytest.raises(ValueError, match=r"rank must be between 0 and 2"):
        uf.saddle(model(6, 3, 20, "cross_entropy"), 3)
    with pytest.raises(TypeError, match="rank must be an int"):
        uf.saddle(ufm, 1.0)
    with pytest.raises(ValueError, match="W = H = 0 is the global minimum"):
        uf.saddle(uf.UFM(6, 6, 20, lambda_W=1.0, lambda_H=1.0), 2)


def test_minority_collapse_leaves_fewer_ranks():
    counts = [100] * 4 + [1] * 4
    options = {"lambda_W": 1e-2, "lambda_H": 2e-3}
    for loss in ("cross_entropy", "mse"):
        ufm = uf.UFM(8, 8, counts, loss=loss, **options)
        W = uf.global_minimum(ufm).point.W
        optimum = np.linalg.matrix_rank(W, tol=1e-6)
        assert 2 < optimum < 5
        assert uf.classify(ufm, uf.saddle(ufm, optimum - 1)).kind == "strict_saddle"
        with pytest.raises(ValueError, match=r"the global\s+minimum"):
            uf.saddle(ufm, optimum + 1)
