"""NC4: how often a classifier and the nearest class mean decide alike, counted in a second pass over the features."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._runtime.arrays import Array
from .._runtime.blas import product
from .._runtime.threads import concurrently
from .moments import Moments

_MOST_ROWS, _LEAST_ROWS = 512, 256  # of a slice of a batch
_NUMBERS = 2**21  # that a slice has, of features or of scores, if it is not of the least rows
_SINGLE, _DOUBLE = 2.0**-24, 2.0**-53  # relative roundings
_MOST_ROUNDING = 0.25  # n u, beyond which float32 is not asked
_UNDERFLOW = 2.0**-100  # of scaled scores; more than a million products of numbers that float32 cannot hold
_SQUARES_UNDERFLOW = 2.0**-62  # numbers up to half of this may vanish when they are squared in float32
_HUGE = 1e38  # near the largest float32
_WORTH_BALLS = 16  # samples a class, from which on balls cost less than a fourth of all scores
_TILE = 256  # classes
_EXPONENTS = 100  # factors between 2^-100 and 2^100 are exact in float32, and leave it room


class Seen(NamedTuple):
    """Features (rows, d), and where they are known the classes that they are of, places among all K."""

    features: NDArray[Any]
    classes: NDArray[np.int64] | None


class _Errors(NamedTuple):
    """What bounds the errors of scores <a, x> + c of a feature x of d entries, in float32.

    In float64 the same scores are those of vectors before anything was taken out: of norms up to ``length``, with
    features of norms up to |x| + ``shift`` and numbers up to ``number``.
    """

    d: int
    longest: float  # |a|
    largest: float  # |c|
    length: float
    shift: float
    number: float

    def gap(self, norms: Array) -> Array:
        """How far two float32 scores have to be apart so that the float64 ones are in the same order.

        A sum of n products in floating point, in whatever order, errs by at most n u / (1 - n u) times the sum of
        their absolute values, which is at most |a| |x| + |c|; n = d + 1, and the roundings of a, c and x to float32,
        of their own calculation and of |x| are less than seven more of each.
        """
        norms = self.true(norms)
        rounding = min((self.d + 8) * _SINGLE, _MOST_ROUNDING)
        single = rounding / (1 - rounding) * (self.longest * norms + self.largest)
        return np.asarray(2 * (single + self.double(norms) + _UNDERFLOW))

    def true(self, norms: Array) -> Array:
        """Bound norms that were computed in float32, from squares of errors as in `gap`."""
        n = self.d + 8
        if n * _SINGLE > _MOST_ROUNDING:
            return np.full_like(norms, np.inf)
        return np.asarray(norms * (1 + 2 * n * _SINGLE) + np.sqrt(n) * _SQUARES_UNDERFLOW)

    def double(self, norms: Any) -> Any:
        """Bound the error of float64 scores, and of what is taken out of them."""
        return 4 * (self.d + 8) * _DOUBLE * (self.length * (norms + self.shift) + self.number)


class _Decisions:
    """The class with the largest logit and the nearest class mean of samples, as float64 finds them.

    Both are the places of largest scores, which are taken in float32, by one product, of features about a centre near
    the global mean. Where the largest exceeds the next by more than the errors of both, in float32 and in float64
    together, it is the largest in float64 as well; other samples are looked at again in float64. With ``balls``,
    samples in the ball about their class's mean in which both decisions are the mean's own need no scores.
    """

    def __init__(self, moments: Moments, W: Array, b: Array, balls: bool) -> None:
        self.moments, self.W, self.b = moments, W, b
        self.half_squares = np.einsum("ki,ki->k", moments.centred, moments.centred) / 2
        g = moments.global_mean
        self.origin = np.where(np.abs(g) < _HUGE, g, 0).astype(np.float32).astype(np.float64)
        self.exponent = _exponent(moments.centred)
        self.matrix = np.empty((len(W) + len(moments.present), len(g) + 1), dtype=np.float32)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            shift = float(np.linalg.norm(self._moved(self.origin)) + np.linalg.norm(self._moved(self.origin - g)))
            self.errors = (
                self._fill(self.matrix[: len(W)], W, W.mean(axis=0), self.origin, b, shift),
                self._fill(
                    self.matrix[len(W) :], moments.centred, np.zeros_like(g), self.origin - g, -self.half_squares, shift
                ),
            )
            if balls:
                self._find_balls()

    def _moved(self, values: Array) -> Array:
        """Bring features to the scale of those that scores are of."""
        return np.ldexp(values, -self.exponent)

    def _fill(
        self, matrix: NDArray[np.float32], rows: Array, middle: Array, origin: Array, numbers: Array, shift: float
    ) -> _Errors:
        """Write what gives the scores <rows - middle, h - origin> + numbers, scaled; return bounds of their errors."""
        own = _exponent(rows)
        origin, numbers = self._moved(origin), np.ldexp(numbers, -own - self.exponent)
        longest = largest = length = 0.0
        step = max(1, _NUMBERS // len(origin))
        for first in range(0, len(rows), step):
            tile = slice(first, first + step)
            part = np.ldexp(rows[tile] - middle, -own)
            offsets = part @ origin + numbers[tile]
            matrix[tile, :-1], matrix[tile, -1] = part, offsets
            longest = max(longest, _longest(part))
            largest = max(largest, float(np.abs(offsets).max()))
            length = max(length, _longest(np.ldexp(rows[tile], -own)))
        return _Errors(len(origin), longest, largest, length, shift, float(np.abs(numbers).max()))

    def _find_balls(self) -> None:
        """Find how far from each class mean no decision can change, as well as float64 tells, and what it is there.

        Where <a_t, x> + c_t is the largest score at the mean, by g_k more than the k-th, it is so up to the distance
        min_k g_k / |a_t - a_k|. From g_k the errors are taken, of rows in float32 and of decisions in float64, there
        and here, and to |a_t - a_k| those of its square's calculation and of the rows are added.
        """
        K = len(self.W)
        centres = np.ones((len(self.moments.present), self.matrix.shape[1]))
        centres[:, :-1] = self._moved(self.moments.class_means - self.origin)
        self.centres = centres.astype(np.float32)
        self.lengths = np.linalg.norm(centres[:, :-1], axis=1)
        farthest = 2 * self.lengths.max()  # no ball reaches farther from the origin
        self.radii = farthest - self.lengths
        tops = []
        for errors, part in zip(self.errors, (self.matrix[:K], self.matrix[K:]), strict=True):
            top, radii = _stable(part, centres, errors, farthest, self.moments.threads)
            tops.append(top)
            self.radii = np.minimum(self.radii, radii)
        self.alike_at_mean = tops[0] == self.moments.present[tops[1]]

    def alike(self, H: NDArray[Any], classes: NDArray[np.int64] | None) -> int:
        """Count samples of which both decide alike."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            X = self._scaled(H)
            if classes is None:
                return self._alike_by_scores(H, X)
            places = np.searchsorted(self.moments.present, classes).clip(max=len(self.radii) - 1)
            off = X - self.centres[places]
            distances = self.errors[0].true(np.sqrt(np.einsum("ij,ij->i", off, off)))
            inside = distances + 4 * _SINGLE * (self.lengths[places] + distances) < self.radii[places]
            known = int(self.alike_at_mean[places[inside]].sum())
            return known + (0 if inside.all() else self._alike_by_scores(H[~inside], X[~inside]))

    def _alike_by_scores(self, H: NDArray[Any], X: NDArray[np.float32]) -> int:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            norms = np.sqrt(np.einsum("ij,ij->i", X[:, :-1], X[:, :-1])).astype(np.float64)
            scores = X @ self.matrix.T
            K, everyone = len(self.W), np.arange(len(H))
            decisions, sure = [], np.isfinite(norms)
            for errors, part in zip(self.errors, (scores[:, :K], scores[:, K:]), strict=True):
                top = part.argmax(axis=1)
                best = part[everyone, top].astype(np.float64)
                part[everyone, top] = -np.inf
                sure &= best - part.max(axis=1) > errors.gap(norms)
                decisions.append(top)
        alike = decisions[0] == self.moments.present[decisions[1]]
        return int(alike[sure].sum()) + self._alike_in_double(H[~sure])

    def _scaled(self, H: NDArray[Any]) -> NDArray[np.float32]:
        """Features less the origin, scaled, in float32, with a column of ones."""
        X = np.ones((len(H), H.shape[1] + 1), dtype=np.float32)
        if H.dtype == np.float32 and abs(self.exponent) <= _EXPONENTS:
            np.subtract(H, self.origin.astype(np.float32), out=X[:, :-1])
            X[:, :-1] *= np.float32(2.0**-self.exponent)
        else:
            X[:, :-1] = (H - self.origin) * 2.0**-self.exponent
        return X

    def _alike_in_double(self, H: NDArray[Any]) -> int:
        if len(H) == 0:
            return 0
        features = H.astype(np.float64)
        if not np.isfinite(features).all():
            raise ValueError("batches must be finite, as the features were when they were first seen")
        decided = np.argmax(product(features, self.W.T, 1) + self.b, axis=1)
        centred = features - self.moments.global_mean
        nearest = np.argmax(product(centred, self.moments.centred.T, 1) - self.half_squares, axis=1)
        return int((decided == self.moments.present[nearest]).sum())


class _Sum:
    """The sum of the features of a second pass, which has to be that of the first."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self.total: Array = np.zeros_like(moments.global_mean)
        self.samples = self.parts = self.tallest = 0
        self.precisions = {moments.precision}

    def add(self, part: Array, H: NDArray[Any]) -> None:
        self.total += part
        self.samples += len(H)
        self.parts += 1
        self.tallest = max(self.tallest, len(H))
        self.precisions.add(float(np.finfo(H.dtype).eps))

    def check(self) -> None:
        """Raise if these cannot be the features of the first pass.

        Each entry of a feature takes part in at most `tallest` additions within a slice and `parts` among slices, each
        of which errs by u times a partial sum, so that the total errs by at most (tallest + parts) u sum |h|, as a
        vector; and sum |h| <= N sqrt(mean |h|^2) by Cauchy and Schwarz. The P class means have errors of their own,
        which were bounded when they were summed, and their weighted sum adds one of P + 1 roundings. Features that
        come in a type of another precision have been rounded to it, each by at most half of that. All is allowed twice.
        """
        moments = self.moments
        N = int(moments.all_counts.sum())
        if self.samples != N:
            raise ValueError(f"batches must hold the {N} samples that were counted, once more, not {self.samples}")
        depth = self.tallest + self.parts + len(moments.present) + 1
        rounded = max(self.precisions) / 2 if len(self.precisions) > 1 else 0.0
        allowed = 2 * N * (depth * _DOUBLE + rounded) * np.sqrt(moments.mean_square)
        allowed += 2 * float(moments.counts @ moments.roundings)
        off = float(np.linalg.norm(self.total - moments.counts @ moments.class_means))
        if not off <= allowed:
            raise ValueError(
                f"batches must be the features that were counted, once more: their mean is off by {off / N:.1e}, where "
                f"rounding may have done {allowed / N:.1e}"
            )


def agreement(moments: Moments, batches: Iterable[Seen], W: Array, b: Array) -> float:
    """Return the fraction of samples whose largest logit is that of the nearest class mean."""
    N, P = int(moments.all_counts.sum()), len(moments.present)
    balls = N >= _WORTH_BALLS * P
    decisions, total = _Decisions(moments, W, b, balls), _Sum(moments)
    rows = min(_MOST_ROWS, max(_LEAST_ROWS, _NUMBERS // max(len(W) + P, W.shape[1])))
    alike = 0

    def seen(H: NDArray[Any], classes: NDArray[np.int64] | None) -> tuple[int, Array]:
        return decisions.alike(H, classes), np.asarray(H.sum(axis=0, dtype=np.float64))

    for features, classes in batches:
        cuts = [slice(first, first + rows) for first in range(0, len(features), rows)]
        known = classes if balls else None
        tasks = [partial(seen, features[cut], None if known is None else known[cut]) for cut in cuts]
        for cut, (count, part) in zip(cuts, concurrently(tasks, moments.threads), strict=True):
            alike += count
            total.add(part, features[cut])
    total.check()
    return alike / total.samples


def _exponent(rows: Array) -> int:
    """Return that of the power of two next to the largest entry."""
    return int(np.frexp(np.abs(rows).max())[1])


def _longest(rows: Array) -> float:
    return float(np.linalg.norm(rows, axis=1).max())


def _stable(
    part: NDArray[np.float32], centres: Array, errors: _Errors, farthest: float, threads: int
) -> tuple[NDArray[np.int64], Array]:
    """Return which score is the largest at each centre, and how far from it no other is; all no farther than that."""
    matrix = part.astype(np.float64)
    squares = np.einsum("ki,ki->k", matrix[:, :-1], matrix[:, :-1])
    error = 2 * float(errors.gap(np.array(farthest)))
    top, radii = np.zeros(len(centres), dtype=np.int64), np.zeros(len(centres))
    for first in range(0, len(centres), _TILE):
        tile = slice(first, first + _TILE)
        scores = product(centres[tile], matrix.T, threads)
        best = scores.argmax(axis=1)
        gaps = np.take_along_axis(scores, best[:, None], axis=1) - scores - error
        rows = matrix[best]
        rows[:, -1] = 0
        sums = squares[best, None] + squares
        apart = (sums - 2 * product(rows, matrix.T, threads)).clip(min=0) + 8 * matrix.shape[1] * _DOUBLE * sums
        with np.errstate(divide="ignore", invalid="ignore"):  # W may be zero
            distances = gaps / (np.sqrt(apart) + 2 * _SINGLE * errors.longest)
        distances[np.arange(len(best)), best] = np.inf
        top[tile], radii[tile] = best, distances.min(axis=1)
    return top, np.nan_to_num(radii, nan=-np.inf, posinf=np.inf)
