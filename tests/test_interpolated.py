"""Minima interpolated between nodes of the class counts, against full matrices, certificates and the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle
from ufm_fast._exact.count_panels import CountPanels
from ufm_fast._optimize.interpolated import NodesProblem, interpolated_minimum

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-14}, {"lambda_b": 1e-2}, {"lambda_b": 1.0}, {"bias": False}]


def model(counts, collapse, smoothing=0.0, **bias):
    """A model in which classes of so many samples are just given up."""
    K = len(counts)
    tau = (1 - smoothing) * np.sqrt(collapse) / np.sum(counts)
    return uf.UFM(K, K, counts, loss=uf.CrossEntropy(smoothing), lambda_W=10 * tau, lambda_H=tau / 10, **bias)


@st.composite
def models(draw):
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    K = draw(st.integers(30, 150))
    counts = draw(st.sampled_from([
        np.geomspace(draw(st.integers(50, 10**6)), draw(st.integers(1, 30)), K),
        draw(st.integers(500, 10**6)) / np.arange(1, K + 1),
        generator.uniform(1, draw(st.integers(100, 10**5)), K),
        100 * np.exp(1.5 * generator.standard_normal(K)),
    ]))  # fmt: skip
    counts = np.maximum(1, np.round(counts)).astype(int)
    collapse = np.quantile(counts, draw(st.floats(0, 1))) * 10 ** draw(st.sampled_from([-3.0, 0.0, 0.01]))
    return model(counts, collapse, draw(st.sampled_from([0.0, 0.1])), **draw(st.sampled_from(BIASES)))


@settings(max_examples=20)
@given(models())
def test_certified_and_right(ufm):
    found = interpolated_minimum(ufm)
    if found is None:
        assert len(set(ufm.counts)) == 1
        return
    point, certificate = found
    p = point.point()
    assert abs(certificate.loss - Oracle.of(ufm).loss(*p)) <= certificate.rounding + 1e-13 * certificate.loss
    assert certificate.relative_gap <= 1e-8
    full = uf.certify(ufm, p)
    assert full.relative_gap <= 1e-8
    assert certificate.lower_bound <= full.loss + full.rounding
    assert full.lower_bound <= certificate.loss + certificate.rounding
    for k in (0, ufm.K - 1):
        np.testing.assert_allclose(point.logits(k), p.W @ p.H[k] + (p.b if ufm.bias else 0), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("collapse", [3.5, 60.0, 1000.0])
def test_sums_over_classes_are_sums_over_nodes(collapse):
    counts = np.unique(np.round(2e4 / np.arange(1, 400))).astype(float)
    classes = np.random.default_rng(0).integers(1, 5, len(counts)).astype(float)
    panels = CountPanels(counts, classes, collapse)
    assert len(panels.node_samples) < len(counts) / 3
    assert panels.node_classes.min() >= 1
    for panel in panels.panels:
        above = counts[panel.counts] > collapse
        assert above.all() or not above.any()
        roots, nodes = np.sqrt(counts[panel.counts]), np.sqrt(panels.node_samples[panel.nodes])
        for degree in range(2 * len(nodes)):
            expected = classes[panel.counts] @ (roots / roots[-1]) ** degree
            assert panels.node_classes[panel.nodes] @ (nodes / roots[-1]) ** degree == pytest.approx(
                expected, rel=1e-12
            )
        np.testing.assert_allclose(panel.basis.T @ panel.basis, np.eye(len(nodes)), atol=1e-13)
        np.testing.assert_allclose(panel.lagrange @ nodes**2, roots**2, rtol=1e-12)


def dual_matrix(dual, mean_part):
    """Y of all classes, in full."""
    panels = dual.panels
    phi = np.zeros((len(panels.samples), len(panels.node_samples)))
    for panel in panels.panels:
        phi[panel.counts, panel.nodes] = panel.lagrange
    phi, y = (np.repeat(x, panels.classes.astype(int), axis=0) for x in (phi, dual.y))
    root = np.sqrt(panels.node_classes)
    reduced = mean_part - np.diag(dual.contrasts(panels.node_samples, panels.collapsed_nodes))
    return np.diag(y) + phi @ (reduced / np.outer(root, root)) @ phi.T, reduced


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_bounds_are_valid_at_any_point(bias, smoothing):
    """Far from the minimum the norm is still that of the full matrix, the bound below the minimum, the loss above."""
    ufm = model(np.round(np.geomspace(4000, 5, 120)).astype(int), 90.0, smoothing, **bias)
    nodes = NodesProblem(ufm)
    dual, (Z, b) = nodes.dual, nodes.minimum()
    best = interpolated_minimum(ufm)[1]
    assert best.relative_gap <= 1e-9
    generator = np.random.default_rng(0)
    gaps = []
    for size in np.geomspace(1e-8, 1, 9):
        near = Z + size * generator.standard_normal(Z.shape)
        at = b + 1e-2 * size * generator.standard_normal(b.shape) if ufm.bias else b
        mean_part = nodes.dual_mean_part(near, at)
        Y, reduced = dual_matrix(dual, mean_part)
        norm = np.linalg.norm(Y, 2)
        assert norm <= dual.norm(reduced) <= norm + (norm - ufm.tau) + 1e-9 * ufm.tau
        bound = dual.lower_bound(mean_part)
        loss, rounding = nodes.point(near, at).loss()
        assert bound <= best.loss + best.rounding
        assert loss + rounding >= best.lower_bound
        gaps.append((loss - bound) / loss)
    assert gaps[0] < 1e-8
    assert gaps[-1] > 1e-3


def test_a_count_at_which_classes_are_given_up():
    """Its contrast is zero but for rounding; the loss is that of the point all the same."""
    counts = np.array([13] + [12] * 6 + [11] * 8 + [10] * 8 + [9] * 8 + [8] * 10 + [7] * 7)
    tau = 0.9 * np.sqrt(8) / counts.sum()
    for change in (-3e-16, 0.0, 3e-16):
        options = {"lambda_W": tau * (1 + change), "lambda_H": tau * (1 + change), "bias": False}
        ufm = uf.UFM(48, 48, counts, loss=uf.CrossEntropy(0.1), **options)
        point, certificate = interpolated_minimum(ufm)
        assert certificate.is_global(1e-9)
        assert ufm.loss(point.point()) == pytest.approx(certificate.loss, rel=1e-13)


def test_many_counts_without_large_arrays():
    """K = 20 000 classes with 2 800 distinct counts, a tenth of them given up."""
    counts = np.maximum(1, np.round(2e6 / np.arange(1, 20_001))).astype(int)
    ufm = model(counts, 120.3, lambda_b=1e-2)
    point, certificate = interpolated_minimum(ufm)
    assert certificate.is_global(1e-9), certificate
    assert len(point.root) > 2000
    assert len(point.kernel_A) < 150
    assert point.logits(7).argmax() == 7


def test_where_it_does_not_apply():
    options = {"lambda_W": 1e-3, "lambda_H": 1e-3}
    assert interpolated_minimum(uf.UFM(8, 8, [1, 2, 3, 4, 5, 6, 7, 8], loss="mse", **options)) is None
    assert interpolated_minimum(uf.UFM(3, 3, [1, 2, 3], weights=[1, 2, 3], **options)) is None
    assert interpolated_minimum(uf.UFM(3, 3, 7, **options)) is None
    point, _ = interpolated_minimum(uf.UFM(8, 3, [11, 12, 13, 14, 15, 16, 17, 18], lambda_W=1e-4, lambda_H=1e-4))
    with pytest.raises(ValueError, match="does not fit into a model with d = 3"):
        point.point()
