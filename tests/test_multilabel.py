"""The angle metric of several labels against its definition, and what it refuses."""

import numpy as np
import pytest
from scipy import sparse

import ufm_fast as uf
from nc_definitions import multilabel_by_definition


def example(K=5, d=8, N=400, most=3, seed=0):
    """Features and targets of up to ``most`` labels; noise about sums of class means, which share an offset."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((N, K), dtype=np.int64)
    for row, size in zip(targets, rng.integers(1, most + 1, N), strict=True):
        row[rng.choice(K, size, replace=False)] = 1
    targets[:K] = np.eye(K)
    means = rng.standard_normal((K, d)) + 1
    return targets @ means + 0.3 * rng.standard_normal((N, d)), targets


@pytest.mark.parametrize("most", [2, 3])
def test_definition(most):
    H, targets = example(most=most)
    found = uf.multilabel_angles(H, targets)
    assert found.by_multiplicity[2].ratio == pytest.approx(multilabel_by_definition(H, targets), rel=1e-10)
    assert found.by_multiplicity.keys() == set(range(2, most + 1))
    assert (found.K, found.d, found.N, found.left_out) == (5, 8, 400, 0)


def test_only_some_pairs_and_single_labels_occur():
    H, targets = example(most=2)
    kept = (targets[:, 0] + targets[:, 1] < 2) & ~((targets[:, 4] == 1) & (targets.sum(axis=1) == 1))
    with pytest.warns(RuntimeWarning, match="4 label sets have no angle: a label has no sample of its own"):
        found = uf.multilabel_angles(H[kept], targets[kept])
    assert found.by_multiplicity[2].ratio == pytest.approx(multilabel_by_definition(H[kept], targets[kept]), rel=1e-10)
    assert found.by_multiplicity[2].sets == 5


def test_each_set_by_hand():
    H = np.array([[2.0, 0], [0, 2], [0, 4], [1, 1], [3, 0], [9, 9]])
    targets = np.array([[1, 0], [0, 1], [0, 1], [1, 1], [1, 1], [0, 0]])
    found = uf.multilabel_angles(H, targets)
    assert found.label_sets == ((0,), (1,), (0, 1))
    assert found.counts.tolist() == [1, 2, 2]
    angle = np.degrees(np.arctan2(3, 2) - np.arctan2(1, 4))
    np.testing.assert_allclose(found.angles, [np.nan, np.nan, angle], rtol=1e-12)
    assert found.by_multiplicity == {2: pytest.approx((1, angle, angle, 1.0))}
    assert (found.N, found.left_out) == (5, 1)


def test_three_labels_are_compared_with_the_sets_that_occur():
    H, targets = example(most=3)
    found = uf.multilabel_angles(H, targets)
    mean = {s: H[[tuple(np.flatnonzero(t)) == s for t in targets]].mean(axis=0) for s in found.label_sets}
    triples = [s for s in found.label_sets if len(s) == 3]

    def angle(s, t):
        u, v = mean[s], sum(mean[k,] for k in t)
        return np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))

    metric = found.by_multiplicity[3]
    assert metric.angle == pytest.approx(np.mean([angle(s, s) for s in triples]), rel=1e-10)
    assert metric.baseline == pytest.approx(np.mean([angle(s, t) for s in triples for t in triples]), rel=1e-10)


def test_collapse():
    """Exactly collapsed features have no angle, in float32 no more than rounding."""
    _, targets = example(most=3)
    features = (targets / targets.sum(axis=1, keepdims=True)) @ uf.simplex_etf(5, 8)
    for dtype, tolerance in (("float64", 1e-14), ("float32", 1e-6)):
        found = uf.multilabel_angles(features.astype(dtype), targets)
        assert max(metric.ratio for metric in found.by_multiplicity.values()) < tolerance
    assert str(found).splitlines()[1].split() == ["labels", "sets", "angle", "baseline", "ratio"]


def test_targets_of_any_type():
    H, targets = example()
    expected = uf.multilabel_angles(H, targets).by_multiplicity
    for other in (targets.astype(bool), targets.astype(np.float32), targets.tolist(), sparse.csr_array(targets),
                  sparse.coo_matrix(targets.astype(bool)), sparse.csc_array(targets.astype(np.uint8))):  # fmt: skip
        assert uf.multilabel_angles(H, other).by_multiplicity == expected


@pytest.mark.parametrize(
    ("error", "message", "targets"),
    [
        (ValueError, "targets must be 0 or 1, not 2", np.full((400, 5), 2)),
        (ValueError, r"targets must have shape \(N, K\), a row a sample, not \(400,\)", np.zeros(400, dtype=int)),
        (ValueError, "targets must have 400 rows, as many as H, not 5", np.zeros((5, 400), dtype=int)),
        (ValueError, "targets must give a label to some sample", np.zeros((400, 5), dtype=int)),
        (TypeError, "targets must be float32 or float64, not complex128", np.zeros((400, 5), dtype=complex)),
    ],
)
def test_bad_targets(error, message, targets):
    with pytest.raises(error, match=message):
        uf.multilabel_angles(example()[0], targets)
