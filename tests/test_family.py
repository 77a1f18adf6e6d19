"""Every member of the family goes through every function, or is refused in one line that says why."""

import numpy as np
import pytest
import scipy.sparse

import ufm_fast as uf

pytestmark = pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
K, COUNTS, TARGETS = 5, [40, 30, 20, 10, 5], np.random.default_rng(0).dirichlet(np.full(5, 0.4), 12)
DECAYS = {"lambda_W": 0.01, "lambda_b": 0.01}


def of_classes(**options):
    return uf.UFM(K, K, COUNTS, lambda_H=5e-4, **DECAYS, **options)


def of_rows(targets=TARGETS, **options):
    return uf.UFM(K, K, targets=targets, lambda_H=0.01, **DECAYS, **options)


CERTIFIED = {
    "weights": lambda: of_classes(weights=[1, 1, 2, 2, 3]),
    "weighted samples": lambda: of_classes(weights=[1, 1, 2, 2, 3], collapse=False),
    "weighted squared error": lambda: of_classes(weights=[1, 1, 2, 2, 3], loss="mse"),
    "logit adjustment": lambda: of_classes(loss=uf.losses.logit_adjusted(COUNTS)),
    "LDAM": lambda: of_classes(loss=uf.losses.ldam(COUNTS)),
    "CDT": lambda: of_classes(loss=uf.losses.cdt(COUNTS, 0.3)),
    "VS": lambda: of_classes(loss=uf.losses.vector_scaling(COUNTS, 0.2, 1.0)),
    "binary": lambda: of_classes(loss="bce"),
    "several labels": lambda: of_rows(TARGETS > 0.2, loss="bce"),
    "soft targets": of_rows,
    "sparse targets": lambda: of_rows(scipy.sparse.csr_array(np.where(TARGETS.max(1)[:, None] == TARGETS, 1.0, 0.0))),
    "regression": lambda: of_rows(10 * TARGETS, loss="mse"),
    "ordinal": lambda: of_classes(loss=uf.Ordinal([-3, -1, 1, 3])),
    "learned thresholds": lambda: of_classes(loss=uf.Ordinal(None, link="probit")),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_members_that_are_certified(name, tmp_path):
    ufm = CERTIFIED[name]()
    p, best = ufm.random_point(), uf.minimize(ufm)
    assert best.success
    assert uf.certify(ufm, p).lower_bound <= best.fun
    assert uf.classify(ufm, best.point).kind == "global_minimum"
    assert uf.global_minimum(ufm).value == pytest.approx(best.fun, rel=2e-8)
    assert uf.classify(ufm, uf.saddle(ufm, 0)).kind == "strict_saddle"
    assert uf.lowest_eigenpairs(ufm, best.point).eigenvalues[0] > -1e-3 * ufm.lambda_W
    assert uf.lowest_eigenpairs(ufm, p).eigenvalues[0] < 0
    samples = ufm.N if ufm.counts is not None else ufm.M
    assert uf.spectrum(ufm, p, steps=5).size == ufm.layout.K * K + samples * K + ufm.layout.biases
    (found,) = uf.census([ufm], runs=2).summary()
    assert found["ends"] == {"global_minimum": 2}
    assert uf.path(ufm, [0.5, 1.0], over="lambda").rows["certified"].all()
    assert uf.minimize(ufm, p, fixed="W").success
    uf.save_point(tmp_path / "point.npz", ufm, p)
    loaded, q = uf.load_point(tmp_path / "point.npz")
    assert loaded.loss(q) == ufm.loss(p)


@pytest.mark.parametrize("bias", [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 0.01}], ids=str)
def test_focal_loss_ends_at_a_stationary_point_without_a_certificate(bias):
    ufm = uf.UFM(K, K, COUNTS, loss=uf.Focal(2), lambda_W=0.01, lambda_H=5e-4, **bias)
    found = uf.minimize(ufm)
    assert found.success
    assert found.certificate is None
    assert "no certificate: focal loss is not convex" in found.message
    _, gradient = ufm.loss_and_grad(found.point)
    assert np.linalg.norm(ufm.pack(gradient)) < 1e-7
    assert uf.lowest_eigenpairs(ufm, found.point).eigenvalues[0] > -1e-7
    stopped = uf.minimize(ufm, max_evaluations=3)
    assert (stopped.success, stopped.status) == (False, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda ufm, p: uf.certify(ufm, p),
        lambda ufm, p: uf.classify(ufm, p),
        lambda ufm, _: uf.global_minimum(ufm),
        lambda ufm, _: uf.saddle(ufm, 0),
        lambda ufm, _: uf.census([ufm], runs=1),
        lambda ufm, _: uf.path(ufm, [1.0], over="lambda"),
        lambda ufm, p: uf.minimize(ufm, p, fixed="W"),
        lambda ufm, p: uf.inspect(p.W, np.repeat(p.H, COUNTS, 0), np.repeat(range(K), COUNTS), loss=ufm.loss_function),
    ],
)
def test_what_needs_convexity_refuses_focal_loss(call):
    ufm = of_classes(loss=uf.Focal(2))
    with pytest.raises(ValueError, match=r"convex.*Focal|Focal.*convex"):
        call(ufm, ufm.random_point())


@pytest.mark.parametrize("name", ["weights", "LDAM", "VS", "binary", "logit adjustment", "weighted squared error"])
def test_inspect_knows_what_a_network_was_trained_with(name):
    """Samples at the minimum of a member are recognised as that, but not by another loss."""
    ufm = CERTIFIED[name]()
    p = uf.minimize(ufm, tol=1e-10).point
    labels = np.repeat(np.arange(K), COUNTS)
    decays = {"lambda_W": ufm.lambda_W, "lambda_H": ufm.lambda_H, "lambda_b": ufm.lambda_b}
    given = {"loss": ufm.loss_function, "weights": ufm.weights}
    found = uf.inspect(p.W, p.H[labels], labels, p.b, **decays, **given)
    assert found.relative_gap < 1e-7
    assert found.loss == pytest.approx(ufm.loss(p), rel=1e-12)
    assert uf.inspect(p.W, p.H[labels], labels, p.b, **given).decays.lambda_W == pytest.approx(ufm.lambda_W, rel=1e-3)
    other = "mse" if name != "weighted squared error" else "cross_entropy"
    assert uf.inspect(p.W, p.H[labels], labels, p.b, **decays, loss=other).relative_gap > 1e-3
