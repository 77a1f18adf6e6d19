"""The directions of the feature space that a point leaves empty, where singular vectors of G give eigenpairs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._model.facts import Branch, branches_of
from .._model.isometric import GradientAt, IsometricProblem
from .._model.point import Point
from .._model.rotations import ABSENT
from .._numerics.lowest import lowest
from .._runtime import linalg
from .._runtime.arrays import Array

_GONE = 1e-12  # what stands for ABSENT where rotations are not left out: nothing divides by its square then
_SMALL = 1e-3  # relative size of a direction whose products with others drown in those of large ones
_CRITICAL = 1e-6
_VANISHING = 1e-7  # relative size of a singular value that counts as zero
_ROUNDED = 1e-12  # relative size of a singular value that may be rounding alone


class Pair(NamedTuple):
    value: float
    vector: Point  # in isometric coordinates


class Split(NamedTuple):
    """A point, with the feature space turned so that W on top of H has orthogonal columns, of descending sizes.

    `turn` has the new axes as columns, `squares` are the squared sizes of the columns of W on top of H, of which `rank`
    do not vanish. `factors` has the columns that are searched, its W and H are those of `point` times `active`; the
    columns of `empty` are the other axes, along which all vanishes. `deflate`: whether rotations are left out.
    """

    point: Point
    factors: Point
    squares: Array
    turn: Array
    rank: int
    deflate: bool
    critical: bool

    @property
    def active(self) -> Array:
        return self.turn[:, : self.factors.W.shape[1]]

    @property
    def empty(self) -> Array:
        return self.turn[:, self.factors.W.shape[1] :]


def split_at(problem: IsometricProblem, point: Point, deflate: bool | None) -> Split:
    """Turn a point; None for `deflate` stands for True where it is critical."""
    critical = _is_critical(problem, point)
    deflate = critical if deflate is None else deflate
    turn = _orthogonal_columns(point)
    W, H = point.W @ turn, point.H @ turn
    sizes = np.hypot(np.linalg.norm(W, axis=0), np.linalg.norm(H, axis=0))
    rank = int(np.count_nonzero(sizes > (ABSENT if deflate else _GONE) * sizes[0])) if sizes[0] > 0 else 0
    active = max(rank, 1)
    if deflate and not critical:  # rotations couple empty directions with the others
        W[:, rank:], H[:, rank:], active = 0, 0, problem.ufm.d
    factors = Point(np.ascontiguousarray(W[:, :active]), np.ascontiguousarray(H[:, :active]), point.b)
    return Split(point, factors, sizes**2, turn, rank, deflate, critical)


def _orthogonal_columns(p: Point) -> Array:
    """Return axes of the feature space along which the columns of W on top of H are orthogonal, of descending sizes.

    Small columns are turned once more by themselves: the first Gram matrix holds their products with an error that is
    small only next to the large ones.
    """
    turn: Array = linalg.eigh(p.W.T @ p.W + p.H.T @ p.H)[1][:, ::-1]
    W, H = p.W @ turn, p.H @ turn
    squares = (W**2).sum(axis=0) + (H**2).sum(axis=0)
    small = squares <= _SMALL**2 * squares.max()
    W, H = W[:, small], H[:, small]
    turn[:, small] = turn[:, small] @ linalg.eigh(W.T @ W + H.T @ H)[1][:, ::-1]
    return turn


def _is_critical(problem: IsometricProblem, p: Point) -> bool:
    ufm = problem.ufm
    _, grad_W, grad_H, _ = problem.run(problem.compiled(ufm.d).loss_and_grad, *p)
    gradient = math.hypot(ufm.rho * float(np.linalg.norm(grad_W)), float(np.linalg.norm(grad_H)) / ufm.rho)
    size = math.hypot(float(np.linalg.norm(p.W)) / ufm.rho, ufm.rho * float(np.linalg.norm(p.H)))
    return gradient <= _CRITICAL * ufm.tau * size


class Triplets(NamedTuple):
    """Largest singular values of G, descending, with right and left vectors in rows; and its norm.

    At a critical point without its rotations, of G across the column spaces of W and H. There G is -tau times an
    isometry, with which the lower eigenvalue 0 of the branch is that of rotations; the norm is that of all of G.
    `established`: whether nothing speaks against these being the largest.
    """

    s: Array
    right: Array
    left: Array
    norm: float
    space_W: Array
    space_H: Array
    established: bool


def leading_triplets(problem: IsometricProblem, here: Split, k: int, generator: np.random.Generator) -> Triplets:
    """As many as the k lowest pairs in empty directions may need, at least one."""
    p, deflated = here.factors, here.rank if here.deflate and here.critical else 0
    space_W, space_H = (_orthonormal(X) if deflated else X[:, :0] for X in (p.W, p.H))
    gradient = GradientAt(problem, p, space_W)
    count = max(1, -(-k // max(here.empty.shape[1], 1)))
    none = np.zeros((0, problem.K))
    found = lowest(gradient, count, none, 1e-12, 50 * problem.K, generator)
    images = gradient.images(found.vectors)
    s = np.linalg.norm(images, axis=1)
    norm = max(float(s.max(initial=0.0)), problem.ufm.tau if deflated else 0.0)
    left = images / np.where(s > 0, s, 1.0)[:, None]
    return Triplets(s, found.vectors, left, norm, space_W, space_H, found.established)


def in_empty_directions(problem: IsometricProblem, here: Split, leading: Triplets, k: int) -> list[Pair]:
    """The k lowest pairs among moves of W and H along the empty directions."""
    width = here.empty.shape[1]
    if width == 0:
        return []
    if len(leading.s) * width >= k and leading.s.min() > _VANISHING * leading.norm:
        triplets = zip(leading.s, leading.right, leading.left, strict=True)
        branches = [(branches_of(problem.ufm, s)[0], v, u) for s, v, u in triplets]
    else:
        branches = _all_branches(problem, here, leading, k)
    branches.sort(key=lambda branch: branch[0].value)
    pairs: list[Pair] = []
    for branch, v, u in branches:
        for direction in here.empty.T[: k - len(pairs)]:
            pairs.append(Pair(branch.value, along(branch, v, u, direction, problem.biases)))
        if len(pairs) == k:
            break
    return pairs


def along(branch: Branch, v: Array, u: Array, direction: Array, biases: int) -> Point:
    """The move of W by v and of H by u along a direction of the feature space, in the proportion of the branch."""
    W, H = (part * np.outer(x, direction) for part, x in ((branch.along_W, v), (branch.along_H, u)))
    return Point(W, H, np.zeros(biases))


def _orthonormal(X: Array) -> Array:
    """Orthonormal columns with the span of those of X; the columns of X, normalised, where these are orthogonal."""
    Q, R = linalg.qr(X)
    signed: Array = Q * np.sign(np.diagonal(R))
    return signed


def _all_branches(
    problem: IsometricProblem, here: Split, leading: Triplets, k: int
) -> list[tuple[Branch, Array, Array]]:
    """All eigenvalues along one empty direction, with the parts of their eigenvectors: a dense decomposition.

    Of those that are lambda_H alone, with moves of H that do not meet G, no more than k.
    """
    ufm, space_W, space_H = problem.ufm, leading.space_W, leading.space_H
    p = here.factors
    G = problem.run(problem.compiled(p.W.shape[1]).gradient_matrix, *p)
    G -= space_H @ (space_H.T @ G)
    complement = linalg.qr(space_W, mode="complete")[0][:, space_W.shape[1] :]
    U, s, Vt = linalg.svd(G @ complement, full_matrices=False)
    V = complement @ Vt.T
    rank = int(np.count_nonzero(s > _ROUNDED * leading.norm))
    U = U[:, :rank] - space_H @ (space_H.T @ U[:, :rank])  # that of G left rounding, large next to a small s
    U /= np.linalg.norm(U, axis=0)
    branches = [(branch, V[:, i], U[:, i]) for i in range(rank) for branch in branches_of(ufm, float(s[i]))]
    still_W, still_H = np.zeros(problem.K), np.zeros(problem.M)
    branches += [(Branch(ufm.lambda_W, 1.0, 0.0), V[:, i], still_H) for i in range(rank, V.shape[1])]
    others = _others(np.hstack([space_H, U]), k)
    branches += [(Branch(ufm.lambda_H, 0.0, 1.0), still_W, u) for u in others.T]
    rotation = branches_of(ufm, -ufm.tau)[1]
    branches += [(rotation, w, h) for w, h in zip(space_W.T, space_H.T, strict=True)]
    return branches


def _others(Q: Array, count: int) -> Array:
    """Return up to `count` orthonormal columns orthogonal to the orthonormal columns of Q."""
    rows, columns = Q.shape
    more = np.random.default_rng(0).standard_normal((rows, min(count, rows - columns)))
    return linalg.qr(np.hstack([Q, more]))[0][:, columns:]
