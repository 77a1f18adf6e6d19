"""Lower bounds on the global minimum from points of the dual problem, on collapsed classes.

In the coordinates of `ClassProblem` the minimum over all widths d is that of a convex problem in (Z, b),

    data(Z, b) + tau |Z|_* + lambda_b/2 |b|^2,

whose dual is to maximise over K x K matrices Y (the place of G = d data / d Z)

    D(Y) = -data*(Y) - |e|^2 / (2 lambda_b)   subject to |Y|_2 <= tau,     e = sum_k root_k Y_k

(lambda_b = 0: subject to e = 0; no bias: no such term). Every feasible Y bounds the minimum from below, at every d.
The minimum does not fall as lambda_b rises, so bounds for lambda_b = 0 hold for every lambda_b; they are taken where
lambda_b is so small that the rounding of e would cost more than the decay of the bias.
With targets T_k and Q_k = T_k + N Y_k / root_k, -data* is sum_k (n_k/N) entropy(Q_k) for cross-entropy, -infinity
unless every Q_k is a probability vector, and -<Y, root T> - N |Y|^2 / 2 for squared error.

Why the bounds hold in floating point. A cross-entropy point *is* the off-diagonal entries of Y, the diagonal being
minus the exact sum of the others. So rows sum to zero, wrong classes keep relative accuracy however small, and the
label's probability is 1 - x with x their sum (its entropy by log1p). What remains is covered as follows, u = 2^-52.

* Evaluating D. Each term is known to a few u of its size, a sum of K terms to K/8 + 20 u at worst; (32 + K/4) u times
  the sum of the terms' absolute values is subtracted, an error dq in q counting (1 + |log q|) dq.
* The simplex. Without smoothing, probabilities of wrong classes have the signs of Y's entries. Where 1 - x, or a
  smoothed probability over smoothing / K, is within its rounding r = (32 + K/4) u of zero, its exact value may be
  negative. Then (1 - h) Y, h = 4 r / (1 - smoothing), takes the place of Y: that mixes the probabilities with h
  times the targets, at least 1 - smoothing at the label and smoothing / K elsewhere, and all rise above their rounding.
* The norm. If |Y|_2 <= (1 + m) tau then Y / (1 + m) is feasible, and as D is concave with D(0) >= 0 its value is at
  least (1 - m) D(Y). m = (64 + 4K) u covers the backward errors of LAPACK (a norm from Lanczos counts only where a
  Cholesky factorisation shows that no eigenvalue of Y^T Y is larger) and of the products (entries in error by sqrt(K) u
  relative to their row change the norm by at most K u). The change of the diagonal, with its rounding, is added to it.
* The constraint e = 0, which rounding leaves violated. For squared error, subtracting root e^T / N restores it and
  raises no norm. For cross-entropy, a flow from the classes k that receive too much (e_k > 0) to those l that receive
  too little does: e_k |e_l| / s from k to l, with s the sum of all e_k > 0. Over root_k, this is added to off-diagonal
  entries of row k, a matrix of rank one with norm at most |e / root|_2, and e_k / root_k is taken from the diagonal, a
  matrix of no larger norm. The two have no column in common, so both together have a norm of at most
  sqrt(2) |e / root|_2 (and just that for K = 2). The entropies fall by at most |e_k| (1 + |log Q_kk|), and Q_kk stays
  positive while e_k is less than its share. Bounds on |e| and Q_kk are used: the computed values and their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import xlog1py

from .._numerics.gram_spectra import leading_pair, norm_rounding
from .._runtime import core
from .._runtime.blas import gram, product

if TYPE_CHECKING:
    from .._model.canonical import ClassProblem

Array: TypeAlias = NDArray[np.float64]

#: Costs in products of two K x K matrices, for work counts.
NORM_PRODUCTS, EIGH_PRODUCTS, SVD_PRODUCTS = 2, 8, 20

_UNIT = np.finfo(float).eps
_TINY = np.finfo(float).tiny
_ACTIVE = 0.8  # singular values above this fraction of tau are taken to be tau at the optimum (polar bound)
_NEGLIGIBLE = 1e-6
_SINGULAR = 1e-14
_MIXTURES = (0.2, 0.5, 0.9, 0.99, 0.999)


class OffDiagonal(NamedTuple):
    """Sums over the off-diagonal entries of a dual point, one a class: of rows but for `received` and `doubt`.

    Those are root @ Y and root @ abs(Y). Q are the probabilities of the wrong classes.
    """

    rows: Array
    absolute_rows: Array
    received: Array
    doubt: Array
    least: Array  # Q
    wrong: Array  # sum of Q
    entropy: Array  # -sum of Q log Q
    logarithms: Array  # sum of log Q


class Dual:
    """Dual bounds of a class problem; valid whatever point they are taken at.

    Each bound is a float, at least the trivial D(0). `products` counts the work of all calls in matrix products.
    Matrices are laid out as in `ClassProblem`: (K, K), row k = class k.

    Parameters
    ----------
    q : ClassProblem
        With a convex loss.
    """

    def __init__(self, q: ClassProblem) -> None:
        self.q = q
        self.products = 0.0
        self._entropic = q.loss.name == "cross_entropy"
        self._rounding = (32 + q.K / 4) * _UNIT
        # Whether e = 0 is a constraint: where lambda_b |b|^2 is less than what rounding makes of |e|^2 / lambda_b. The
        # biases of two classes differ by about the logarithm of the ratio of their counts.
        size = 1 + float(np.linalg.norm(np.log(q.counts / q.counts.mean())))
        self._free = q.bias and q.lambda_b * size <= self._rounding * float(np.linalg.norm(q.weights))
        self._norm_rounding = norm_rounding(q.K)
        # D(0), which is zero but for the entropy of smoothed targets
        self._floor = max(0.0, self.value(np.zeros((q.K, q.K)))) if q.loss.label_smoothing > 0 else 0.0

    def feasible(self, G: Array) -> Array:
        """Return G made to satisfy e = 0 where that is a constraint (bias without decay), else G itself.

        Squared error: the nearest such matrix. Cross-entropy: the couplings (n_k/N) Q_k are rounded to the transport
        polytope of their margins (Altschuler, Weed and Rigollet, arXiv:1705.09634), which keeps them nonnegative.
        The smaller e (it is zero at the best bias), the less changes. Cost O(K^2).
        """
        q = self.q
        if not self._free:
            return G
        if not self._entropic:
            return G - np.outer(q.root / q.N, q.root @ G)
        flow = G * q.root[:, None]
        excess = flow.sum(axis=0)
        couplings = flow + q.targets * q.weights[:, None]
        received = q.weights @ q.targets
        taken = np.maximum(excess, 0) / (received + np.maximum(excess, 0))
        rows, columns = couplings @ taken, np.maximum(-excess, 0)
        flow -= couplings * taken
        if (total := rows.sum()) > 0:
            flow += np.outer(rows / total, columns)
        return flow / q.root[:, None]

    def value(self, Y: Array) -> float:
        """Return a lower bound on the minimum from a dual point with |Y|_2 <= tau, up to rounding.

        The dual value less the rounding allowances of the module's docstring; -infinity outside the simplex.
        With a bias without decay, Y must come from `feasible` (or combinations of such); e != 0 is paid for.
        """
        q = self.q
        excess_norm = self._norm_rounding
        if self._entropic:
            Y, sums = self._in_simplex(Y)
            change = abs(np.diag(Y) + sums.rows) + self._rounding * sums.absolute_rows
            excess_norm += float(change.max()) / q.tau
            imbalance, doubt = sums.received - q.root * sums.rows, sums.doubt + q.root * sums.absolute_rows
            value, own = self._entropies(sums), 1 - sums.wrong - self._rounding
        else:
            imbalance, doubt = q.root @ Y, q.root @ abs(Y)
            value, own = self._quadratic(Y), np.ones(q.K)
        imbalance = abs(imbalance) + self._rounding * doubt
        if self._free:
            if self._entropic:
                excess_norm += math.sqrt(2) * float(np.linalg.norm(imbalance / q.root)) / q.tau
                if not np.all(q.weights * own >= imbalance):
                    return -np.inf
            value -= float((imbalance * (1 - np.log(np.maximum(own, _TINY)))).sum())
        elif q.bias:
            value -= float(imbalance @ imbalance) / (2 * q.lambda_b)
        return float(value - excess_norm * max(value, 0))

    def scaled_bound(self, G: Array, norm: float) -> float:
        """Return certificate A: the gradient, with norm |G|_2, scaled into the ball. First order in the error.

        Cost O(K^2), and a norm where the bias has no decay and is far from its best.
        """
        F = self.feasible(G)
        change = float(np.linalg.norm(F - G)) if self._free else 0.0
        norm = norm + change if change <= _NEGLIGIBLE * norm else self.norm(F)
        return max(self._floor, self.value(self._scaled(F, norm)))

    def newton_schulz_bound(self, G: Array) -> float:
        """Second-order bound from one Newton-Schulz step towards the polar factor. Cost: 2 products, no spectrum.

        s (3 - s^2) / 2 maps [0, 2] into [0, 1], so the norm needs no more than a bound on |F|_2 / tau. Loose where the
        optimum has rank below K-1 (singular values of G that belong under tau are raised): see `prox_bound`.
        """
        self.products += 2
        F = self.feasible(G)
        X = F / self.q.tau
        square = gram(X, self.q.workers)
        norm = max(_TINY, np.sqrt(abs(square).sum(axis=1).max()))
        scale = min(1.0, 1.99 / norm)
        Y = self._combination([1.5 * scale, -0.5 * scale**3], [F, product(F, square, self.q.workers)])
        return self._towards(Y, F, float(norm) * self.q.tau)

    def polar_bound(self, G: Array) -> float:
        """Return the better of certificates A and B. Second order. Cost: one eigendecomposition, 3 products.

        B sets the active singular values of the gradient to tau exactly and clips the others.
        """
        tau = self.q.tau
        F = self.feasible(G)
        Y, norm = self._remapped(F, lambda s: np.where(s > _ACTIVE * tau, tau / np.maximum(s, _ACTIVE * tau), 1.0))
        return max(self.value(self._scaled(F, norm)), self._towards(Y, F, norm))

    def prox_bound(self, Z: Array, G: Array) -> float:
        """Return the bound of one proximal-gradient step from Z. Second order; also at optima of any rank.

        Y = -clip(Z/t - G), singular values clipped to tau, 1/t the mean curvature of the data term: the dual point of
        a proximal step of length t, usually within 1.5 of the true gap near the optimum. For squared error without
        bias or without bias decay Z/t - G does not depend on Z and the bound is the minimum itself.
        With 0 < lambda_b < tau, `polish` the point first. Cost: one eigendecomposition, 3 products.
        """
        q = self.q
        sums = q.curvature(G)
        curvature = max(0.0, sums.total - sums.at_labels) / (q.K * max(1, q.K - 1))
        if self._entropic:
            Z = Z - Z.mean(axis=1, keepdims=True)
        if self._free:
            Z = Z - np.outer(q.root / q.N, q.root @ Z)
        F = self.feasible(G)
        step, _ = self._remapped(self._combination([1.0, -curvature], [F, Z]), lambda s: q.tau / np.maximum(s, q.tau))
        return self._towards(step, F)

    def polish(self, A: Array, B: Array, b: Array) -> tuple[Array, Array]:
        """Move the bias and the part of the features that acts as one; returns (B, b), at no higher loss.

        The bias becomes optimal; then B - root x^T, b + A x, which have the same logits, with the x of least penalty;
        then the bias again. For lambda_b = 0 this removes from B what b does for free.
        Cost O(K d^2) where the bias has a decay, else O(K d).
        """
        q = self.q
        if not q.bias:
            return B, b
        b = q.best_bias(product(B, A.T, q.workers), b)
        x = B.T @ q.root / q.N
        if not self._free:
            matrix, ridge = gram(A, q.workers), q.tau / q.lambda_b * q.N
            # more than the ridge proper where that drowns in rounding: a shorter step, which does not raise the loss
            matrix += (ridge + _SINGULAR * np.trace(matrix)) * np.eye(A.shape[1])
            x = scipy.linalg.solve(matrix, ridge * x - A.T @ b, assume_a="pos")
        B = B - np.outer(q.root, x)
        return B, q.best_bias(product(B, A.T, q.workers), b + A @ x)

    def norm(self, F: Array) -> float:
        """Return the spectral norm |F|_2, from the largest eigenvalue of F^T F: see `leading_pair`."""
        self.products += NORM_PRODUCTS
        size = float(abs(F).max())
        if size == 0:
            return 0.0
        X = F / size
        square, _ = leading_pair(gram(X, self.q.workers), self.q.workers)
        return size * float(np.sqrt(square))

    def _combination(self, coefficients: list[float], matrices: list[Array]) -> Array:
        flat = [np.ascontiguousarray(matrix).ravel() for matrix in matrices]
        return core.combination(coefficients, flat, self.q.workers).reshape(matrices[0].shape)

    def _in_simplex(self, Y: Array) -> tuple[Array, OffDiagonal]:
        """Y, or where its probabilities may leave [0, 1] by their rounding a little less of it, and its sums."""
        q, smoothing = self.q, self.q.loss.label_smoothing
        rounding, base = self._rounding, smoothing / q.K
        sums = OffDiagonal(*core.dual_sums(q.core, np.ascontiguousarray(Y), q.workers))
        own, least = float(1 - sums.wrong.max()), float(sums.least.min())
        inside = own > rounding and least >= rounding * base
        if not inside and own >= -rounding and least >= -rounding * base:
            Y = (1 - 4 * rounding / (1 - smoothing)) * Y
            sums = OffDiagonal(*core.dual_sums(q.core, np.ascontiguousarray(Y), q.workers))
        return Y, sums

    def _entropies(self, sums: OffDiagonal) -> float:
        """Sum of (n_k/N) entropy(Q_k) less its rounding; -infinity outside the simplex."""
        q, wrong = self.q, sums.wrong
        base = q.loss.label_smoothing / q.K
        own = 1 - wrong
        if not (sums.least.min() >= 0 and own.min() >= 0):
            return -np.inf
        entropy = sums.entropy - xlog1py(own, -wrong)
        terms = sums.entropy + wrong * (2 - np.log(np.maximum(own, _UNIT)))
        if base > 0:
            terms += 2 * base * (q.K - sums.logarithms)
        return float(q.weights @ (entropy - self._rounding * (terms + entropy)))

    def _quadratic(self, Y: Array) -> float:
        q = self.q
        linear, square = q.root * np.diag(Y), q.N / 2 * float((Y * Y).sum())
        return float(-linear.sum()) - square - self._rounding * float(abs(linear).sum() + square)

    def _scaled(self, F: Array, norm: float) -> Array:
        """F times the best factor (cross-entropy: the largest up to 1) that keeps it in the ball."""
        q = self.q
        limit = q.tau / max(norm, _TINY)
        if self._entropic:
            return F * min(1.0, limit)
        square = q.N * float((F * F).sum())
        if q.bias and not self._free:
            square += float(((q.root @ F) ** 2).sum()) / q.lambda_b
        factor = -float(q.root @ np.diag(F)) / max(square, _TINY)
        return F * min(limit, max(-limit, factor))

    def _towards(self, Y: Array, F: Array, norm: float | None = None) -> float:
        """Bound at Y or, where Y is outside the simplex, the best of some mixtures with scaled F, which is inside."""
        value = self.value(Y)
        if value == -np.inf:
            q = self.q
            anchor = self._scaled(F, self.norm(F) if norm is None else norm)
            Q, change = q.probabilities(anchor), (Y - anchor) * (q.N / q.root)[:, None]
            down = change < 0
            room = np.maximum(Q[down], 0)
            cut = float((room / np.maximum(room, -change[down])).min(initial=1.0))
            value = max(self.value(anchor + w * cut * (Y - anchor)) for w in _MIXTURES)
        return max(self._floor, value)

    def _remapped(self, M: Array, factor: Callable[[Array], Array]) -> tuple[Array, float]:
        """M with each singular value s multiplied by factor(s) (tau at most), and |M|_2.

        From the eigenvectors of M^T M unless |M|_2 is well above tau, where squaring would lose the accuracy near tau:
        an error of a few u |M|_2^2 in the eigenvalues is within m while |M|_2^2 is at most (16 + K) tau^2.
        """
        X = M / self.q.tau
        square = gram(X, self.q.workers)
        if abs(square).sum(axis=1).max() <= 16 + len(M):
            self.products += EIGH_PRODUCTS + 3
            squares, V = np.linalg.eigh(square)
            s = self.q.tau * np.sqrt(np.maximum(squares, _TINY))
            function = product(V * factor(s), V.T, self.q.workers)
            return self._centred(product(M, function, self.q.workers)), float(s[-1])
        self.products += SVD_PRODUCTS + 2
        U, s, V = np.linalg.svd(M)
        s = np.maximum(s, _TINY)
        return self._centred(product(U * (s * factor(s)), V, self.q.workers)), float(s[0])

    def _centred(self, Y: Array) -> Array:
        """Project onto the linear constraints, which holds for Y but for rounding in what it was made from.

        Where |M|_2 is far above tau, noise of its singular value zero is no longer small beside tau.
        """
        q = self.q
        if self._entropic:
            Y = Y - Y.mean(axis=1, keepdims=True)
        return Y - np.outer(q.root / q.N, q.root @ Y) if self._free else Y
