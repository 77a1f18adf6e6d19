from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, type_check_only

import numpy as np
from numpy.typing import NDArray

eigen_version: str
most_threads: int
small_product: int

def levels() -> list[str]: ...
def level_file(name: str) -> str: ...
def load_level(folder: str, name: str) -> str: ...
def set_dgemm(capsule: Any, integer_bytes: int) -> None: ...
def set_sgemm(capsule: Any, integer_bytes: int) -> None: ...
def set_dsyrk(capsule: Any, integer_bytes: int) -> None: ...
def set_ssyrk(capsule: Any, integer_bytes: int) -> None: ...

_Scalar = TypeVar("_Scalar", np.float64, np.float32)
_Point: TypeAlias = tuple[NDArray[_Scalar], NDArray[_Scalar], NDArray[_Scalar]]

@type_check_only
class _Problem(Generic[_Scalar]):
    def __init__(
        self,
        K: int,
        d: int,
        targets: NDArray[Any] | tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]],
        weights: NDArray[np.floating[Any]],
        scales: NDArray[np.floating[Any]],
        ridges: NDArray[np.floating[Any]],
        loss: str,
        parameters: Mapping[str, float | list[float] | str],
        lambda_W: float,
        lambda_b: float,
        bias: bool,
    ) -> None: ...
    def loss(self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], threads: int) -> float: ...
    def flat_loss(self, x: NDArray[_Scalar], threads: int) -> float: ...
    def loss_and_grad(
        self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], threads: int
    ) -> tuple[float, NDArray[_Scalar], NDArray[_Scalar], NDArray[_Scalar]]: ...
    def loss_and_grad_into(
        self,
        W: NDArray[_Scalar],
        H: NDArray[_Scalar],
        b: NDArray[_Scalar],
        grad_W: NDArray[_Scalar],
        grad_H: NDArray[_Scalar],
        grad_b: NDArray[_Scalar],
        losses: NDArray[_Scalar] | None,
        logsumexps: NDArray[_Scalar] | None,
        threads: int,
    ) -> float: ...
    def flat_loss_and_grad(self, x: NDArray[_Scalar], threads: int) -> tuple[float, NDArray[_Scalar]]: ...
    def hvp(
        self,
        W: NDArray[_Scalar],
        H: NDArray[_Scalar],
        b: NDArray[_Scalar],
        V_W: NDArray[_Scalar],
        V_H: NDArray[_Scalar],
        V_b: NDArray[_Scalar],
        threads: int,
    ) -> _Point[_Scalar]: ...
    def flat_hvp(self, x: NDArray[_Scalar], v: NDArray[_Scalar], threads: int) -> NDArray[_Scalar]: ...
    def flat_hvps(
        self, x: NDArray[_Scalar], V: NDArray[_Scalar], states: NDArray[_Scalar] | None, threads: int
    ) -> NDArray[_Scalar]: ...
    def row_states(
        self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], threads: int
    ) -> NDArray[_Scalar]: ...
    def gradient_matrix(
        self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], threads: int
    ) -> NDArray[_Scalar]: ...
    def gradient_gram(
        self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], threads: int
    ) -> NDArray[_Scalar]: ...
    def gradient_product(
        self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], X: NDArray[_Scalar], threads: int
    ) -> NDArray[_Scalar]: ...
    def data_term(
        self, Z: NDArray[_Scalar], b: NDArray[_Scalar], threads: int
    ) -> tuple[float, NDArray[_Scalar], NDArray[_Scalar]]: ...
    def gradient_at_scores(
        self, W: NDArray[_Scalar], H: NDArray[_Scalar], b: NDArray[_Scalar], Z: NDArray[_Scalar], threads: int
    ) -> tuple[float, NDArray[_Scalar], NDArray[_Scalar]]: ...

class Problem64(_Problem[np.float64]): ...
class Problem32(_Problem[np.float32]): ...

class ClassStatistics:
    def __init__(self, K: int, d: int, scatter: bool = True) -> None: ...
    def update(self, H: NDArray[np.float64] | NDArray[np.float32], labels: NDArray[np.int64], threads: int) -> None: ...
    def merge(self, other: ClassStatistics, threads: int) -> None: ...
    def counts(self) -> NDArray[np.int64]: ...
    def read(
        self, threads: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]: ...
    def state(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]: ...
    def set_state(self, parts: dict[str, NDArray[Any]]) -> None: ...

_Array: TypeAlias = NDArray[np.float64]

def empty64(rows: int, columns: int) -> _Array: ...
def empty32(rows: int, columns: int) -> NDArray[np.float32]: ...

_Numbers: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
_AnyProblem: TypeAlias = Problem64 | Problem32

def class_logits(
    problem: _AnyProblem, labels: NDArray[np.int64], W: _Numbers, H: _Numbers, b: _Numbers, threads: int
) -> _Numbers: ...
def class_gradient(
    problem: _AnyProblem,
    labels: NDArray[np.int64],
    logsumexps: _Numbers,
    residuals: _Numbers,
    smoothing: float,
    classes: int,
    W: _Numbers,
    H: _Numbers,
    b: _Numbers,
    threads: int,
) -> tuple[float, _Numbers, _Numbers, _Numbers]: ...
def class_moves(
    problem: _AnyProblem,
    labels: NDArray[np.int64],
    logsumexps: _Numbers,
    W: _Numbers,
    H: _Numbers,
    b: _Numbers,
    V_W: _Numbers,
    V_H: _Numbers,
    V_b: _Numbers,
    threads: int,
) -> _Numbers: ...
def class_product(
    problem: _AnyProblem,
    labels: NDArray[np.int64],
    logsumexps: _Numbers,
    residuals: _Numbers,
    smoothing: float,
    classes: int,
    W: _Numbers,
    H: _Numbers,
    b: _Numbers,
    V_W: _Numbers,
    V_H: _Numbers,
    V_b: _Numbers,
    means: _Numbers,
    curvatures: _Numbers,
    threads: int,
) -> tuple[bool, _Numbers, _Numbers, _Numbers]: ...
def inner_products(X: Sequence[_Array], Y: Sequence[_Array], threads: int) -> _Array: ...
def matrix_product(X: _Array, Y: _Array, threads: int, out: _Array | None = None) -> _Array: ...
def gram(X: _Array, threads: int) -> _Array: ...
def combination(coefficients: Sequence[float], X: Sequence[_Array], threads: int) -> _Array: ...
def curvature_sums(problem: Problem64, G: _Array, threads: int) -> tuple[float, float, float, _Array]: ...
def bias_curvature_product(problem: Problem64, G: _Array, v: _Array, threads: int) -> _Array: ...
def pair_metric(
    problem: Problem64,
    G: _Array,
    point: _Array,
    e: _Array,
    o: _Array,
    least_curvature: float,
    gradient: _Array,
    columns: int,
    threads: int,
) -> _Array: ...
def dual_sums(problem: Problem64, Y: _Array, margin: float, threads: int) -> tuple[_Array, ...]: ...
def ordinal_terms(link: str, z: _Array, lo: _Array, hi: _Array) -> _Array: ...
def curvature_along(problem: Problem64, G: _Array, dZ: _Array, threads: int) -> float: ...
def targets(problem: Problem64) -> _Array: ...
def gradient_eigenpairs(
    problem: Problem64,
    W: _Array,
    H: _Array,
    b: _Array,
    deflated: _Array,
    start: _Array,
    count: int,
    guards: int,
    basis: int,
    tolerance: float,
    max_products: int,
    store: bool,
    threads: int,
) -> tuple[_Array, _Array, int, float, bool]: ...
def hessian_eigenpairs(
    problem: Problem64,
    W: _Array,
    H: _Array,
    b: _Array,
    start: _Array,
    count: int,
    guards: int,
    basis: int,
    tolerance: float,
    max_products: int,
    store: bool,
    deflate: bool,
    threads: int,
) -> tuple[_Array, _Array, int, float, bool]: ...
def leading_eigenpairs(
    matrix: _Array, start: _Array, count: int, basis: int, tolerance: float, max_products: int, threads: int
) -> tuple[_Array, _Array, _Array, int, float]: ...
def hessian_lanczos(
    problem: Problem64,
    W: _Array,
    H: _Array,
    b: _Array,
    start: _Array,
    steps: int,
    store: bool,
    features_only: bool,
    threads: int,
) -> tuple[_Array, _Array]: ...
