"""Lower bounds where W (and b), or H, is held fixed: the model is strongly convex in the rest, at every d.

In isometric coordinates, rows ``B_i = root_i h_i`` and scores ``Z = B W^T``, a model with a convex loss is

    F(W, B, b) = data(Z, b) + lambda_W/2 |W|^2 + lambda_H/2 |B|^2 + lambda_b/2 |b|^2,

data(Z, b) = sum_i weight_i loss(Z_i / root_i + b). A loss lies above its tangent at any logits y_i, not only at those
of the point. So with G the gradient of data in Z at scores y near Z, and e = sum_i root_i G_i that in b,

    min over B          F >= F(W, B, b) - c - |G W + lambda_H B|^2 / (2 lambda_H),
    min over W and b    F >= F(W, B, b) - c - |G^T B + lambda_W W|^2 / (2 lambda_W)
                             - |e + lambda_b b|^2 / (2 lambda_b),

by minimising the sum of the tangents and the ridges over what is free. c is the change of the data term from Z to y.
Taking for y the logits as they were computed, their rounding costs no more than c, which the bound on the rounding of
the loss covers, and G is a gradient that was computed where it is claimed to be one.

Why they hold in floating point, u = 2^-52. Three times the rounding of the loss is subtracted: for the value, and twice
for c (G and the value may come from logits that were computed in different order). An entry of G is known to
g (|G_ik| + 2 weight_i / root_i t_ik), with t the targets (times the loss's scale) and g = (32 + max(K, M) / 2) u, which
is enough for a sum of max(K, M) terms in any order. Products of G with a factor X add as much as a sum of so many terms
does, relative to |G| |X|; what else there is, a few u.

A bias with little or no decay. For the points (W', b') with F no larger than here, which are all that matter, the loss
itself says how far b' can be from b: see `_REACH`. There, since a decay of b only raises F,

    F(W', B, b') >= F(W, B, b) - lambda_b/2 |b|^2 - c - |G^T B + lambda_W W|^2 / (2 lambda_W) - |<e, b' - b>|,

and |<e, b' - b>|, with e next to zero at the best bias, is bounded entry by entry. The reach depends on how far W' can
be from W: first by lambda_W/2 |W'|^2 <= F, then by strong convexity with the bound that results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .._model.canonical import CanonicalProblem
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._model.point import Point
from .._numerics.gram_spectra import leading_singular_pair, norm_rounding
from .._runtime.arrays import Array
from .._runtime.blas import product
from .certificate import Certificate, certificate_of
from .dual import UNIT

_ROUNDS = 4  # of the bound on how far W can be
_SLACK = 1 + 1e-9  # above the rounding of norms and of sums of positive numbers


@dataclass(frozen=True)
class RestrictedCertificate(Certificate):
    """A proven bracket ``lower_bound <= minimum <= loss`` of a problem in which a factor of the model is held fixed.

    As `Certificate`, but for the minimum over H, or over W and b, alone: it says nothing of the model's global minimum,
    and `is_global` tells whether the loss is proven to be near the minimum for the factor that is fixed.

    Attributes
    ----------
    fixed : {"W", "H"}
        "W": W and b are fixed. "H": H is.
    """

    fixed: str

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.12g}, minimum for this {self.fixed} at least {self.lower_bound:.12g} "
            f"(relative gap {self.relative_gap:.1e}), |G|_2 / tau = {self.spectral_norm / self.threshold:.9g}"
        )


class Gradient(NamedTuple):
    """At a point: G (M, K), e (K,), bounds on their rounding, the loss and a bound on its own.

    `rows` bounds the error of G row by row in the Euclidean norm, (M,), and `columns` that of e, (K,).
    """

    G: Array
    e: Array
    rows: Array
    columns: Array
    loss: float
    rounding: float


class Restriction:
    """A problem with W and b, or H, held as at a start: lower bounds and certificates.

    Points are float64 points of the problem's model, and B their features in isometric coordinates.

    Parameters
    ----------
    problem : CanonicalProblem
    fixed : {"W", "H"}
    start : Point

    Raises
    ------
    ValueError
        If the loss is not convex, or with `fixed` "H" does not say how far a bias without decay can be from the best.
    """

    def __init__(self, problem: CanonicalProblem, fixed: str, start: Point) -> None:
        if not problem.loss.convex:
            raise ValueError(f"fixed={fixed!r} needs a loss that is convex in the logits, which {problem.loss} is not")
        if fixed == "H" and not problem.loss.adds_bias:
            raise ValueError(f"fixed='H' needs a bias that is added to the logits, which that of {problem.loss} is not")
        bounded = not problem.bias or problem.lambda_b > 0 or type(problem.loss) in _REACH
        if fixed == "H" and not bounded:
            raise ValueError(f"fixed='H' needs lambda_b > 0 or bias=False for {problem.loss}")
        self.problem, self.fixed = problem, fixed
        factor = np.ascontiguousarray(start.W) if fixed == "W" else start.H * problem.root[:, None]
        norm, _ = leading_singular_pair(factor, problem.workers)
        self.norm, self.size = norm * (1 + norm_rounding(max(factor.shape))), float(np.linalg.norm(factor))
        share, scale = problem.weights / problem.root, float(np.max(problem.loss.parameters.get("scale", 1.0)))
        self._target_rows = 2 * scale * share * _target_norms(problem)
        columns = _received(problem) if type(problem.loss) in _REACH else (problem.root * share).sum()
        self._target_columns = 2 * scale * columns

    def gradient_at(self, p: Point, B: Array) -> Gradient:
        """Evaluate the model."""
        problem = self.problem
        value, G, e = problem.data_term(product(B, p.W.T, problem.workers), p.b)
        A, canonical, b = problem.coordinates(p)
        loss = value + problem.penalty(A, canonical, b)
        unit = (32 + max(problem.K, problem.M) / 2) * UNIT
        rows = unit * (np.linalg.norm(G, axis=1) + self._target_rows)
        columns = unit * (problem.root @ abs(G) + self._target_columns)
        return Gradient(G, e, rows, columns, loss, problem.rounding(A, canonical, b, loss))

    def bound(self, p: Point, B: Array, at: Gradient) -> float:
        """Return a lower bound on the minimum."""
        gap = self._gap_over_H(p, B, at) if self.fixed == "W" else self._gap_over_W(p, B, at)
        return max(0.0, at.loss - 3 * at.rounding - gap * _SLACK)

    def certificate(self, p: Point, lower_bound: float) -> RestrictedCertificate:
        """Certify a point, with a lower bound on the minimum from elsewhere."""
        problem, B = self.problem, p.H * self.problem.root[:, None]
        at = self.gradient_at(p, B)
        norm, _ = leading_singular_pair(at.G, problem.workers)
        bound = max(lower_bound, self.bound(p, B, at))
        certificate = certificate_of(at.loss, at.rounding, bound, norm, problem.tau)
        return RestrictedCertificate(**vars(certificate), fixed=self.fixed)

    def _gap_over_H(self, p: Point, B: Array, at: Gradient) -> float:
        problem, lambda_H = self.problem, self.problem.ufm.lambda_H
        gradient = product(at.G, p.W, problem.workers) + lambda_H * B
        norms, sizes = np.linalg.norm(gradient, axis=1), np.linalg.norm(at.G, axis=1)
        errors = at.rows * self.norm + _sum_rounding(problem.K) * sizes * self.size
        errors += 4 * UNIT * (norms + 2 * lambda_H * np.linalg.norm(B, axis=1))
        return _square(norms + errors) / (2 * lambda_H)

    def _gap_over_W(self, p: Point, B: Array, at: Gradient) -> float:
        problem, lambda_W = self.problem, self.problem.ufm.lambda_W
        gradient = product(np.ascontiguousarray(at.G.T), B, problem.workers) + lambda_W * p.W
        norm = float(np.linalg.norm(gradient))
        error = float(np.linalg.norm(at.rows)) * self.norm
        error += _sum_rounding(problem.M) * float(np.linalg.norm(at.G)) * self.size
        error += 4 * UNIT * (norm + 2 * lambda_W * float(np.linalg.norm(p.W)))
        gap = (norm + error) ** 2 / (2 * lambda_W)
        return gap + self._gap_over_b(p, B, at, norm + error) if problem.bias else gap

    def _gap_over_b(self, p: Point, B: Array, at: Gradient, slope: float) -> float:
        """Return what the bias adds to the gap, by its decay or by how far it can be from the best one."""
        problem, lambda_b, gaps = self.problem, self.problem.lambda_b, [math.inf]
        if lambda_b > 0:
            size = abs(at.e + lambda_b * p.b) + at.columns + 4 * UNIT * (abs(at.e) + 2 * lambda_b * abs(p.b))
            gaps.append(_square(size) / (2 * lambda_b))
        if type(problem.loss) in _REACH:
            gaps.append(0.5 * lambda_b * _square(p.b) + self._gap_within_reach(p, B, at, slope))
        return min(gaps)

    def _gap_within_reach(self, p: Point, B: Array, at: Gradient, slope: float) -> float:
        """Bound |<e, b' - b>| over the points (W', b') with F no larger than at p."""
        lambda_W, reach = self.problem.ufm.lambda_W, _REACH[type(self.problem.loss)]
        imbalance, level = abs(at.e) + at.columns, at.loss + at.rounding
        move = float(np.linalg.norm(p.W)) + math.sqrt(2 * level / lambda_W)
        gap = math.inf
        for _ in range(_ROUNDS):
            gap = min(gap, float(imbalance @ reach(self.problem, p, B, level, move)))
            away = slope / lambda_W
            room = gap + 0.5 * self.problem.lambda_b * _square(p.b) + 3 * at.rounding
            move = min(move, away + math.sqrt(away**2 + 2 * room / lambda_W))
        return gap


def _entropic_reach(problem: CanonicalProblem, p: Point, B: Array, level: float, move: float) -> Array:
    """Bound |b'_k - b_k| where |W' - W| <= move and the data term is at most `level`, up to what all may share.

    The loss of logits a = scale z + shift, less a margin at the label, with target t is at least t_c (a_j - a_c) for
    all j and c. Summed over rows with their weights, with R_c what class c receives of all targets and m_c the mean of
    features with the weights of this, scale_j b_j - scale_c b_c <= level / R_c + |scale_j w_j - scale_c w_c| |m_c| +
    shift_c - margin_c - shift_j. That is taken for c or j the class that receives most. The data term does not change
    along 1 / scale, so that an equal change of all scale_k b_k counts for nothing.
    """
    scale, shift, margin = (
        np.broadcast_to(np.asarray(problem.loss.parameters.get(name, default), dtype=float), problem.K)
        for name, default in (("scale", 1.0), ("shift", 0.0), ("margin", 0.0))
    )
    received, features = _received(problem), np.linalg.norm(_received_features(problem, B), axis=1)
    r = int(received.argmax())
    given = np.maximum(received, np.finfo(float).tiny)  # a class that no row has may have any bias
    lengths, allowance = features / given, level / given
    between = np.linalg.norm(scale[:, None] * p.W - scale[r] * p.W[r], axis=1) + np.hypot(scale, scale[r]) * move
    up = allowance[r] + between * lengths[r] + shift[r] - margin[r] - shift
    down = allowance + between * lengths + shift - margin - shift[r]
    here = scale * p.b - scale[r] * p.b[r]
    distance = np.maximum(np.maximum(up, down), 0.0) + abs(here)
    distance[r] = 0.0
    return np.asarray(distance / scale)


def _quadratic_reach(problem: CanonicalProblem, p: Point, B: Array, level: float, move: float) -> Array:
    """Bound |b'_k - b_k| by the mean residual, whose square is at most twice the data term over the sum of weights."""
    total = float(problem.weights.sum())
    mean_feature = (problem.weights / problem.root) @ B / total
    mean_residual = (problem.weights @ problem.targets) / total - p.W @ mean_feature - p.b
    distance = math.sqrt(2 * level / total) + move * float(np.linalg.norm(mean_feature))
    return np.asarray(distance + abs(mean_residual))


#: Bounds on |b' - b| entry by entry: of the problem, a point with features B, the level and how far W' can be from W.
_Reach = Callable[[CanonicalProblem, Point, Array, float, float], Array]
_REACH: dict[type[Loss], _Reach] = {CrossEntropy: _entropic_reach, MSE: _quadratic_reach}


def _target_norms(problem: CanonicalProblem) -> Array:
    """Return the Euclidean norms of the rows' targets, (M,); 1 bounds that of a label."""
    return np.ones(problem.M) if problem.rows.labels is not None else np.linalg.norm(problem.targets, axis=1)


def _received(problem: CanonicalProblem) -> Array:
    """Return what the targets give each class in total, each in size, (K,)."""
    if problem.has_classes:
        return problem.class_weights
    sums: Array = problem.weights @ abs(problem.targets)
    return sums


def _received_features(problem: CanonicalProblem, B: Array) -> Array:
    """Return the sums of features with the weights of what the targets give each class, (K, d)."""
    weighted = (problem.weights / problem.root)[:, None] * B
    return product(np.ascontiguousarray(problem.targets.T), weighted, problem.workers)


def _sum_rounding(terms: int) -> float:
    """Relative error allowed for in sums of products, in any order."""
    return (terms / 2 + 8) * UNIT


def _square(x: Array) -> float:
    return float(x @ x)
