"""The unconstrained feature model written out in plain NumPy: obvious, slow, and independent of ufm_fast.

    f(W, H, b) = sum_m n_m/N * l(W h_m + b, y_m) + lambda_W/2 |W|^2 + lambda_H/2 sum_m n_m |h_m|^2 + lambda_b/2 |b|^2

Row m of H stands for n_m equal samples: n_m = 1 and one row per sample, class by class, or (collapsed) one row per
class and n_m = the class count. Rows of any kind have targets of their own, and weights and ridges in place of n_m/N
and n_m. The losses l are in `row_losses`. Everything is float64, and also accepts complex input, so that derivatives
can be checked by complex steps. `decimal_loss` evaluates the same f with 60 digits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal, localcontext

import numpy as np

from row_losses import RowLoss


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
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    margin: tuple[float, ...] | None = None
    gamma: float = 0.0
    collapsed: bool = True
    rows: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # targets (M, K), weights (M,) and ridges (M,)

    @classmethod
    def of(cls, ufm, rows=None) -> Oracle:
        """The oracle of a `ufm_fast.UFM`, from its public attributes and, if it is one of rows, these."""
        return cls(
            K=ufm.K,
            d=ufm.d,
            counts=() if ufm.counts is None else tuple(int(n) for n in ufm.counts),
            lambda_W=ufm.lambda_W,
            lambda_H=ufm.lambda_H,
            lambda_b=ufm.lambda_b,
            bias=ufm.bias,
            loss_name=ufm.loss_function.name,
            collapsed=ufm.collapse_classes,
            rows=rows,
            **{field.name: getattr(ufm.loss_function, field.name) for field in fields(ufm.loss_function)},
        )

    def full(self) -> Oracle:
        """The same problem with one row per sample."""
        return replace(self, collapsed=False)

    @property
    def row_loss(self) -> RowLoss:
        return RowLoss(
            name=self.loss_name, label_smoothing=self.label_smoothing, scale=self.scale, shift=self.shift,
            margin=self.margin, gamma=self.gamma,
        )  # fmt: skip

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
    def weights(self) -> np.ndarray:
        """(M,) weight of each row in the data term."""
        return self.multiplicities / self.N if self.rows is None else self.rows[1]

    @property
    def ridges(self) -> np.ndarray:
        """(M,) weight of each row in the ridge."""
        return self.multiplicities if self.rows is None else self.rows[2]

    @property
    def raw_targets(self) -> np.ndarray:
        """(M, K) target of each row of H, before any label smoothing."""
        return np.eye(self.K)[self.labels] if self.rows is None else self.rows[0]

    @property
    def targets(self) -> np.ndarray:
        """(M, K) what the logits of each row of H are compared with."""
        return self.row_loss.targets(self.raw_targets)

    def logits(self, W, H, b):
        return H @ W.T + (b if self.bias else 0.0)

    def loss(self, W, H, b):
        regularisation = self.lambda_W / 2 * (W**2).sum() + self.lambda_H / 2 * (self.ridges * (H**2).sum(1)).sum()
        if self.bias:
            regularisation += self.lambda_b / 2 * (b**2).sum()
        return (self.weights * self.row_loss.value(self.logits(W, H, b), self.raw_targets)).sum() + regularisation

    def probabilities(self, W, H, b):
        """(M, K) softmax of the logits."""
        Z = self.logits(W, H, b)
        E = np.exp(Z - Z.real.max(1, keepdims=True))
        return E / E.sum(1, keepdims=True)

    def residuals(self, W, H, b):
        """(M, K) gradient of the data term with respect to the logits."""
        return self.weights[:, None] * self.row_loss.gradient(self.logits(W, H, b), self.raw_targets)

    def gradient(self, W, H, b):
        G = self.residuals(W, H, b)
        gb = G.sum(0) + self.lambda_b * b if self.bias else np.zeros(self.K)
        return G.T @ H + self.lambda_W * W, G @ W + self.lambda_H * self.ridges[:, None] * H, gb

    def hvp(self, W, H, b, VW, VH, vb):
        """Hessian times (VW, VH, vb)."""
        G, Z = self.residuals(W, H, b), self.logits(W, H, b)
        dZ = H @ VW.T + VH @ W.T + (vb if self.bias else 0.0)
        dG = self.weights[:, None] * self.row_loss.product(Z, self.raw_targets, dZ)
        ob = dG.sum(0) + self.lambda_b * vb if self.bias else np.zeros(self.K)
        out_W = dG.T @ H + G.T @ VH + self.lambda_W * VW
        return out_W, dG @ W + G @ VW + self.lambda_H * self.ridges[:, None] * VH, ob

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
        M = len(self.weights)
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
            total = Decimal(self.lambda_W) / 2 * square(rows_W)
            if self.bias:
                total += Decimal(self.lambda_b) / 2 * square([row_b])
            targets, N = exact(self.raw_targets), Decimal(self.N)
            for h, target, n in zip(rows_H, targets, self.multiplicities, strict=True):
                z = [sum(x * y for x, y in zip(w, h, strict=True)) for w in rows_W]
                if self.bias:
                    z = [x + y for x, y in zip(z, row_b, strict=True)]
                loss = self.row_loss.decimal(z, target)
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
