"""The unconstrained feature model written out in plain NumPy: obvious, slow, and independent of ufm_fast.

    f(W, H, b) = sum_m n_m/N * l(W h_m + b, y_m) + lambda_W/2 |W|^2 + lambda_H/2 sum_m n_m |h_m|^2 + lambda_b/2 |b|^2

Row m of H stands for n_m equal samples: n_m = 1 and one row per sample, class by class, or (collapsed) one row per
class and n_m = the class count. Everything is float64, and also accepts complex input, so that derivatives can be
checked by complex steps. `decimal_loss` evaluates the same f with 60 digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Oracle:
    K: int
    d: int
    counts: tuple[int, ...]
    lambda_W: float
    lambda_H: float
    lambda_b: float = 0.0
    bias: bool = True
    loss_name: str = "cross_entropy"
    label_smoothing: float = 0.0
    collapsed: bool = True

    @classmethod
    def of(cls, ufm) -> Oracle:
        """The oracle of a `ufm_fast.UFM`, from its public attributes."""
        return cls(
            K=ufm.K,
            d=ufm.d,
            counts=tuple(int(n) for n in ufm.counts),
            lambda_W=ufm.lambda_W,
            lambda_H=ufm.lambda_H,
            lambda_b=ufm.lambda_b,
            bias=ufm.bias,
            loss_name=ufm.loss_function.name,
            label_smoothing=getattr(ufm.loss_function, "label_smoothing", 0.0),
            collapsed=ufm.collapse_classes,
        )

    def full(self) -> Oracle:
        """The same problem with one row per sample."""
        return replace(self, collapsed=False)

    @property
    def N(self) -> int:
        return sum(self.counts)

    @property
    def labels(self) -> np.ndarray:
        """(M,) class of each row of H."""
        return np.arange(self.K) if self.collapsed else np.repeat(np.arange(self.K), self.counts)

    @property
    def multiplicities(self) -> np.ndarray:
        """(M,) samples that each row of H stands for."""
        return np.array(self.counts, float) if self.collapsed else np.ones(self.N)

    @property
    def targets(self) -> np.ndarray:
        """(M, K) target distribution of each row of H."""
        return ((1 - self.label_smoothing) * np.eye(self.K) + self.label_smoothing / self.K)[self.labels]

    def logits(self, W, H, b):
        return H @ W.T + (b if self.bias else 0.0)

    def loss(self, W, H, b):
        Z, n = self.logits(W, H, b), self.multiplicities
        if self.loss_name == "mse":
            per_row = 0.5 * ((Z - self.targets) ** 2).sum(1)
        else:
            top = Z.real.max(1, keepdims=True)
            log_sum_exp = top[:, 0] + np.log(np.exp(Z - top).sum(1))
            per_row = log_sum_exp - (self.targets * Z).sum(1)
        regularisation = self.lambda_W / 2 * (W**2).sum() + self.lambda_H / 2 * (n * (H**2).sum(1)).sum()
        if self.bias:
            regularisation += self.lambda_b / 2 * (b**2).sum()
        return (n / self.N * per_row).sum() + regularisation

    def probabilities(self, W, H, b):
        """(M, K) softmax of the logits."""
        Z = self.logits(W, H, b)
        E = np.exp(Z - Z.real.max(1, keepdims=True))
        return E / E.sum(1, keepdims=True)

    def residuals(self, W, H, b):
        """(M, K) gradient with respect to the logits: n_m/N times softmax (or logits) minus target."""
        prediction = self.logits(W, H, b) if self.loss_name == "mse" else self.probabilities(W, H, b)
        return (self.multiplicities / self.N)[:, None] * (prediction - self.targets)

    def gradient(self, W, H, b):
        G, n = self.residuals(W, H, b), self.multiplicities
        gb = G.sum(0) + self.lambda_b * b if self.bias else np.zeros(self.K)
        return G.T @ H + self.lambda_W * W, G @ W + self.lambda_H * n[:, None] * H, gb

    def hvp(self, W, H, b, VW, VH, vb):
        """Hessian times (VW, VH, vb)."""
        n = self.multiplicities
        G = self.residuals(W, H, b)
        dZ = H @ VW.T + VH @ W.T + (vb if self.bias else 0.0)
        if self.loss_name == "mse":
            dG = dZ
        else:
            P = self.probabilities(W, H, b)
            dG = P * dZ - P * (P * dZ).sum(1, keepdims=True)
        dG = (n / self.N)[:, None] * dG
        ob = dG.sum(0) + self.lambda_b * vb if self.bias else np.zeros(self.K)
        out_W = dG.T @ H + G.T @ VH + self.lambda_W * VW
        return out_W, dG @ W + G @ VW + self.lambda_H * n[:, None] * VH, ob

    def hessian(self, W, H, b):
        """Dense Hessian in the flat coordinates of `pack`."""
        size = len(self.pack(W, H, b))
        return np.column_stack([self.pack(*self.hvp(W, H, b, *self.unpack(e))) for e in np.eye(size)])

    def pack(self, W, H, b):
        """Flat vector: W, H, and b where there is a bias."""
        return np.concatenate([W.ravel(), H.ravel()] + ([b] if self.bias else []))

    def unpack(self, x):
        cut = self.K * self.d
        end = len(x) - self.K if self.bias else len(x)
        b = x[end:] if self.bias else np.zeros(self.K)
        return x[:cut].reshape(self.K, self.d), x[cut:end].reshape(-1, self.d), b

    def random_point(self, seed: int = 0, scale: float = 1.0):
        rng = np.random.default_rng(seed)
        M = self.K if self.collapsed else self.N
        b = scale * rng.standard_normal(self.K) if self.bias else np.zeros(self.K)
        return scale * rng.standard_normal((self.K, self.d)), scale * rng.standard_normal((M, self.d)), b

    def decimal_loss(self, W, H, b, digits: int = 60) -> Decimal:
        """f at the given floating-point numbers, in decimal arithmetic."""
        with localcontext() as context:
            context.prec = digits

            def exact(array):
                return [[Decimal(float(x)) for x in row] for row in np.atleast_2d(array)]

            def square(rows):
                return sum(x * x for row in rows for x in row)

            rows_W, rows_H, row_b = exact(W), exact(H), exact(b)[0]
            smoothing, N = Decimal(self.label_smoothing), Decimal(self.N)
            total = Decimal(self.lambda_W) / 2 * square(rows_W)
            if self.bias:
                total += Decimal(self.lambda_b) / 2 * square([row_b])
            for h, label, n in zip(rows_H, self.labels, self.multiplicities, strict=True):
                z = [sum(x * y for x, y in zip(w, h, strict=True)) for w in rows_W]
                if self.bias:
                    z = [x + y for x, y in zip(z, row_b, strict=True)]
                target = [smoothing / self.K + (1 - smoothing if k == label else 0) for k in range(self.K)]
                if self.loss_name == "mse":
                    loss = sum((x - y) ** 2 for x, y in zip(z, target, strict=True)) / 2
                else:
                    top = max(z)
                    loss = sum((x - top).exp() for x in z).ln()
                    loss += sum((top - x) * y for x, y in zip(z, target, strict=True))
                total += Decimal(int(n)) / N * loss + Decimal(self.lambda_H) / 2 * int(n) * square([h])
            return total


def two_class_minimum(n1: int, n2: int, lambda_W: float, lambda_H: float, digits: int = 45) -> Decimal:
    """The minimum of cross-entropy on two classes with a bias without decay, in decimal arithmetic.

    With c = tau sqrt(n1 n2 / (2 N)) and both c N / n_k below 1/2 it is sum_k (n_k/N) entropy(c N / n_k, 1 - c N / n_k).
    """
    with localcontext() as context:
        context.prec = digits
        counts, N = (Decimal(n1), Decimal(n2)), Decimal(n1 + n2)
        c = (Decimal(lambda_W) * Decimal(lambda_H) * counts[0] * counts[1] / (2 * N)).sqrt()
        misses = [c * N / n for n in counts]
        assert max(misses) < Decimal("0.5")
        return -sum(n / N * (q * q.ln() + (1 - q) * (1 - q).ln()) for n, q in zip(counts, misses, strict=True))
