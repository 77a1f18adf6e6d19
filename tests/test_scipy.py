"""SciPy's minimisers and linear algebra take a model's functions and operators."""

import inspect

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg

import ufm_fast as uf
from oracle import Oracle

JACOBIAN = ["Nelder-Mead", "Powell", "CG", "BFGS", "L-BFGS-B", "TNC", "COBYLA", "SLSQP", "Newton-CG", "trust-constr"]
JACOBIAN += ["COBYQA"] if "COBYQA" in scipy.optimize.minimize.__doc__ else []  # of SciPy 1.14 and later
PRODUCTS = ["Newton-CG", "trust-ncg", "trust-krylov", "trust-constr"]
METHODS = [*((name, "jac") for name in JACOBIAN), *((name, "hessp") for name in PRODUCTS)]
METHODS += [(name, "operator") for name in ("Newton-CG", "trust-constr")]
DENSE = ["dogleg", "trust-exact", "trust-ncg", "trust-krylov", "trust-constr", "Newton-CG"]
METHODS += [(name, "matrix") for name in DENSE]
OLD_SCIPY = tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 15)
RNG = "random_state" if OLD_SCIPY else "rng"
RTOL = "rtol" if "rtol" in inspect.signature(scipy.sparse.linalg.cg).parameters else "tol"  # before 1.12
DERIVATIVE_FREE = "Nelder-Mead", "Powell", "COBYLA", "COBYQA"


@pytest.mark.filterwarnings("ignore:delta_grad", "ignore:Method .* does not use", "ignore:overflow encountered in cast")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("method", "way"), METHODS)
def test_minimisers_of_scipy(method, way, dtype):
    """Near the global minimum, where the Hessian is definite in a gauge: every method that has derivatives finds it."""
    if dtype == "float32" and (method == "SLSQP" or (method == "L-BFGS-B" and OLD_SCIPY)):
        pytest.skip("takes float64 gradients only")
    ufm = uf.UFM(2, 1, [3, 1], lambda_W=0.05, lambda_H=0.02, lambda_b=0.3, dtype=dtype)
    minimum = uf.global_minimum(ufm).value
    start = ufm.pack(uf.Point(*(np.array(part, dtype) for part in ([[0.9], [-0.9]], [[0.8], [-1.9]], [0.2, -0.2]))))
    options = {
        "jac": {},
        "hessp": {"hessp": ufm.hessp},
        "operator": {"hess": lambda x: ufm.hessian(ufm.unpack(x))},
        "matrix": {"hess": lambda x: ufm.hessian(ufm.unpack(x)) @ np.eye(ufm.size)},
    }[way]
    found = scipy.optimize.minimize(ufm.fun_and_grad, start.astype(float), jac=True, method=method, **options)
    assert ufm.fun(start) > minimum * 1.01
    if dtype == "float64":
        assert found.fun == pytest.approx(minimum, rel=1e-2 if method in DERIVATIVE_FREE else 1e-5)
    assert minimum * (1 - 1e-5) <= found.fun <= ufm.fun(start)


@pytest.mark.parametrize("method", ["hybr", "lm", "krylov", "df-sane", "trf", "dogbox"])
def test_roots_of_the_gradient(method):
    """With d = 1 no rotation makes the Hessian singular at the minimum."""
    ufm = uf.UFM(2, 1, [3, 1], lambda_W=0.05, lambda_H=0.02, lambda_b=0.3)
    start = uf.minimize(ufm).x + 0.01

    def gradient(x):
        return ufm.fun_and_grad(x)[1]

    def dense(x):
        return ufm.hessian(ufm.unpack(x)) @ np.eye(ufm.size)

    if method in ("trf", "dogbox"):
        for jacobian in (dense, lambda x: ufm.hessian(ufm.unpack(x))):
            x = scipy.optimize.least_squares(gradient, start, jac=jacobian, method=method, gtol=1e-14).x
            assert ufm.fun(x) == pytest.approx(uf.global_minimum(ufm).value, rel=1e-10)
    else:
        found = scipy.optimize.root(gradient, start, jac=dense if method in ("hybr", "lm") else None, method=method)
        assert found.success
        assert ufm.fun(found.x) == pytest.approx(uf.global_minimum(ufm).value, rel=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_linear_algebra_of_scipy(dtype):
    ufm = uf.UFM(3, 3, [3, 2, 1], lambda_W=0.02, lambda_H=0.01, lambda_b=0.3, dtype=dtype)
    p = ufm.random_point(4, scale=0.3)
    operator, dense = ufm.hessian(p), Oracle.of(ufm).hessian(*map(np.float64, p))
    values, rel = np.linalg.eigvalsh(dense), {"float64": 1e-8, "float32": 1e-3}[dtype]
    right = np.random.default_rng(0).standard_normal(ufm.size)
    block = np.random.default_rng(1).standard_normal((ufm.size, 3))
    linalg = scipy.sparse.linalg
    assert linalg.eigsh(operator, 3, which="SA", tol=rel)[0] == pytest.approx(values[:3], rel=rel)
    lowest = linalg.lobpcg(operator, block, largest=False, maxiter=500, tol=rel * 1e-2)[0]
    assert np.sort(lowest) == pytest.approx(values[:3], rel=rel)
    for solver in ("arpack", "lobpcg") if OLD_SCIPY else ("arpack", "lobpcg", "propack"):
        found = linalg.svds(operator, 2, solver=solver, return_singular_vectors=False, **{RNG: 0})
        assert np.sort(found) == pytest.approx(np.sort(abs(values))[-2:], rel=rel)
    shifted = operator + 0.5 * linalg.aslinearoperator(np.eye(ufm.size))  # definite
    for solve in (linalg.cg, linalg.minres, linalg.gmres):
        solution, info = solve(shifted, right, **{RTOL: 1e-10 if dtype == "float64" else 1e-4})
        assert info == 0
        np.testing.assert_allclose(
            dense @ solution + 0.5 * solution, right, atol={"float64": 1e-8, "float32": 2e-3}[dtype]
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_overflow_can_be_infinity_for_line_searches(dtype):
    ufm = uf.UFM(3, 3, [3, 2, 1], lambda_W=0.02, lambda_H=0.01, dtype=dtype)
    x = ufm.pack(ufm.random_point(0, scale=1.0))
    far = x * np.dtype(dtype).type({"float64": 1e160, "float32": 1e25}[dtype])
    assert np.isfinite(far).all()
    for method in (ufm.fun, ufm.fun_and_grad):
        with pytest.raises(FloatingPointError, match="overflows"):
            method(far)
        with pytest.raises(ValueError, match="overflow must be 'raise' or 'inf', not 'nan'"):
            method(x, overflow="nan")
    assert ufm.fun(far, overflow="inf") == np.inf
    value, gradient = ufm.fun_and_grad(far, overflow="inf")
    assert value == np.inf
    assert not gradient.any()
    assert ufm.fun(x, overflow="inf") == ufm.fun(x)
    value, gradient = ufm.fun_and_grad(x, overflow="inf")
    assert np.array_equal(gradient, ufm.fun_and_grad(x)[1])
    step, decrease = 1e300 if dtype == "float64" else 1e36, -float(gradient @ gradient)
    while ufm.fun((x - step * gradient).astype(dtype), overflow="inf") > value + 1e-4 * step * decrease:
        step /= 2
    assert 1e-3 < step < 1e3
