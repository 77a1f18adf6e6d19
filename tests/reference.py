"""Critical points found with the NumPy oracle alone: L-BFGS, then Newton steps on the dense Hessian."""

from __future__ import annotations

import numpy as np
import scipy.optimize

import ufm_fast as uf
from oracle import Oracle

LONG_TAIL = [40, 21, 11, 6, 3]


def stationary(oracle: Oracle, start, newton_steps: int = 12):
    """A critical point (W, H, b) reached from a start by descent.

    Works in balanced coordinates; a pseudo-inverse takes care of the rotations, along which the loss is constant.
    """
    rho = (oracle.lambda_H / oracle.lambda_W) ** 0.25
    scale = oracle.pack(
        np.full((oracle.K, oracle.d), rho),
        np.repeat(1 / (rho * np.sqrt(oracle.multiplicities))[:, None], oracle.d, axis=1),
        np.ones(oracle.K),
    )

    def value_and_slope(x):
        point = oracle.unpack(scale * x)
        return oracle.loss(*point), scale * oracle.pack(*oracle.gradient(*point))

    x = oracle.pack(*start) / scale
    for _ in range(3):
        options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-300, "gtol": 1e-12, "maxcor": 30}
        x = scipy.optimize.minimize(value_and_slope, x, jac=True, method="L-BFGS-B", options=options).x
    for _ in range(newton_steps):
        value, slope = value_and_slope(x)
        hessian = scale[:, None] * oracle.hessian(*oracle.unpack(scale * x)) * scale
        trial = x - np.linalg.pinv(hessian, rcond=1e-9, hermitian=True) @ slope
        trial_value, trial_slope = value_and_slope(trial)
        if not (np.linalg.norm(trial_slope) < np.linalg.norm(slope) and trial_value <= value + 1e-13 * abs(value)):
            break
        x = trial
    return oracle.unpack(scale * x)


def random_start(oracle: Oracle, seed: int = 7):
    rng = np.random.default_rng(seed)
    rho = (oracle.lambda_H / oracle.lambda_W) ** 0.25
    W = 0.3 * rho * rng.standard_normal((oracle.K, oracle.d))
    H = 0.3 / rho * rng.standard_normal((len(oracle.labels), oracle.d))
    return W, H, np.zeros(oracle.K)


def global_minimum(oracle: Oracle):
    """The global minimiser of a problem with d >= K and its loss, the latter in decimal arithmetic."""
    point = stationary(oracle, random_start(oracle))
    return point, float(oracle.decimal_loss(*point))


def as_point(arrays) -> uf.Point:
    return uf.Point(*(np.ascontiguousarray(array) for array in arrays))


def long_tail(loss="cross_entropy", d=5, counts=LONG_TAIL, **options):
    options = {"lambda_W": 3e-3, "lambda_H": 1e-4, "lambda_b": 1e-2} | options
    return uf.UFM(len(counts), d, counts, loss=loss, **options)
