"""examples/foreign_solvers.py: minimisers and eigen-solvers of others end where this package does."""

import numpy as np
import pytest

import ufm_fast as uf
from test_examples import load

example = load("foreign_solvers")
UFM = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
STARTS = {"zero": UFM.unpack(np.zeros(UFM.size)), "saddle": uf.saddle(UFM, 2)}
# By negative curvature along what rounding leaves of the gradient.
MAY_LEAVE_SADDLES = {("pymanopt TrustRegions", "saddle"), ("SciPy trust-exact", "zero")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("family", "module"), [("SciPy", "scipy"), ("NLopt", "nlopt"), ("Ipopt", "cyipopt"), ("pymanopt", "pymanopt")]
)
def test_every_minimiser_ends_at_the_certified_minimum(family, module, start):
    pytest.importorskip(module)
    names = [name for name in example.minimisers() if name.startswith(family)]
    assert len(names) >= 2
    for name in names:
        found = example.descend(UFM, name, start, STARTS[start])
        assert found.relative_gap <= 1e-8, name
        assert found.escapes <= 6, name
        if (name, start) not in MAY_LEAVE_SADDLES:
            assert found.first in {"zero": ("strict_saddle", "not_critical"), "saddle": ("strict_saddle",)}[start], name
            assert found.escapes >= 1, name


@pytest.mark.parametrize(("solver", "module"), [("eigsh", "scipy"), ("lobpcg", "scipy"), ("primme", "primme")])
@pytest.mark.parametrize("counts", [[40, 20, 10, 5, 3, 2], [10] * 6])
@pytest.mark.filterwarnings("ignore:Exited")
def test_eigen_solvers_find_the_lowest_eigenvalue_across_rotations(solver, module, counts):
    pytest.importorskip(module)
    ufm = uf.UFM(6, 6, counts, lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
    for p in (uf.saddle(ufm, 2), uf.minimize(ufm, tol=1e-11).point):
        value, products = getattr(example, f"by_{solver}")(ufm, p)
        assert value == pytest.approx(uf.lowest_eigenpairs(ufm, p, deflate=True).eigenvalues[0], rel=1e-6)
        assert products > 1


@pytest.mark.filterwarnings("ignore:Exited")
def test_generalised_form_of_lobpcg():
    """Without deflation, at a saddle: A v = s B v with the metric, and the full-sample Hessian, agree with ours."""
    from scipy.sparse import diags
    from scipy.sparse.linalg import lobpcg

    ufm, rng = UFM, np.random.default_rng(0)
    p, start = STARTS["saddle"], rng.standard_normal((UFM.size, 3))
    lowest = uf.lowest_eigenpairs(ufm, p, 3, deflate=False).eigenvalues
    options = {"largest": False, "tol": 1e-7, "maxiter": 500}
    values, vectors = lobpcg(ufm.hessian(p), start, B=diags(ufm.metric), M=diags(1 / ufm.metric), **options)
    assert np.sort(values) == pytest.approx(lowest, rel=1e-7)
    assert vectors.T @ (ufm.metric[:, None] * vectors) == pytest.approx(np.eye(3), abs=1e-8)
    assert np.sort(lobpcg(ufm.hessian(p, coordinates="samples"), start, **options)[0]) == pytest.approx(
        lowest, rel=1e-7
    )


@pytest.mark.filterwarnings("ignore")
def test_tables(capsys, monkeypatch):
    """Of as few as are always there."""
    monkeypatch.setattr("sys.argv", ["foreign_solvers.py"])
    few = {name: solve for name, solve in example.minimisers().items() if name in ("SciPy CG", "SciPy trust-exact")}
    monkeypatch.setattr(example, "minimisers", lambda: few)
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    example.main()
    minimisers, eigen_solvers = capsys.readouterr().out.split("\n\n")
    assert [line.split()[:2] for line in minimisers.splitlines()[1:]] == [
        ["SciPy", name] for name in ("CG", "CG", "trust-exact", "trust-exact")
    ]
    assert len(eigen_solvers.splitlines()) == 7
