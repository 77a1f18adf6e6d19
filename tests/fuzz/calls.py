"""Every public function with arguments that are right, and values that are wrong almost everywhere."""

import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse

import ufm_fast as uf

MODEL = uf.UFM(3, 3, [3, 2, 1], lambda_W=0.02, lambda_H=0.01, lambda_b=0.05, threads=1)
POINT = MODEL.random_point(1)
X = MODEL.pack(POINT)
RNG = np.random.default_rng(0)
W, H, LABELS = (
    np.eye(3),
    np.repeat(np.eye(3), 2, axis=0) + 0.1 * RNG.standard_normal((6, 3)),
    np.repeat(np.arange(3), 2),
)
FOLDER = Path(tempfile.mkdtemp())

#: A function, its arguments by name.
CALLS = {
    "UFM": (uf.UFM, {
        "K": 3, "d": 3, "n": [3, 2, 1], "lambda_W": 0.02, "lambda_H": 0.01, "lambda_b": 0.05, "bias": True,
        "loss": "mse", "weights": [1.0, 2.0, 3.0], "collapse": True, "dtype": "float64", "threads": 1,
    }),
    "UFM of rows": (uf.UFM, {
        "K": 3, "d": 3, "n": 1.0, "targets": np.eye(3), "lambda_W": 0.02, "lambda_H": 0.01, "weights": [1.0, 2.0, 3.0],
        "ridges": [1.0, 2.0, 3.0], "loss": "bce",
    }),
    "CrossEntropy": (uf.CrossEntropy, {
        "label_smoothing": 0.1, "scale": [1.0, 2.0, 3.0], "shift": None, "margin": [0.0, 1.0, 2.0],
    }),
    "BinaryCrossEntropy": (uf.BinaryCrossEntropy, {"label_smoothing": 0.1}),
    "Focal": (uf.Focal, {"gamma": 2.0}),
    "Ordinal": (uf.Ordinal, {"thresholds": [0.0, 1.0], "link": "logit"}),
    "ldam": (uf.losses.ldam, {"n": [3, 2, 1], "largest_margin": 0.5}),
    "logit_adjusted": (uf.losses.logit_adjusted, {"n": [3, 2, 1], "strength": 1.0}),
    "cdt": (uf.losses.cdt, {"n": [3, 2, 1], "gamma": 0.3}),
    "vector_scaling": (uf.losses.vector_scaling, {"n": [3, 2, 1], "gamma": 0.3, "strength": 1.0}),
    "class_balanced_weights": (uf.losses.class_balanced_weights, {"n": [3, 2, 1], "beta": 0.9}),
    "Point": (lambda W, H, b: MODEL.loss_and_grad(uf.Point(W, H, b)), {"W": POINT.W, "H": POINT.H, "b": POINT.b}),
    "loss": (MODEL.loss, {"p": POINT}),
    "hvp": (MODEL.hvp, {"p": POINT, "v": POINT}),
    "fun_and_grad": (MODEL.fun_and_grad, {"x": X, "overflow": "raise"}),
    "hessp": (MODEL.hessp, {"x": X, "v": X}),
    "hessian": (lambda **options: MODEL.hessian(**options) @ X, {"p": POINT, "coordinates": "packed"}),
    "rotations": (lambda p: MODEL.rotations(p) @ X, {"p": POINT}),
    "pack": (MODEL.pack, {"p": POINT}),
    "unpack": (MODEL.unpack, {"x": X}),
    "collapse": (MODEL.collapse, {"p": MODEL.expand(POINT)}),
    "expand": (MODEL.expand, {"p": POINT}),
    "random_point": (MODEL.random_point, {"seed": 0, "scale": 1.0}),
    "certify": (uf.certify, {"ufm": MODEL, "p": POINT}),
    "classify": (uf.classify, {"ufm": MODEL, "p": POINT, "gradient_tol": 1e-6, "certificate_tol": 1e-8}),
    "minimize": (uf.minimize, {
        "ufm": MODEL, "x0": POINT, "tol": 1e-6, "fixed": None, "max_evaluations": 20, "callback": None, "seed": 0,
        "checkpoint": None,
    }),
    "global_minimum": (uf.global_minimum, {"ufm": MODEL, "tol": 1e-9}),
    "saddle": (uf.saddle, {"ufm": MODEL, "rank": 1, "seed": 0}),
    "escape": (uf.escape, {"ufm": MODEL, "p": POINT}),
    "lowest_eigenpairs": (uf.lowest_eigenpairs, {
        "ufm": MODEL, "p": POINT, "k": 1, "tol": 1e-8, "deflate": None, "max_products": 100, "seed": 0,
    }),
    "spectrum": (uf.spectrum, {"ufm": MODEL, "p": POINT, "steps": 3, "probes": 2, "seed": 0}),
    "closed_form_spectrum": (uf.closed_form_spectrum, {"ufm": MODEL}),
    "path": (uf.path, {
        "ufm": MODEL, "values": [0.02, 0.1], "over": "lambda_W", "tol": 1e-8, "max_evaluations": 50, "locate": None,
        "keep_points": False, "checkpoint": None, "callback": None,
    }),
    "nc_metrics": (uf.nc_metrics, {
        "W": W, "H": H, "labels": LABELS, "b": np.zeros(3), "classes": None, "ignore_index": None, "centre": "samples",
        "statistics": "full", "threads": 1,
    }),
    "NCAccumulator": (lambda K, d, H, labels: uf.NCAccumulator(K, d, threads=1).update(H, labels).result(None), {
        "K": 3, "d": 3, "H": H, "labels": LABELS,
    }),
    "nrc_metrics": (uf.nrc_metrics, {"W": W[:2], "H": H, "Y": H[:, :2], "bias": True}),
    "onc_metrics": (uf.onc_metrics, {"W": W[:1], "H": H, "labels": LABELS, "thresholds": [0.0, 1.0], "b": 0.0}),
    "multilabel_angles": (uf.multilabel_angles, {"H": H, "targets": np.eye(3)[LABELS]}),
    "inspect": (uf.inspect, {"W": W, "H": H, "labels": LABELS, "b": np.zeros(3), "lambda_W": 0.01, "lambda_H": None}),
    "linear_cross_entropy": (uf.linear_cross_entropy, {
        "W": W, "H": H, "labels": LABELS, "b": np.zeros(3), "loss": "cross_entropy", "weights": np.ones(6),
        "ignore_index": -1, "reduction": "mean", "return_logsumexp": False, "out": None, "threads": 1,
    }),
    "linear_cross_entropy_hvp": (uf.linear_cross_entropy_hvp, {
        "W": W, "H": H, "labels": LABELS, "v": (W, H, np.zeros(3)), "b": np.zeros(3), "reduction": "sum", "threads": 1,
    }),
    "counts": (uf.counts, {"name": "cifar10-lt", "imbalance": 10}),
    "simplex_etf": (uf.simplex_etf, {"K": 3, "d": 4}),
    "save_point": (uf.save_point, {"path": FOLDER / "point.npz", "ufm": MODEL, "p": POINT}),
    "load_point": (uf.load_point, {"path": FOLDER / "point.npz", "threads": 1}),
    "set_num_threads": (lambda n: (uf.set_num_threads(n), uf.set_num_threads(None)), {"n": 1}),
}  # fmt: skip

#: What a user may pass by mistake.
WRONG = [
    None, True, False, 0, 1, -1, 2, 3.0, 0.5, -0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 2**31, 2**63,
    2**64, 10**30, 1j, "", "mse", "W", "packed", "no such thing", b"bytes", object(), type, print, [], [1, 2, 3],
    [0, 0, 0], [[1.0]], [1, [2]], (), {}, {"a": 1}, set(), range(3), range(0), np.float32(1.5), np.int8(3),
    np.bool_(True), np.nan, np.datetime64("2020"), np.zeros(0), np.zeros((3, 3)), np.zeros((3, 3), np.float32),
    np.zeros((6, 3)), np.zeros((3, 0)), np.zeros((0, 3)), np.zeros(9), np.full((3, 3), np.nan),
    np.full((3, 3), np.inf), np.full((6, 3), 1e200), np.full(6, 1e308), np.full((3, 3), 5e-324), np.ones((3, 3), int),
    np.ones((3, 3), complex), np.ones((3, 3), ">f8"), np.ones((3, 3), object), np.array(["a", "b", "c"]),
    np.asfortranarray(RNG.standard_normal((3, 3))), RNG.standard_normal((6, 6))[::2, ::2], np.zeros((2, 3, 3)),
    np.array(2.0), np.array(3), np.array([0, 1, 2, 0, 1, 7]), np.array([0, 1, 2, 0, 1, -1]), np.array([0.5] * 6),
    np.array([0, 1, 2, 0, 1, 2], np.uint64), np.ma.masked_array([0, 1, 2, 0, 1, 2], [1, 0, 0, 0, 0, 0]),
    np.ma.masked_array(np.eye(3), np.eye(3)), np.matrix(np.eye(3)), scipy.sparse.csr_array(np.eye(3)),
    scipy.sparse.coo_array((6, 3)), np.rec.array([(1, 2.0)]), memoryview(b"abc"), iter([1, 2, 3]), POINT,
    POINT._replace(W=POINT.W[:2]), POINT._replace(b=None), POINT._replace(H=np.full((3, 3), np.nan)),
    (POINT.W, POINT.H), MODEL, uf.MSE(), uf.CrossEntropy, uf.Ordinal([0.0, 1.0]), uf.Focal(2.0),
    Path("/no/such/folder/file"), FOLDER,
]  # fmt: skip
