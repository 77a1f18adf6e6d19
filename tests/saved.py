"""A small model, a point of it, and files that hold them."""

import numpy as np

import ufm_fast as uf

UFM = uf.UFM(3, 2, [5, 3, 1], lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
POINT = UFM.random_point(0)
ARRAYS = {"W": POINT.W, "H": POINT.H, "labels": np.arange(3)}
CENSUS = ["census", "--K", 3, "--n", 5, "--imbalance", 1, "--loss", "mse", "--workers", 1]


def saved_point(path):
    uf.save_point(path, UFM, POINT)


def loaded_point(path):
    ufm, p = uf.load_point(path)
    return {"model": repr(ufm), **p._asdict()}


def saved_census(path):
    uf.census(UFM, 2, path=path)


def same(found, expected):
    if found.keys() != expected.keys():
        return False
    pairs = [(np.asanyarray(found[name]), np.asanyarray(value)) for name, value in expected.items()]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)
