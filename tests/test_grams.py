"""The parts of spectra that classify asks for, against full eigendecompositions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufm_fast._numerics import gram_spectra as _grams


def with_spectrum(values, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    gram = (Q * values) @ Q.T
    return (gram + gram.T) / 2


SPECTRA = {
    "spread": np.linspace(0, 1, 300) ** 2,
    "multiple": np.repeat([0.0, 1.0, 4.0], 100),
    "clustered at the top": np.concatenate([np.linspace(0, 1, 200), 1 + 1e-6 * np.random.default_rng(0).random(100)]),
    "tiny": 1e-30 * np.linspace(0, 1, 40),
    "zero": np.zeros(5),
    "one": np.array([3.0]),
}


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA.keys())
@pytest.mark.parametrize("threads", [1, 2])
def test_leading_pair(values, threads):
    gram = with_spectrum(values)
    largest, vector = _grams.leading_pair(gram, threads)
    assert largest == pytest.approx(np.linalg.eigvalsh(gram)[-1], rel=_grams.norm_rounding(len(gram)), abs=0)
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-12)
    assert np.linalg.norm(gram @ vector - largest * vector) <= 1e-8 * largest


def test_a_start_without_the_leading_vector_is_noticed(monkeypatch):
    """Lanczos then converges to the next eigenvalue, and the factorisation says that there is a larger one."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 10.0])

    def misled(gram, count, tolerance, threads):
        return np.array([4.0]), np.eye(5)[3:4], True

    monkeypatch.setattr(_grams, "leading_pairs", misled)
    largest, vector = _grams.leading_pair(np.diag(values), 1)
    assert largest == 10
    assert abs(vector[4]) == 1


@given(size=st.integers(1, 60), seed=st.integers(0, 99), data=st.data())
def test_rank_and_least(size, seed, data):
    rng = np.random.default_rng(seed)
    rank = data.draw(st.integers(0, size))
    values = np.zeros(size)
    values[:rank] = 10.0 ** rng.uniform(-7, 0, rank)
    gram, threshold = with_spectrum(values, seed), 1e-12
    if rank < size:
        gram += with_spectrum(1e-14 * rng.random(size), seed)
    found, vectors = _grams.rank_and_least(gram, threshold)
    assert found == rank
    assert vectors.shape[1] <= max(1, size - rank)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-12)
    quotients = np.diag(vectors.T @ gram @ vectors)
    assert (quotients <= (threshold if rank < size else 1.1 * values.min())).all()


def test_rank_and_least_at_an_eigenvalue():
    """The shifted matrix is singular: LAPACK has nothing to solve with."""
    rank, vectors = _grams.rank_and_least(np.diag([1.0, 2.0, 3.0]), 2.0)
    assert rank == 1
    np.testing.assert_allclose(abs(vectors), np.eye(3, 2), atol=1e-15)
