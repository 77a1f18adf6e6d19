"""What is computed: a model, a point in it, a direction, and the right answer from NumPy in double precision."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

import ufm_fast as uf

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
REFERENCE_ROWS = 1000
PRODUCTS = {"loss+grad": 3, "loss+grad, packed": 3, "HVP": 7, "HVP, repeated": 6, "block HVP": 8 * 6}


def loss_and_grad(W, H, b, labels, decay, rows):
    """The model's loss and gradient in NumPy, so many features at a time."""
    loss = decay / 2 * ((W * W).sum() + (H * H).sum())
    gradient = decay * W, decay * H, np.zeros_like(b)
    for start in range(0, len(H), rows):
        part = slice(start, start + rows)
        G, log_sums, label_logits = _residuals(W, H[part], b, labels[part], len(H))
        loss += (log_sums - label_logits).sum() / len(H)
        gradient[0][:] += G.T @ H[part]
        gradient[1][part] += G @ W
        gradient[2][:] += G.sum(0)
    return loss, *gradient


def hvp(W, H, b, labels, decay, V_W, V_H, v_b, rows):
    """The Hessian times (V_W, V_H, v_b) in NumPy, so many features at a time."""
    product = decay * V_W, decay * V_H, np.zeros_like(b)
    for start in range(0, len(H), rows):
        part = slice(start, start + rows)
        G, _, _ = _residuals(W, H[part], b, labels[part], len(H))
        P = G.copy()
        P[np.arange(len(P)), labels[part]] += 1 / len(H)
        D = H[part] @ V_W.T
        D += V_H[part] @ W.T
        D += v_b
        D -= len(H) * np.einsum("mk,mk->m", P, D)[:, None]
        D *= P
        product[0][:] += D.T @ H[part] + G.T @ V_H[part]
        product[1][part] += D @ W + G @ V_W
        product[2][:] += D.sum(0)
    return product


def _residuals(W, H, b, labels, N):
    """Derivative of the mean loss with respect to the logits, log sum exp and the logits of the labels."""
    G = H @ W.T
    G += b
    each = np.arange(len(H))
    label_logits = G[each, labels]
    top = G.max(1)
    G -= top[:, None]
    np.exp(G, out=G)
    sums = G.sum(1)
    G /= N * sums[:, None]
    G[each, labels] -= 1 / N
    return G, top + np.log(sums), label_logits


@dataclass(frozen=True)
class Work:
    """One quantity of one model with n samples a class, at a random point with logits of order one."""

    quantity: str  # a key of PRODUCTS
    K: int
    d: int
    n: int = 1
    dtype: str = "float64"

    def __reduce__(self) -> tuple:
        return Work, astuple(self)  # without the arrays

    @property
    def M(self) -> int:
        return self.K * self.n

    @property
    def size(self) -> str:
        if self.K == self.d == self.M:
            return f"K = d = M = {self.K}"
        return f"K = M = {self.K}, d = {self.d}" if self.n == 1 else f"K = {self.K}, d = {self.d}, M = {self.M}"

    @property
    def title(self) -> str:
        return f"{self.quantity} {'double' if self.dtype == 'float64' else 'single'}, {self.size}"

    @property
    def flops(self) -> float:
        """Operations of the matrix products that the algebra needs."""
        return 2.0 * PRODUCTS[self.quantity] * self.K * self.d * self.M

    @property
    def decay(self) -> float:
        return 0.1 / self.M

    @cached_property
    def point(self) -> uf.Point:
        generator = np.random.default_rng(0)
        W, H, b = (generator.standard_normal(shape) for shape in ((self.K, self.d), (self.M, self.d), self.K))
        return uf.Point(*(array.astype(self.dtype) for array in (W / np.sqrt(self.d), H, b)))

    @cached_property
    def direction(self) -> uf.Point:
        generator = np.random.default_rng(1)
        shapes = (self.K, self.d), (self.M, self.d), self.K
        return uf.Point(*(generator.standard_normal(shape).astype(self.dtype) for shape in shapes))

    @cached_property
    def labels(self) -> np.ndarray:
        return np.repeat(np.arange(self.K), self.n)

    def ufm(self, threads: int) -> uf.UFM:
        decay = self.decay
        return uf.UFM(
            self.K, self.d, self.n, lambda_W=decay, lambda_H=decay, collapse=False, dtype=self.dtype, threads=threads
        )

    @cached_property
    def reference(self) -> tuple:
        point = tuple(np.asarray(array, float) for array in self.point)
        if self.quantity.startswith("loss+grad"):
            return loss_and_grad(*point, self.labels, self.decay, REFERENCE_ROWS)
        direction = tuple(np.asarray(array, float) for array in self.direction)
        return hvp(*point, self.labels, self.decay, *direction, REFERENCE_ROWS)

    def error(self, answer) -> float:
        """Largest relative error of the parts of an answer."""
        parts = [np.asarray(part, float) for part in answer]
        if [part.shape for part in parts] != [np.shape(right) for right in self.reference]:
            return np.inf
        return max(
            float(np.linalg.norm(part - right) / np.linalg.norm(right))
            for part, right in zip(parts, self.reference, strict=True)
        )

    def check(self, name: str, answer) -> None:
        """Raise unless the answer is right to rounding."""
        error = self.error(answer)
        if not error <= TOLERANCE[self.dtype]:
            raise AssertionError(f"{name}, {self.title}: relative error {error:.1e}")
