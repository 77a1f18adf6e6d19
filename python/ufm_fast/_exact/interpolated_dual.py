"""A lower bound on the minimum of cross-entropy from a dual point interpolated between the nodes of `CountPanels`.

In canonical coordinates and for classes k and l with n and n' samples, the dual point Y of `_certify.dual` is

    Y_kl = y(n) [k = l] + phi(n) kernel phi(n')^T,     y = -tau above n*,  -(1 - label_smoothing) sqrt(n) / N up to it,

what the gradient matrix is at the minimum, so that no contrast exceeds tau. Rows sum to zero, and e = 0, where they do
so at the nodes: y and sqrt(n) y are polynomials of degree 2 in sqrt(n) on each panel, and sums over classes of these
and of phi are sums over nodes.

*The norm* takes no m x m matrix. |Y|_2 < t if and only if [[t I, Y], [Y^T, t I]] is positive definite. With Phi the
orthonormal basis of a panel, the least value of the form of T = [[t I, y], [y, t I]] over all vectors with the same
coefficients x in Phi is x^T (Phi^T T^-1 Phi)^-1 x, and the rest of the form depends on x alone. So t is above the norm
if and only if a 2p x 2p matrix is positive definite. In the eigenbasis of T its blocks are two q x q inverses of
Phi^T diag(1 / (t +- y)) Phi a panel; where y is constant, above n*, these are t +- y.

*Rounding*, u = 2^-52. The dual point is the probabilities of the wrong classes as computed, with anchors as in
`EntropicDual`; each differs from that of Y by at most a = (p + 4 q + 64) u times the sum of the absolute values of its
terms.

* The norm changes by at most the Frobenius norm of the changes off the diagonal plus the largest on it. The latter is
  how far rows of Y are from summing to zero, as computed, plus the rounding of that and of the probabilities.
* The 2p x 2p matrix is known to the defect of the bases, the rounding of the sums and inverses in it, and the backward
  error of its least eigenvalue, which must be larger.
* Entropies are sums of positive terms, each known to a few u, in any order: (m + 64) u of their value is taken off. The
  probability of the right class, which must exceed its rounding r, is not computed from the same sums: r (1 - log of
  the least it can be) is taken off for it.
* What is left of e is restored as in `EntropicDual`, the givers being the classes themselves.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy.special import xlog1py

from .._model.model import UFM
from .._runtime import linalg
from .._runtime.arrays import Array
from .count_panels import CountPanels, Panel
from .interpolated_point import total

_UNIT = float(np.finfo(float).eps)
_LEAST_EXCESS = 1e-13


class InterpolatedDual:
    """Dual points of a model with plain classes and cross-entropy, between nodes.

    Parameters
    ----------
    ufm : UFM
    panels : CountPanels
    """

    def __init__(self, ufm: UFM, panels: CountPanels) -> None:
        self.ufm, self.panels, self.tau = ufm, panels, ufm.tau
        self.smoothing = ufm.loss_function.parameters["label_smoothing"]
        self.N = float(panels.classes @ panels.samples)
        self.weights = panels.classes * panels.samples / self.N
        self.y = self.contrasts(panels.samples, panels.collapsed_counts)
        p, q = len(panels.node_samples), max(panel.basis.shape[1] for panel in panels.panels)
        self.entry_rounding = (p + 4 * q + 64) * _UNIT
        self.most_nodes = q

    def contrasts(self, samples: Array, collapsed: int) -> Array:
        """The function y at ascending counts of which so many are not above n*."""
        y: Array = np.maximum(-(1 - self.smoothing) * np.sqrt(samples) / self.N, -self.tau)
        y[collapsed:] = -self.tau
        return y

    def balanced(self, mean_part: Array, bias: Array, loss: float) -> Array:
        """Change a mean part at the nodes so that rows sum to zero and e = -lambda_b b, as they do at the minimum.

        The latter where what it may add to the norm costs less, of a bound of about `loss`, than the error of e does.
        `bias`, (p,), is sqrt(node_classes) b.
        """
        v = np.sqrt(self.panels.node_classes / self.ufm.K)
        mean_part = mean_part - np.outer(mean_part @ v, v)
        if self.ufm.bias:
            u = np.sqrt(self.panels.node_classes * self.panels.node_samples / self.N)
            missing = -self.ufm.lambda_b / math.sqrt(self.N) * (bias - (bias @ v) * v) - u @ mean_part
            size = float(np.linalg.norm(missing))
            if self.N * size**2 / 2 >= self.ufm.lambda_b * loss * size / self.tau:
                mean_part += np.outer(u, missing)
        return mean_part

    def lower_bound(self, mean_part: Array) -> float:
        """Bound the minimum from below by the dual point with a `balanced` mean part at the nodes, (p, p).

        Where the norm of the point exceeds tau, the point is scaled down.
        """
        panels = self.panels
        reduced = mean_part - np.diag(self.contrasts(panels.node_samples, panels.collapsed_nodes))
        root = np.sqrt(panels.node_classes)
        kernel = reduced / np.outer(root, root)
        rows, sizes = self._sums(kernel.T, np.ones(len(self.y)))
        drift = abs(rows + self.y) + 2 * self.entry_rounding * sizes
        # the constant that smoothing adds to all probabilities, rounded, is a matrix of rank one
        off_diagonal = self.most_nodes * float(np.linalg.norm(reduced)) + self.smoothing / math.sqrt(self.N)
        norm = self.norm(reduced) + float(drift.max()) + self.entry_rounding * off_diagonal
        scale = (1 - 4 * _UNIT) * self.tau / norm
        kernel, rows, sizes = scale * kernel, scale * rows, scale * sizes
        slope = self.N / np.sqrt(panels.samples)
        wrong = slope * (rows - panels.diagonal(kernel)) + self.smoothing * (1 - 1 / self.ufm.K)
        right = 1 - wrong
        rounding = 2 * self.entry_rounding * (slope * sizes + self.smoothing)
        if not np.all(right > rounding):
            return 0.0
        spread = total(panels, partial(self._entropy, kernel), self.ufm)
        if spread == -np.inf:
            return 0.0
        value = spread - float(self.weights @ xlog1py(right, -wrong))
        value -= (len(right) + 64) * _UNIT * value
        value -= float(self.weights @ (rounding * (1 - np.log(right - rounding))))
        return max(0.0, self._with_bias(value, kernel, (rows, sizes), right - rounding))

    def norm(self, reduced: Array) -> float:
        """Bound the norm of diag(y) + Phi reduced Phi^T from above, Phi the bases of all panels.

        By at most twice what it exceeds tau by.
        """
        excess = _LEAST_EXCESS
        while not self._is_above_norm(self.tau * (1 + excess), reduced):
            excess *= 2
        return self.tau * (1 + excess)

    def _is_above_norm(self, t: float, reduced: Array) -> bool:
        p = len(reduced)
        form, rounding = np.zeros((2, p, 2, p)), 0.0
        form[0, :, 1], form[1, :, 0] = reduced, reduced.T
        for panel, defect in zip(self.panels.panels, self.panels.defects, strict=True):
            least, error = self._least_forms(panel, defect, t)
            same, cross = (least[0] + least[1]) / 2, (least[0] - least[1]) / 2
            nodes = panel.nodes
            form[0, nodes, 0, nodes] += same
            form[1, nodes, 1, nodes] += same
            form[0, nodes, 1, nodes] += cross
            form[1, nodes, 0, nodes] += cross
            rounding = max(rounding, error)
        rounding += 16 * p * _UNIT * float(np.linalg.norm(form))
        return bool(linalg.eigvalsh(form.reshape(2 * p, 2 * p))[0] > rounding)

    def _least_forms(self, panel: Panel, defect: float, t: float) -> tuple[list[Array], float]:
        """The matrices (Phi^T diag(1 / (t +- y)) Phi)^-1 of a panel, and a bound on their errors."""
        y, (counts, q) = self.y[panel.counts], panel.basis.shape
        values = [t + y, t - y]
        if counts == q:
            return [np.diag(x) for x in values], 8 * _UNIT * t
        if self.panels.is_above(panel):
            return [x[0] * np.eye(q) for x in values], 4 * t * defect
        spread = max(float((x.max() / x.min()) * x.max()) for x in values)
        inverses = [np.asarray(np.linalg.inv(panel.basis.T @ (panel.basis / x[:, None]))) for x in values]
        return inverses, 2 * ((counts / 2 + 16) * q + 8 * q * q) * _UNIT * spread

    def _sums(self, kernel: Array, function: Array) -> tuple[Array, Array]:
        """Sums over counts n, times a function, of phi(n) kernel phi(n')^T, and of the terms' absolute values; (m,)."""
        panels = self.panels
        function = panels.classes * function
        return (
            panels.interpolate(panels.moments(function) @ kernel),
            panels.interpolate(panels.moments(function, absolute=True) @ abs(kernel), absolute=True),
        )

    def _entropy(self, kernel: Array, counts: slice, nodes: slice, phi: Array) -> float:
        """Minus the weighted sum of Q log Q over all wrong classes of classes with some counts of one panel."""
        panels, classes = self.panels, self.panels.classes[counts]
        left = (phi @ kernel[nodes]) * (self.N / np.sqrt(panels.samples[counts]))[:, None]
        Q = panels.evaluate(left, np.empty((len(phi), len(self.y))))
        Q += self.smoothing / self.ufm.K
        rows = np.arange(len(Q))
        diagonal = rows, counts.start + rows
        Q[diagonal] = np.where(classes > 1, Q[diagonal], 1.0)
        if not Q.min() > 0:
            return -np.inf
        Q *= np.log(Q)
        Q[diagonal] *= 1 - 1 / classes
        return -float(self.weights[counts] @ (Q @ panels.classes))

    def _with_bias(self, value: float, kernel: Array, row_sums: tuple[Array, Array], right: Array) -> float:
        """The bound from that at a fixed bias: less what the imbalance e costs.

        Restoring e = 0 gives a bound for lambda_b = 0, above which the minimum is for every lambda_b.
        """
        if not self.ufm.bias:
            return value
        classes, root = self.panels.classes, np.sqrt(self.panels.samples)
        (columns, sizes), (rows, row_sizes) = self._sums(kernel, root), row_sums
        imbalance = abs(columns - root * rows) + 2 * self.entry_rounding * (sizes + root * row_sizes)
        imbalance += 4 * _UNIT * self.smoothing * (1 / self.ufm.K + root**2 / self.N)
        restored = 0.0
        if np.all(root**2 / self.N * right >= imbalance):
            moved = math.sqrt(2 * float(classes @ (imbalance / root) ** 2))
            restored = (value - float(classes @ (imbalance * (1 - np.log(right))))) * (1 - moved / self.tau)
        if self.ufm.lambda_b == 0:
            return restored
        return max(restored, value - float(classes @ imbalance**2) / (2 * self.ufm.lambda_b))
