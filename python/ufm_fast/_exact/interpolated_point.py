"""A point of cross-entropy in which scores of classes are functions of their counts, given at a few nodes.

With phi(n) the polynomials of `CountPanels` (p,), in canonical coordinates and for classes k and l with n and n'
samples,

    A_kl = root(n) [k = l] + phi(n) kernel_A phi(n')^T,     B likewise,     Z = B A^T,     b_k = bias(n),

the only contrast of a class with itself being root(n)^2, zero up to n*. The bases of `CountPanels` being orthonormal,
products and norms of such matrices are those of (p, p) matrices; the loss takes the exponentials of all m^2 logits, a
tile at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from .._model.canonical import CanonicalProblem
from .._model.model import UFM
from .._model.point import Point
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.memory import require_memory
from .._runtime.threads import concurrently, get_num_threads
from .count_panels import CountPanels

TILE = 1 << 18
_UNIT = float(np.finfo(float).eps) / 2


@dataclass(frozen=True, eq=False, repr=False)
class InterpolatedPoint:
    """A point of a model with plain classes and cross-entropy, in O(m + p^2) numbers.

    Attributes
    ----------
    ufm : UFM
    group : ndarray of int, shape (K,)
        For each class the place of its count among the m counts.
    panels : CountPanels
    root : ndarray, shape (m,)
        Square root of the contrast of each count.
    kernel_A, kernel_B : ndarray, shape (p, p)
    bias : ndarray, shape (m,)

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> n = np.maximum(1, 100_000 // np.arange(1, 5001))
    >>> ufm = uf.UFM(5000, 5000, n, lambda_W=1e-4, lambda_H=1e-4 / n.mean(), lambda_b=1e-2)
    >>> point = uf.global_minimum(ufm).factored
    >>> int(point.logits(0).argmax())
    0
    """

    ufm: UFM
    group: NDArray[np.intp]
    panels: CountPanels
    root: Array
    kernel_A: Array
    kernel_B: Array
    bias: Array

    @property
    def rank(self) -> int:
        """The rank of W and H, or a few more.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> n = np.maximum(1, 10_000 // np.arange(1, 501))
        >>> ufm = uf.UFM(500, 500, n, lambda_W=1e-3, lambda_H=1e-3 / n.mean(), lambda_b=1e-2)
        >>> minimum = uf.global_minimum(ufm)
        >>> minimum.factored.rank < 500
        True
        """
        above = int(self.panels.classes[self.panels.collapsed_counts :].sum())
        return above + self.panels.collapsed_nodes - 1

    def logits(self, k: int) -> Array:
        """Return the K logits of the samples of class k, without expanding the point.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> n = np.maximum(1, 10_000 // np.arange(1, 501))
        >>> ufm = uf.UFM(500, 500, n, lambda_W=1e-3, lambda_H=1e-3 / n.mean(), lambda_b=1e-2)
        >>> minimum = uf.global_minimum(ufm)
        >>> W, H, b = minimum.point
        >>> bool(np.allclose(minimum.factored.logits(7), W @ H[7] + b))
        True
        """
        i = int(self.group[k])
        panel = next(panel for panel in self.panels.panels if panel.counts.start <= i < panel.counts.stop)
        phi = panel.lagrange[[i - panel.counts.start]]
        logits: Array = self._beside(slice(i, i + 1), panel.nodes, phi)[0][self.group]
        logits[k] += self.root[i] ** 2 / math.sqrt(self.panels.samples[i])
        return logits

    def factors(self) -> tuple[Array, Array]:
        """Return A and B (K, K) in canonical coordinates, as near to symmetric as may be.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> n = np.maximum(1, 10_000 // np.arange(1, 501))
        >>> ufm = uf.UFM(500, 500, n, lambda_W=1e-3, lambda_H=1e-3 / n.mean(), lambda_b=1e-2)
        >>> minimum = uf.global_minimum(ufm)
        >>> A, B = minimum.factored.factors()
        >>> A.shape
        (500, 500)
        """
        phi = np.zeros((len(self.group), len(self.panels.node_samples)))
        for panel in self.panels.panels:
            phi[panel.counts, panel.nodes] = panel.lagrange
        phi = phi[self.group]
        A, B = (phi @ kernel @ phi.T for kernel in (self.kernel_A, self.kernel_B))
        for X in (A, B):
            X[np.diag_indices(len(X))] += self.root[self.group]
        return A, B

    def point(self) -> Point:
        """Expand to a point of the model: K x d and M x d arrays.

        Raises
        ------
        ValueError
            If the model's d is less than the rank.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> n = np.maximum(1, 10_000 // np.arange(1, 501))
        >>> ufm = uf.UFM(500, 500, n, lambda_W=1e-3, lambda_H=1e-3 / n.mean(), lambda_b=1e-2)
        >>> minimum = uf.global_minimum(ufm)
        >>> uf.certify(ufm, minimum.factored.point()).is_global(1e-8)
        True
        """
        require_memory("point", 3 * self.ufm.size, K=self.ufm.K, M=self.ufm.M, d=self.ufm.d)
        A, B = self.factors()
        missing = self.ufm.d - len(A)
        if missing >= 0:
            A, B = (np.pad(X, ((0, 0), (0, missing))) for X in (A, B))
        elif self.rank <= self.ufm.d:
            U, s, Vt = linalg.svd(B @ A.T)
            s = np.sqrt(s[: self.ufm.d])
            A, B = Vt[: self.ufm.d].T * s, U[:, : self.ufm.d] * s
        else:
            raise ValueError(f"a point of rank {self.rank} does not fit into a model with d = {self.ufm.d}")
        return CanonicalProblem(self.ufm).point(A, B, self.bias[self.group])

    @cached_property
    def _weights(self) -> Array:
        """The part of all samples that are of classes with each count."""
        total = self.panels.classes * self.panels.samples
        return np.asarray(total / total.sum())

    @cached_property
    def _scores(self) -> Array:
        return self.kernel_B @ (self.panels.node_classes[:, None] * self.kernel_A.T)

    def _beside(self, counts: slice, nodes: slice, phi: Array) -> Array:
        """Logits of classes with some counts of one panel for all others, (rows, m)."""
        above = self.panels.collapsed_counts
        left = phi @ self._scores[nodes]
        left += self.root[counts, None] * (phi @ self.kernel_A[:, nodes].T)
        shape = len(phi), len(self.root)
        z = self.panels.evaluate(left, np.empty(shape))
        cross = self.panels.evaluate(phi @ self.kernel_B[nodes], np.empty(shape))
        z[:, above:] += cross[:, above:] * self.root[above:]
        z /= np.sqrt(self.panels.samples[counts])[:, None]
        z += self.bias
        return z

    def _loss_of(self, counts: slice, nodes: slice, phi: Array) -> float:
        z = self._beside(counts, nodes, phi)
        rows = np.arange(len(z))
        diagonal = rows, counts.start + rows
        z -= (z[diagonal] + self.root[counts] ** 2 / np.sqrt(self.panels.samples[counts]))[:, None]
        classes, smoothing = self.panels.classes, self.ufm.loss_function.parameters["label_smoothing"]
        spread = (z @ classes - z[diagonal]) * (smoothing / self.ufm.K) if smoothing > 0 else 0.0
        np.exp(z, out=z)
        z[diagonal] *= 1 - 1 / classes[counts]
        losses = np.log1p(z @ classes) - spread
        return float(self._weights[counts] @ losses)

    def loss(self) -> tuple[float, float]:
        """Return the loss and a bound on its rounding error.

        The terms of a logit and of the sums over m classes and m counts are known to units of their absolute values.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> n = np.maximum(1, 10_000 // np.arange(1, 501))
        >>> ufm = uf.UFM(500, 500, n, lambda_W=1e-3, lambda_H=1e-3 / n.mean(), lambda_b=1e-2)
        >>> minimum = uf.global_minimum(ufm)
        >>> value, rounding = minimum.factored.loss()
        >>> bool(abs(value - ufm.loss(minimum.point)) <= 2 * rounding)
        True
        """
        panels, ufm = self.panels, self.ufm
        data = total(panels, self._loss_of, ufm)
        penalty, size = self._penalty()
        p, m, q = len(self.kernel_A), len(self.root), max(panel.basis.shape[1] for panel in panels.panels)
        reach, defect = self._reach(), max(panels.defects)
        smoothing = ufm.loss_function.parameters["label_smoothing"]
        rounding = ufm.loss_function.change(data, (_UNIT * (p + 4 * q + 32) + defect) * reach, ufm.K)
        rounding += _UNIT * (2 * m + 64) * (data + 2 * smoothing * reach)
        rounding += (_UNIT * (2 * m + p * p + 64) + 2 * defect) * size
        return data + penalty, rounding

    def _penalty(self) -> tuple[float, float]:
        """The decays, and the sum of the absolute values of their terms."""
        panels, classes = self.panels, self.panels.classes
        squares = float((2 * classes) @ self.root**2)  # with the contrasts that all but one class of a count have
        size = squares
        for kernel in (self.kernel_A, self.kernel_B):
            beside = panels.diagonal(kernel)
            square = float(((kernel * panels.node_classes[:, None] * kernel) @ panels.node_classes).sum())
            squares += square + 2 * float((classes * self.root) @ beside)
            size += square + 2 * float((classes * self.root) @ abs(beside))
        decay = 0.5 * self.ufm.lambda_b * float(classes @ self.bias**2)
        return 0.5 * self.ufm.tau * squares + decay, 0.5 * self.ufm.tau * size + decay

    def _reach(self) -> float:
        """Bound the sums of absolute values of the terms of a logit, and the logarithm of K.

        With the terms that the products of two polynomials of a panel would have if the basis were not orthogonal.
        """
        panels = self.panels
        place = np.repeat(np.arange(len(panels.panels)), [panel.basis.shape[1] for panel in panels.panels])
        starts = [panel.nodes.start for panel in panels.panels]
        peaks = np.concatenate([abs(panel.lagrange).max(axis=0) for panel in panels.panels])
        root = np.array([self.root[panel.counts].max() for panel in panels.panels])[place]
        A, B, classes = abs(self.kernel_A), abs(self.kernel_B), np.sqrt(panels.node_classes)
        sizes = B @ (np.outer(classes, classes) * (place[:, None] == place)) @ A.T + root[:, None] * A.T + B * root
        sizes = np.add.reduceat(np.add.reduceat(sizes * np.outer(peaks, peaks), starts, axis=0), starts, axis=1)
        least = np.sqrt([panels.samples[panel.counts.start] for panel in panels.panels])
        own = float((self.root**2 / np.sqrt(panels.samples)).max())
        return float((sizes.max(axis=1) / least).max()) + own + float(abs(self.bias).max()) + math.log(self.ufm.K)


def total(panels: CountPanels, part: Callable[[slice, slice, Array], float], ufm: UFM) -> float:
    """Add up a function of the tiles of all pairs of counts, on the model's threads."""
    tiles = [partial(part, *tile) for tile in panels.tiles(TILE)]
    return math.fsum(concurrently(tiles, ufm.threads or get_num_threads()))
