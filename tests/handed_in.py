"""A small network's arrays, and the comparison of what is measured of two."""

import numpy as np
import pytest

K, D, N = 5, 7, 60


def example():
    rng = np.random.default_rng(0)
    means, labels = rng.standard_normal((K, D)), rng.integers(0, K, N)
    labels[:K] = np.arange(K)
    H = means[labels] + 0.3 * rng.standard_normal((N, D))
    return {"W": means + 0.3 * rng.standard_normal((K, D)), "H": H, "labels": labels, "b": rng.standard_normal(K)}


def assert_same(found, expected, rel=1e-12):
    assert np.array_equal(found.counts, expected.counts)
    for name in ("N", "nc1", "cdnv", "nc2_means", "nc3_product", "nc4_agreement", "bias_term", "norm_ratio"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=rel), name
