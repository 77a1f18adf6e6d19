"""The compiled core against the oracle, case by case; test_instruction_sets runs all of it in subprocesses."""

import itertools
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle

SMALL = (5, 4)  # K, d: runs inline
LARGE = (40, 30)  # several threads and, with a row a sample, several tiles
LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(label_smoothing=0.1), uf.MSE()]


def affine_cross_entropy(K):
    """With all that cross-entropy can have, over K classes."""
    k = np.arange(K)
    return uf.CrossEntropy(0.1, scale=0.5 + k % 5 / 4, shift=np.sin(k), margin=np.cos(k))


ALL_LOSSES = [*LOSSES, affine_cross_entropy, uf.BinaryCrossEntropy(label_smoothing=0.1), uf.Focal(1.5)]
BIASES = [{"bias": True, "lambda_b": 0.0}, {"bias": True, "lambda_b": 0.07}, {"bias": False}]


#: Around the sizes at which products are split or take another path: tails of vectors, several tiles, blocks of classes
#: and features, few and many features.
SHAPES = [(17, 61), (33, 256), (37, 257), (131, 90), (700, 40), (60, 800)]


class Case(NamedTuple):
    shape: tuple[int, int]
    threads: int
    loss: object  # or a function of K that makes it
    bias: dict
    imbalanced: bool
    collapse: bool
    dtype: str

    def __str__(self):
        K, d = self.shape
        shape = f"K{K}-d{d}-{'im' if self.imbalanced else ''}balanced-{'collapsed' if self.collapse else 'full'}"
        bias = "nobias" if not self.bias["bias"] else "ridge" if self.bias["lambda_b"] else "free"
        loss = getattr(self.loss, "__name__", self.loss)
        return f"{loss}-{bias}-{shape}-{self.dtype}-{self.threads}threads"

    def ufm(self) -> uf.UFM:
        K, d = self.shape
        if self.shape == SMALL:
            n = [1, 7, 2, 2, 4] if self.imbalanced else 3
        else:
            n = np.geomspace(3, 300, K).astype(int) if self.imbalanced else 53 if self.shape == LARGE else 3
        return uf.UFM(
            K, d, n, loss=self.loss(K) if callable(self.loss) else self.loss, lambda_W=3e-2, lambda_H=2e-3,
            collapse=self.collapse, dtype=self.dtype, threads=self.threads, **self.bias,
        )  # fmt: skip


CASES = [
    Case(shape, threads, loss, bias, imbalanced, collapse, dtype)
    for (shape, threads), loss, bias, imbalanced, collapse, dtype in itertools.product(
        [(SMALL, 1), (LARGE, 1), (LARGE, 2), (LARGE, 3)],
        ALL_LOSSES,
        BIASES,
        (False, True),
        (True, False),
        ("float64", "float32"),
    )
]

SHAPE_CASES = [
    Case(shape, 2, loss, {"bias": True, "lambda_b": 0.07}, False, collapse, dtype)
    for shape, loss, collapse, dtype in itertools.product(SHAPES, ALL_LOSSES[1:], (True, False), ("float64", "float32"))
]


def tolerance(dtype) -> float:
    return {"float64": 1e-12, "float32": 1e-5}[np.dtype(dtype).name]


def assert_close(actual, expected, dtype):
    """Every part within the dtype's tolerance, relative to the part's largest entry."""
    for part, wanted in zip(actual, expected, strict=True):
        assert part.dtype == dtype
        assert part.shape == wanted.shape
        assert np.abs(part - wanted).max() <= tolerance(dtype) * np.abs(wanted).max()


def check(case: Case) -> None:
    """Loss, gradient, Hessian products and the gradient matrix of a case."""
    ufm = case.ufm()
    oracle = Oracle.of(ufm)
    p, v = ufm.random_point(1, scale=0.7), ufm.random_point(2, scale=1.0)
    loss = oracle.loss(*map(np.float64, p))
    gradient = oracle.gradient(*map(np.float64, p))
    product = oracle.hvp(*map(np.float64, p), *map(np.float64, v))

    assert abs(ufm.loss(p) - loss) <= tolerance(case.dtype) * loss
    value, computed = ufm.loss_and_grad(p)
    assert abs(value - loss) <= tolerance(case.dtype) * loss
    assert_close(computed, gradient, case.dtype)
    assert_close(ufm.hvp(p, v), product, case.dtype)

    x, y = ufm.pack(p), ufm.pack(v)
    for memory in (0, None):
        operator = ufm.hessian(p, memory=memory)
        assert_close(ufm.unpack(operator @ y), product, case.dtype)
        block = operator @ np.stack([y, x, y], axis=1)
        assert_close(ufm.unpack(np.ascontiguousarray(block[:, 2])), product, case.dtype)
        np.testing.assert_array_equal(block[:, 0], block[:, 2])
    assert abs(ufm.fun(x) - loss) <= tolerance(case.dtype) * loss
    value, computed = ufm.fun_and_grad(x)
    assert abs(value - loss) <= tolerance(case.dtype) * loss
    assert_close(ufm.unpack(computed), gradient, case.dtype)
    assert_close(ufm.unpack(ufm.hessp(x, y)), product, case.dtype)

    core, matrix = ufm._problem, oracle.residuals(*map(np.float64, p))
    X = np.random.default_rng(3).standard_normal((ufm.K, 2)).astype(case.dtype)
    assert_close([core.gradient_matrix(*p, case.threads)], [matrix], case.dtype)
    assert_close([core.gradient_gram(*p, case.threads)], [matrix.T @ matrix], case.dtype)
    assert_close([core.gradient_product(*p, X, case.threads)], [matrix @ X], case.dtype)


models = st.builds(
    lambda K, d, n, loss, bias, collapse, dtype: uf.UFM(
        K, d, n[:K], loss=loss, lambda_W=0.02, lambda_H=0.003, collapse=collapse, dtype=dtype, **bias
    ),
    st.integers(2, 6),
    st.integers(1, 6),
    st.lists(st.integers(1, 4), min_size=6, max_size=6),
    st.sampled_from(LOSSES),
    st.sampled_from(BIASES),
    st.booleans(),
    st.sampled_from(["float64", "float32"]),
)
