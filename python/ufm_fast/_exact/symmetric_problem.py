"""The cross-entropy model restricted to points that treat alike classes alike: a few numbers whatever K is.

A *type* of classes is M interchangeable classes with n samples each, in `blocks` blocks of `size` classes (M = blocks
size); classes of one block share their parameters (size 1: only alike, not equal). With E_i the normalised indicator of
type i (K,) and P_i the projector onto its block indicators less E_i, the scores Z of `CanonicalProblem` are

    Z = sum_i contrast_i P_i + E C E^T,     C = B A^T (m, m),     contrast_i = a_i^2 / (blocks_i - 1).

The gradient matrix G has the same form, so all norms, singular values and critical points of the full problem are those
of the parts (symmetric criticality, Palais 1979), and the restricted problem stays convex in (contrast, C, b).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._runtime.arrays import Array

_BIAS_STEPS, _LARGEST_BIAS_STEP = 30, 4.0


class Types(NamedTuple):
    """What distinguishes types: samples a class, blocks, and classes a block; arrays of shape (m,)."""

    samples: Array
    blocks: Array
    size: Array


class Flow(NamedTuple):
    """Probability moved from the targets, in units of all samples, by all classes of type i (m of them).

    others[i, j]: to the classes of type j outside one's block; own[i] (negative): to one's own block. `imbalance` (m,)
    is the total that the classes of type j receive, the gradient with respect to their common bias.
    """

    others: Array
    own: Array

    @property
    def imbalance(self) -> Array:
        total: Array = self.others.sum(axis=0) + self.own
        return total


class SymmetricProblem:
    """F in the variables a (m,), A (m, m), B (m, m) and, where there is a bias, sqrt(M) b (m,), in one vector.

    With `columns`, A and B have fewer: points of lower rank. `products` counts the work in products of two m x m
    matrices.
    """

    def __init__(
        self, types: Types, *, tau: float, smoothing: float, lambda_b: float, bias: bool, columns: int | None = None
    ) -> None:
        self.types, self.tau, self.smoothing, self.lambda_b, self.bias = types, tau, smoothing, lambda_b, bias
        n, blocks, size = types
        self.m = m = len(n)
        self.columns = m if columns is None else columns
        self.M: Array = blocks * size
        self.K = float(self.M.sum())
        self.weights: Array = self.M * n / (self.M @ n)
        # logits_ij = C_ij in_mean_ij - contrast_i in_others_i (j = i) + b_j, in one's own block contrast_i in_own_i
        self.in_mean: Array = 1 / np.sqrt(np.outer(self.M * n, self.M))
        self.in_others: Array = 1 / (self.M * np.sqrt(n))
        self.in_own: Array = (blocks - 1) * self.in_others
        self.multiplicity: Array = np.tile(self.M, (m, 1)) - np.diag(size)
        with np.errstate(divide="ignore"):
            self.log_multiplicity: Array = np.log(self.multiplicity)
        self.freedom: Array = np.maximum(blocks - 1, 1)
        self.products = 0
        self._least_scale = 0.0
        self._least_scale = 1e-3 * self.scale(self.start())
        self._at: tuple[Any, ...]

    def split(self, x: Array) -> tuple[Array, Array, Array, Array]:
        m, shape = self.m, (self.m, self.columns)
        size = m * self.columns
        a, A, B = x[:m], x[m : m + size].reshape(shape), x[m + size : m + 2 * size].reshape(shape)
        return a, A, B, x[m + 2 * size :] if self.bias else np.zeros(m)

    def join(self, a: Array, A: Array, B: Array, b: Array) -> Array:
        return np.concatenate([a, A.ravel(), B.ravel(), b] if self.bias else [a, A.ravel(), B.ravel()])

    def contrasts(self, a: Array) -> Array:
        return a * a / self.freedom

    def logits(self, contrast: Array, C: Array, b: Array) -> tuple[Array, Array]:
        """Of classes outside one's block (m, m) and of one's block (m,); linear in its arguments, b being sqrt(M) b."""
        others = C * self.in_mean + b / np.sqrt(self.M)
        own = others.diagonal() + contrast * self.in_own
        others[np.diag_indices(self.m)] -= contrast * self.in_others
        return others, own

    def pull_back(self, flow: Flow) -> tuple[Array, Array, Array]:
        """The gradients with respect to contrast, over blocks - 1; to C; and to sqrt(M) b: adjoint of `logits`.

        The first two are the parts of the gradient matrix.
        """
        others, own = flow
        gamma = (own * self.in_own - others.diagonal() * self.in_others) / self.freedom
        Gamma = others * self.in_mean
        # a row of flows sums to zero
        Gamma[np.diag_indices(self.m)] = (others.diagonal() - others.sum(axis=1)) * self.in_mean.diagonal()
        return gamma, Gamma, flow.imbalance / np.sqrt(self.M)

    def flow(self, contrast: Array, C: Array, b: Array) -> tuple[float, Flow, Array]:
        """The data term, its flow, and the probability (m, m) of all other classes of each type."""
        others, own = self.logits(contrast, C, b)
        size, a = self.types.size, self.smoothing
        exponents = others - own[:, None] + self.log_multiplicity - np.log(size)[:, None]
        shift = np.maximum(0.0, exponents.max(axis=1))
        masses = np.exp(exponents - shift[:, None])
        total = masses.sum(axis=1) + np.exp(-shift)
        probabilities: Array = masses / total[:, None]
        losses = np.where(shift > 0, shift + np.log(total), np.log1p(masses.sum(axis=1))) + np.log(size)
        if a > 0:
            losses = losses - a / self.K * (self.multiplicity * (others - own[:, None])).sum(axis=1)
        moved = (probabilities - a / self.K * self.multiplicity) * self.weights[:, None]
        return float(self.weights @ losses), Flow(moved, -moved.sum(axis=1)), probabilities

    def penalty(self, a: Array, A: Array, B: Array, b: Array) -> float:
        squares = float(a @ a + 0.5 * np.vdot(A, A) + 0.5 * np.vdot(B, B))
        return self.tau * squares + 0.5 * self.lambda_b * float(b @ b)

    def scale(self, x: Array) -> float:
        """tau |x| without the bias, or a little of its value at the start where the minimum is at or near zero."""
        return max(self.tau * float(np.linalg.norm(x[: x.size - self.m * self.bias])), self._least_scale)

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        self.products += 3
        a, A, B, b = self.split(x)
        value, flow, _ = self.flow(self.contrasts(a), B @ A.T, b)
        gamma, Gamma, grad_b = self.pull_back(flow)
        gradient = self.join(
            2 * a * (gamma + self.tau), Gamma.T @ B + self.tau * A, Gamma @ A + self.tau * B, grad_b + self.lambda_b * b
        )
        return value + self.penalty(a, A, B, b), gradient

    def linearize(self, x: Array) -> None:
        a, A, B, b = self.split(x)
        contrast = self.contrasts(a)
        _, flow, P = self.flow(contrast, B @ A.T, b)
        gamma, Gamma, _ = self.pull_back(flow)
        curvature = P * (1 - P) * self.weights[:, None]
        w, ridge = float((curvature * self.in_mean**2).mean()), self.tau * np.eye(self.columns)
        for_A, for_B = (np.linalg.inv(w * (X.T @ X) + ridge) for X in (B, A))
        # along contrast_i the logits of one's block rise by in_own, those of the rest of one's type fall by in_others
        rest, own = P.diagonal(), 1 - P.sum(axis=1)
        rise, fall = self.in_own, self.in_others
        spread = own * rise**2 + rest * fall**2 - (own * rise - rest * fall) ** 2
        for_a = 2 * abs(gamma + self.tau) + 4 * contrast * self.weights * spread / self.freedom + 1e-3 * self.tau
        for_b = curvature.sum(axis=0) / self.M + max(self.lambda_b, 1e-12)
        self._at = a, A, B, gamma, Gamma, P, (for_a, for_A, for_B, for_b)

    def hessian_product(self, v: Array) -> Array:
        self.products += 6
        a, A, B, gamma, Gamma, P, _ = self._at
        va, VA, VB, vb = self.split(v)
        others, own = self.logits(2 * a * va / self.freedom, VB @ A.T + B @ VA.T, vb)
        others -= own[:, None]
        moved = P * (others - (P * others).sum(axis=1, keepdims=True)) * self.weights[:, None]
        d_gamma, d_Gamma, out_b = self.pull_back(Flow(moved, -moved.sum(axis=1)))
        return self.join(
            2 * va * (gamma + self.tau) + 2 * a * d_gamma,
            d_Gamma.T @ B + Gamma.T @ VB + self.tau * VA,
            d_Gamma @ A + Gamma @ VA + self.tau * VB,
            out_b + self.lambda_b * vb,
        )

    def precondition(self, gradient: Array) -> Array:
        for_a, for_A, for_B, for_b = self._at[-1]
        ga, gA, gB, gb = self.split(gradient)
        return self.join(ga / for_a, gA @ for_A, gB @ for_B, gb / for_b)

    def start(self) -> Array:
        """Every block with the margin it would have on its own; the exact minimum where there is one type.

        In balanced factors, at the best bias and, where the bias has no decay, with the part of the features that acts
        as one at zero: else Newton's method would have to follow the curved valley between that part and the bias.
        """
        n, blocks, size = self.types
        K = float(blocks.sum())
        miss = self.tau * self.M / self.weights * np.sqrt(n) * (1 - 1 / K) + self.smoothing * (1 - 1 / K)
        miss = np.clip(miss, 1e-12, (1 - 1 / K) * (1 - 1e-3))
        scores = np.log((1 - miss) * (K - 1) / miss) * np.sqrt(n) * size
        a, diagonal = np.sqrt(scores * (blocks - 1)), np.sqrt(scores)
        shift = np.sqrt(self.M / self.K)
        idle = shift / diagonal / np.linalg.norm(shift / diagonal)  # A idle = 0
        A = np.diag(diagonal) - np.outer(shift, shift * diagonal)
        B = np.diag(diagonal) - np.outer(diagonal * idle, idle)
        if self.bias and self.lambda_b == 0:
            common = np.sqrt(self.weights)
            B -= np.outer(common, common @ B)
        A, B = aligned_factors(B @ A.T)
        return self.join(a, A, B, self._best_bias(self.contrasts(a), B @ A.T))

    def _best_bias(self, contrast: Array, C: Array) -> Array:
        """Nearly the best sqrt(M) b at fixed scores: damped Newton steps from zero."""
        root = np.sqrt(self.M)
        b = np.zeros(self.m)
        value, flow, P = self.flow(contrast, C, b)
        for _ in range(_BIAS_STEPS if self.bias else 0):
            gradient = flow.imbalance / root + self.lambda_b * b
            P = P + np.diag(1 - P.sum(axis=1))  # now with one's own block
            hessian = np.diag(self.weights @ P) - P.T @ (self.weights[:, None] * P)
            hessian = hessian / np.outer(root, root) + self.lambda_b * np.eye(self.m)
            step = np.linalg.lstsq(hessian, -gradient, rcond=1e-13)[0]
            step *= min(1.0, _LARGEST_BIAS_STEP / max(abs(step / root).max(), 1e-300))
            slope = float(gradient @ step)
            if -slope <= 1e-10 * value:
                break
            trial, length = value, 1.0
            while length > 1e-3:
                new = b + length * step
                trial, flow, P = self.flow(contrast, C, new)
                trial += 0.5 * self.lambda_b * float(new @ new)
                if trial <= value + 1e-4 * length * slope:
                    break
                length /= 2
            else:
                break
            b, value = new, trial
        return b


def aligned_factors(Z: Array) -> tuple[Array, Array]:
    """The factors of Z with the least penalty, turned into the class-aligned gauge (as near symmetric as may be)."""
    U, s, Vt = np.linalg.svd(Z)
    left, _, right = np.linalg.svd(U.T + Vt)
    turn = np.sqrt(s)[:, None] * (left @ right)
    return Vt.T @ turn, U @ turn
