"""nrc_metrics against the definitions in plain NumPy and SciPy, and at exact minima of regression models."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import ufm_fast as uf


def nrc3_at(W, root, g, positive):
    """NRC3 for one g = sqrt(gamma), with root = Sigma^(1/2)."""
    A = root - g * np.eye(len(root))
    if positive:
        values, vectors = np.linalg.eigh(A)
        A = (vectors * np.maximum(values, 0)) @ vectors.T
    gram = W @ W.T
    return np.linalg.norm(gram / np.linalg.norm(gram) - A / np.linalg.norm(A)) ** 2


def nrc3_least(W, Sigma, positive):
    """The least NRC3 over gamma, by a grid and bounded minimisation around its best."""
    root = np.real(scipy.linalg.sqrtm(Sigma))
    s = np.linalg.eigvalsh(root)
    grid = np.linspace(0, s[-1 if positive else 0], 401)[:-1]
    values = [nrc3_at(W, root, g, positive) for g in grid]
    k = int(np.argmin(values))
    ends = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)] if positive else s[0]
    found = scipy.optimize.minimize_scalar(
        lambda g: nrc3_at(W, root, g, positive), bounds=ends, method="bounded", options={"xatol": 1e-14}
    )
    return min(found.fun, values[k], *([] if positive or len(s) == 1 else [nrc3_at(W, root, s[0], False)]))


def distance_to_span(rows, spanning):
    """Mean squared distance to the span of other rows, by least squares."""
    coefficients = np.linalg.lstsq(spanning.T, rows.T, rcond=None)[0]
    return ((rows.T - spanning.T @ coefficients) ** 2).sum(axis=0).mean()


def by_definition(W, H, Y, bias):
    Hc, Yc = (H - H.mean(axis=0), Y - Y.mean(axis=0)) if bias else (H, Y)
    unit = Hc / np.linalg.norm(Hc, axis=1)[:, None]
    _, vectors = np.linalg.eigh(Hc.T @ Hc)
    metrics = {
        "nrc1": distance_to_span(unit, vectors[:, ::-1][:, : len(W)].T),
        "nrc2": distance_to_span(unit, W),
    }
    if len(Y) > len(W):  # else Sigma is singular, and its square root not for SciPy to find
        Sigma = Yc.T @ Yc / len(Y)
        metrics |= {"nrc3": nrc3_least(W, Sigma, False), "nrc3_positive": nrc3_least(W, Sigma, True)}
    return metrics


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "d", "N"), [(1, 5, 40), (2, 7, 60), (3, 3, 30), (5, 9, 5000), (4, 6, 3)])
def test_definitions(n, d, N, bias):
    rng = np.random.default_rng(n)
    W, H = rng.standard_normal((n, d)), rng.standard_normal((N, d)) + 0.5
    Y = rng.standard_normal((N, n)) @ rng.standard_normal((n, n)) + 1
    found = uf.nrc_metrics(W, H, Y, bias=bias)
    for name, value in by_definition(W, H, Y, bias).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-10, abs=1e-13), name
    centre = Y.mean(axis=0) if bias else 0.0
    squares = np.linalg.eigvalsh((Y - centre).T @ (Y - centre) / N)[::-1]
    np.testing.assert_allclose(found.spectrum_targets, squares, rtol=1e-10, atol=1e-13)
    assert found.spectrum_features.sum() == pytest.approx(((H - (H.mean(axis=0) if bias else 0)) ** 2).sum() / N)
    assert (found.n, found.d, found.N, found.rank_W, found.left_out) == (n, d, N, min(n, d), 0)


@pytest.mark.parametrize("seed", range(20))
def test_gamma_is_the_best(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    W, Y = rng.standard_normal((n, 8)), rng.standard_normal((50, n)) * rng.uniform(0.01, 2, n)
    W[:, 0] *= rng.uniform(0, 5)
    found = uf.nrc_metrics(W, rng.standard_normal((50, 8)), Y)
    Sigma = np.cov(Y.T, bias=True)
    root = scipy.linalg.sqrtm(Sigma)
    for positive, value, gamma in ((False, found.nrc3, found.gamma), (True, found.nrc3_positive, found.gamma_positive)):
        assert value == pytest.approx(nrc3_at(W, root, np.sqrt(gamma), positive), rel=1e-8)
        assert value <= nrc3_least(W, Sigma, positive) * (1 + 1e-12)
    assert found.nrc3_positive <= found.nrc3


def minimum(Y, lambda_W, lambda_H, d, bias, seed=0):
    """W and H at the minimum of (1/2N) |H W^T + b - Y|^2 and the decays, turned at random."""
    N = len(Y)
    U, s, Vt = np.linalg.svd(Y - Y.mean(axis=0) if bias else Y, full_matrices=False)
    signal = np.sqrt(np.maximum(s - N * np.sqrt(lambda_W * lambda_H), 0))
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0][: len(s)]
    rho = (lambda_H / lambda_W) ** 0.25
    return rho * (Vt.T * signal) @ turn, (U * signal) @ turn / rho


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lost", [0, 1, 3])
def test_vanish_at_the_minimum(lost, bias):
    """Also where `lost` singular values of the targets lie below the threshold."""
    rng = np.random.default_rng(5)
    N, n, d = 200, 4, 10
    Y = rng.standard_normal((N, n)) * [3.0, 1.0, 0.5, 0.2] @ np.linalg.qr(rng.standard_normal((n, n)))[0] + 2
    s = np.linalg.svd(Y - Y.mean(axis=0) if bias else Y, compute_uv=False) / np.sqrt(N)
    threshold = [0.5 * s[3], (s[2] + s[3]) / 2, 0, (s[0] + s[1]) / 2][lost]
    lambda_H = 2e-3
    lambda_W = threshold**2 / N / lambda_H
    W, H = minimum(Y, lambda_W, lambda_H, d, bias)
    found = uf.nrc_metrics(W, H, Y, bias=bias)
    assert max(found.nrc1, found.nrc2, found.nrc3_positive) < 1e-25
    assert found.rank_W == n - lost
    assert (found.nrc3 < 1e-25) == (lost == 0)
    cc = N * lambda_W * lambda_H
    if lost < 3:  # of rank one W does not tell gamma
        assert found.gamma_positive == pytest.approx(cc, rel=1e-9)
    if lost == 0:
        assert found.gamma == pytest.approx(cc, rel=1e-9)
    gram = np.sqrt(N * lambda_H / lambda_W) * np.maximum(np.sqrt(found.spectrum_targets) - np.sqrt(cc), 0)
    np.testing.assert_allclose(np.linalg.eigvalsh(W @ W.T)[::-1], gram, atol=1e-10 * gram[0])


def test_a_cholesky_factor_would_not_vanish_there():
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((100, 3)) @ rng.standard_normal((3, 3))
    W, H = minimum(Y, 1e-4, 1e-4, 5, True)
    factor = np.linalg.cholesky(np.cov(Y.T, bias=True))
    best = min(nrc3_at(W, factor, g, False) for g in np.linspace(0, factor.diagonal().min(), 101)[:-1])
    assert best > 1e-3
    assert uf.nrc_metrics(W, H, Y).nrc3 < 1e-25


def test_equal_targets_and_features():
    """Uncorrelated targets of one variance leave gamma open; features at their mean have no direction."""
    Y = np.vstack([np.eye(3), -np.eye(3), np.zeros((1, 3))])
    W, H = minimum(Y, 1e-3, 1e-3, 4, True)
    found = uf.nrc_metrics(W, H, Y)
    assert found.left_out == 1
    assert max(found.nrc1, found.nrc2, found.nrc3, found.nrc3_positive) < 1e-25


@pytest.mark.filterwarnings("ignore:NRC")
def test_undefined():
    rng = np.random.default_rng(0)
    W, H, Y = rng.standard_normal((2, 3)), rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    nothing = uf.nrc_metrics(0 * W, H, Y)
    assert np.isnan([nothing.nrc2, nothing.nrc3, nothing.nrc3_positive, nothing.gamma]).all()
    assert nothing.nrc1 >= 0
    still = uf.nrc_metrics(W, 0 * H + 1, 0 * Y)
    assert np.isnan([still.nrc1, still.nrc2, still.nrc3]).all()
    assert still.left_out == 9
    with pytest.warns(RuntimeWarning, match="NRC1 and NRC2 are undefined"):
        uf.nrc_metrics(W, 0 * H, Y)
    with pytest.warns(RuntimeWarning, match="W vanishes"):
        uf.nrc_metrics(0 * W, H, Y)


def test_types_and_batches(tmp_path):
    rng = np.random.default_rng(0)
    W, H = rng.standard_normal((2, 5)), rng.standard_normal((9000, 5)).astype(np.float32)
    Y = rng.standard_normal((9000, 2))
    np.save(tmp_path / "H.npy", H)
    expected = uf.nrc_metrics(W, H.astype(np.float64), Y)
    for features in (H, np.load(tmp_path / "H.npy", mmap_mode="r"), np.asfortranarray(H)):
        found = uf.nrc_metrics(W, features, Y)
        assert (found.nrc1, found.nrc2, found.nrc3) == pytest.approx(
            (expected.nrc1, expected.nrc2, expected.nrc3), rel=1e-12
        )
    one = uf.nrc_metrics(W[:1], H, Y[:, 0])
    assert one.nrc1 == uf.nrc_metrics(W[:1], H, Y[:, :1]).nrc1
    assert one.nrc3 == one.nrc3_positive == 0
    assert uf.nrc_metrics([[1, 2]], [[1, 0], [0, 1], [3, 1]], [1, 2, 3]).N == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"W": np.ones(3)}, ValueError, "W must have shape"),
        ({"W": np.ones((2, 4))}, ValueError, r"H must have shape \(rows, 4\)"),
        ({"W": np.full((2, 3), np.nan)}, ValueError, "W must be finite"),
        ({"W": np.ones((2, 3), complex)}, TypeError, "W must be float32 or float64"),
        ({"H": np.ones((3, 9))}, ValueError, "transpose it"),
        ({"H": np.ones((0, 3))}, ValueError, "H must hold samples"),
        ({"H": np.full((9, 3), np.inf)}, ValueError, "H must be finite"),
        ({"H": np.ma.masked_array(np.ones((9, 3)))}, TypeError, "H must not be a masked array"),
        ({"Y": np.ones((9, 3))}, ValueError, r"Y must have shape \(9, 2\)"),
        ({"Y": np.ones((2, 9))}, ValueError, "transpose it"),
        ({"Y": np.full((9, 2), np.nan)}, ValueError, "Y must be finite"),
        ({"Y": [["a", "b"]] * 9}, TypeError, "Y must be"),
        ({"bias": 1}, TypeError, "bias must be True or False"),
    ],
)
def test_refused(change, error, message):
    arguments = {"W": np.ones((2, 3)), "H": np.ones((9, 3)), "Y": np.ones((9, 2)), **change}
    with pytest.raises(error, match=message):
        uf.nrc_metrics(**arguments)


def test_table():
    rng = np.random.default_rng(0)
    found = uf.nrc_metrics(*(rng.standard_normal(shape) for shape in ((2, 3), (9, 3), (9, 2))))
    heading, _, *rows = str(found).splitlines()
    assert heading == "n = 2, d = 3, N = 9"
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert cells["nrc1"] == [f"{found.nrc1:.4g}", "0"]
    assert cells["gamma"] == [f"{found.gamma:.4g}"]
