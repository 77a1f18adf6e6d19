"""simplex_etf: unit rows, equal cosines, and what it refuses."""

import numpy as np
import pytest

import ufm_fast as uf


@pytest.mark.parametrize("extra", [-1, 0, 3])
@pytest.mark.parametrize("K", [2, 3, 10, 500])
def test_unit_rows_with_equal_cosines(K, extra):
    W = uf.simplex_etf(K, K + extra)
    assert W.shape == (K, K + extra)
    assert W.dtype == np.float64
    cosines = np.full((K, K), -1 / (K - 1))
    np.fill_diagonal(cosines, 1.0)
    np.testing.assert_allclose(W @ W.T, cosines, rtol=0, atol=2e-14)
    np.testing.assert_allclose(W.sum(axis=0), 0, atol=1e-13)


def test_it_is_collapsed_by_every_measure_of_angles():
    W = uf.simplex_etf(7, 9)
    metrics = uf.nc_metrics(W, np.repeat(W, 2, axis=0), np.repeat(np.arange(7), 2))
    assert max(metrics.nc2_W, metrics.nc2_means, metrics.nc3_product, metrics.nc3_duality) < 1e-14


@pytest.mark.parametrize(
    ("K", "d", "error", "message"),
    [
        (5, 3, ValueError, "d must be at least K - 1 = 4"),
        (1, 3, ValueError, "K must be at least 2"),
        (3, 0, ValueError, "d must be at least 1"),
        (3.0, 3, TypeError, "K must be an int"),
        (3, True, TypeError, "d must be an int"),
        (10, 2**60, ValueError, "K = 10 and d = "),
    ],
)
def test_refused(K, d, error, message):
    with pytest.raises(error, match=message):
        uf.simplex_etf(K, d)
