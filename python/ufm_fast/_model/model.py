"""The unconstrained feature model: its points, loss, gradient and Hessian products."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .._runtime import arguments as check
from .._runtime.memory import require_memory
from .._runtime.threads import checked_threads
from .functions import Functions
from .loss import Loss
from .losses import as_loss
from .point import Point, checked_point
from .rows import Rows, class_rows, given_rows, merged_rows, sample_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .shard import RowShard

_DRAWN = 2**22  # random numbers at a time, some hundredths of a second


class UFM(Functions):
    """An unconstrained feature model (Gu & Shen 2024, arXiv 2407.10702; Zhu et al. 2021, arXiv 2105.02375).

    With N samples in K classes, features h_i of dimension d and logits ``z_i = W h_i + b``::

        f(W, H, b) = (1/N) sum_i weight_i loss(z_i, k_i) + lambda_W/2 |W|^2 + lambda_H/2 sum_i |h_i|^2
                     + lambda_b/2 |b|^2.

    Or, with targets, of M rows that stand for n_i samples each, N = sum_i n_i::

        f(W, H, b) = sum_i (n_i/N) weight_i loss(z_i, target_i) + lambda_W/2 |W|^2 + lambda_H/2 sum_i ridge_i |h_i|^2
                     + lambda_b/2 |b|^2.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Feature dimension.
    n : int or K ints, optional
        Samples per class, positive; N is below 2^63. With targets: a real number or M of them, positive.
    targets : (M,) ints or (M, K) real numbers or scipy.sparse matrix of that shape, optional
        Labels in [0, K) in any order, not all of which need occur; or what the logits of each row are compared with:
        distributions for cross-entropy (nonnegative, each row sums to one within 1e-6), numbers in [0, 1] for binary
        cross-entropy, any numbers for squared error. Sparse matrices stay sparse; duplicate entries are added up.
    loss : {"cross_entropy", "mse", "bce"} or CrossEntropy or MSE or BinaryCrossEntropy or Focal or Ordinal, optional
    lambda_W, lambda_H : float
        Weight decays of classifier and features, positive and in the range of `dtype`.
    lambda_b : float, optional
        Weight decay of the bias, zero or as the others; not used where ``bias`` is False.
    bias : bool, optional
        Whether there is a bias.
    weights : positive number or K of them, optional
        Weights of the classes in the loss: each sample of class k counts weights[k] times. The loss is divided by N,
        whatever the weights are (PyTorch's ``reduction="sum"`` over N; its "mean" divides by the sum of the samples'
        weights). With targets: M of them, one a row.
    ridges : positive number or M of them, optional
        With targets: of the rows' features in the decay; n, if not given.
    collapse : bool, optional
        True: H has K rows, the class means, and every sample of class k sits at row k (M = K). This is exact at every
        critical point, where the features of a class coincide. False: H has N rows, class by class in order (M = N).
        With targets there is a row of H for each of theirs.
    dtype : "float64" or "float32", optional
        Of all points; arrays of it are used without copying.
    threads : int, optional
        Threads of this model, from 1 to 4096; None follows `set_num_threads`, and more than there are processors
        become as many, as there.

    Attributes
    ----------
    K, d, M : int
    N : int or float
    counts : ndarray of int64, shape (K,), or None
        Samples per class; None where targets were given.
    weights : ndarray, shape (K,), or None
        Weights of the classes, if they were given.
    data : Rows
        The targets, loss weights and ridges of the M rows.
    tau, rho : float
        ``sqrt(lambda_W lambda_H)`` and ``(lambda_H / lambda_W)^(1/4)``.
    size : int
        Length of a packed point.
    dtype : numpy.dtype
    loss_function : CrossEntropy or MSE or BinaryCrossEntropy or Focal
    lambda_W, lambda_H, lambda_b : float
    bias, collapse_classes : bool
    threads : int or None

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a point would have 2^63 bytes or more.
    MemoryError
        If arrays of N or K numbers cannot be allocated.

    Notes
    -----
    Numbers may be Python's or NumPy's, but no booleans or strings. A model stays as it was made: neither attributes
    nor entries of `counts` and `weights` can be set. So threads may share it.

    A row's feature depends on its target and on the ratio of its loss weight and its ridge. Where these are equal the
    rows can be merged (`merged`): weighted classes, contexts of a language model with equal next tokens.

    Examples
    --------
    Three classes, the rarest of which counts more; and four contexts with the distributions of their next tokens:

    >>> import ufm_fast as uf
    >>> weighted = uf.UFM(3, 3, [500, 50, 5], weights=[1, 2, 10], lambda_W=1e-3, lambda_H=1e-5)
    >>> tokens = [[0.5, 0.5, 0], [0, 0.2, 0.8], [0.5, 0.5, 0], [0, 0, 1]]
    >>> contexts = uf.UFM(3, 3, targets=tokens, n=[7, 2, 3, 8], lambda_W=1e-3, lambda_H=1e-3)
    >>> merged, index = contexts.merged()
    >>> merged.M, index.tolist()
    (3, [0, 1, 0, 2])
    """

    counts: Any  # None in a model of rows with given targets
    weights: NDArray[np.float64] | None
    N: Any  # an int, but for such rows

    def __init__(
        self,
        K: int,
        d: int,
        n: ArrayLike = 1,
        *,
        targets: Any = None,
        loss: str | Loss = "cross_entropy",
        lambda_W: float,
        lambda_H: float,
        lambda_b: float = 0.0,
        bias: bool = True,
        weights: ArrayLike | None = None,
        ridges: ArrayLike | None = None,
        collapse: bool = True,
        dtype: DTypeLike = "float64",
        threads: int | None = None,
    ) -> None:
        self._set_options(K, d, loss, (lambda_W, lambda_H, lambda_b), bias, dtype, threads)
        self.collapse_classes = check.flag(collapse, "collapse")
        self.counts = self.weights = None
        if targets is not None:
            if not self.collapse_classes:
                raise ValueError("collapse must be True where targets are given: each of their rows has one in H")
            self._set_rows(given_rows(targets, self.K, n, weights, ridges))
            return
        if ridges is not None:
            raise ValueError("ridges must not be given without targets: each sample of a class has the ridge 1")
        self.counts = check.class_counts(n, self.K)
        if weights is not None:
            self.weights = check.positive_numbers(weights, "weights", self.K, "classes")
        self._check_size(self.K if self.collapse_classes else int(self.counts.sum()))
        rows = class_rows if self.collapse_classes else sample_rows
        self._set_rows(rows(self.counts, self.weights))

    def _set_options(
        self,
        K: int,
        d: int,
        loss: str | Loss,
        decays: tuple[float, float, float],
        bias: bool,
        dtype: DTypeLike,
        threads: int | None,
    ) -> None:
        self.K = check.whole_number(K, "K", 2)
        self.d = check.whole_number(d, "d", 1)
        self.dtype = check.float_type(dtype, "dtype")
        self.bias = check.flag(bias, "bias")
        self.loss_function = as_loss(loss)
        self.loss_function.check(self.K)
        lambda_W, lambda_H, lambda_b = decays
        self.lambda_W = self._decay(lambda_W, "lambda_W", above=0)
        self.lambda_H = self._decay(lambda_H, "lambda_H", above=0)
        self.lambda_b = self._decay(lambda_b, "lambda_b", least=0)
        self.tau = math.sqrt(self.lambda_W) * math.sqrt(self.lambda_H)
        self.rho = math.sqrt(math.sqrt(self.lambda_H / self.lambda_W))
        self.threads = checked_threads(threads, "threads")
        check.addressable(2 * self.K * self.d, self.dtype, f"K = {self.K} and d = {self.d}")

    def _check_size(self, M: int) -> None:
        size = (self.K + M) * self.d + self.K * self.bias
        check.addressable(size, self.dtype, f"K = {self.K}, d = {self.d} and M = {M}")

    def _set_rows(self, rows: Rows) -> None:
        self.N = rows.N
        self._check_size(rows.M)
        for name, numbers, decay in (("weights", rows.weights, 1.0), ("ridges", rows.ridges, self.lambda_H)):
            with np.errstate(over="ignore"):
                kept = (numbers * decay).astype(self.dtype)
            if not (np.isfinite(kept).all() and kept.min() > 0):
                raise ValueError(f"{name} must make terms in the range of {self.dtype}, but they over- or underflow it")
        self.loss_function.check_rows(rows.labels, self.K, self.bias)
        self._compile(rows)

    def _decay(self, value: Any, name: str, **limits: float) -> float:
        decay = check.real_number(value, name, **limits)
        with np.errstate(over="ignore"):
            error = abs(float(self.dtype.type(decay)) - decay)
        if error > float(np.finfo(self.dtype).eps) * decay:
            raise ValueError(f"{name} must be in the range of {self.dtype}, not {decay}")
        return decay

    def _options(self) -> dict[str, Any]:
        return {
            "loss": self.loss_function, "lambda_W": self.lambda_W, "lambda_H": self.lambda_H,
            "lambda_b": self.lambda_b, "bias": self.bias, "dtype": self.dtype.name, "threads": self.threads,
        }  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        if self.counts is None:
            return partial(rows_model, **self._options()), (self.K, self.d, self.data)
        options = self._options() | {"weights": self.weights, "collapse": self.collapse_classes}
        return partial(UFM, **options), (self.K, self.d, self.counts)

    def __repr__(self) -> str:
        if self.counts is None:
            size = f"M={self.M}"
        else:
            least, most = self.counts.min(), self.counts.max()
            size = f"n={least}" if least == most else f"n={least}..{most}"
        if self.weights is not None:
            size += f", weights={self.weights.min():g}..{self.weights.max():g}"
        return (
            f"UFM(K={self.K}, d={self.d}, {size}, loss={self.loss_function}, lambda_W={self.lambda_W:g}, "
            f"lambda_H={self.lambda_H:g}, lambda_b={self.lambda_b:g}, bias={self.bias}, "
            f"collapse={self.collapse_classes}, dtype={self.dtype})"
        )

    def random_point(self, seed: int | np.random.Generator = 0, scale: float | None = None) -> Point:
        """Draw a point with independent normal entries.

        Parameters
        ----------
        seed : int or numpy.random.Generator
            Not negative.
        scale : float, optional
            Standard deviation of all entries. None stands for 0.3 / sqrt(K) in balanced coordinates, in which both
            decays are tau and a feature of class k counts sqrt(n_k) times: logits then start of order 0.1.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above, or an entry overflows the model's dtype.
        MemoryError
            If there is not memory for three points.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
        >>> p = ufm.random_point(seed=0)
        >>> p.W.shape, p.H.shape, p.b.shape
        ((5, 5), (5, 5), (5,))
        """
        if not isinstance(seed, np.random.Generator):
            seed = check.whole_number(seed, "seed", 0)
        require_memory("random_point", 3 * self.size, K=self.K, M=self.M, d=self.d)
        generator = np.random.default_rng(seed)
        shapes = (self.layout.K, self.d), (self.M, self.d), (self.layout.biases,)
        W, H, b = (_normal(generator, shape) for shape in shapes)
        if scale is None:
            root = np.sqrt(self.data.ridges if self.collapse_classes else np.repeat(self.counts, self.counts))
            spread = 0.3 / math.sqrt(self.K)
            W, H, b = spread * self.rho * W, spread / self.rho * H / root[:, None], spread * b
        else:
            spread = check.real_number(scale, "scale", least=0, below=float(np.finfo(self.dtype).max))
            with np.errstate(over="ignore"):
                W, H, b = spread * W, spread * H, spread * b
        b = self.loss_function.allowed_bias(b, self.K)
        with np.errstate(over="ignore"):
            p = Point(W.astype(self.dtype), H.astype(self.dtype), b.astype(self.dtype))
        if not all(np.isfinite(part).all() for part in p):
            raise ValueError(f"scale must be given and smaller, not {scale}: entries overflow {self.dtype}")
        return p if self.bias else p._replace(b=np.zeros_like(p.b))

    def merged(self) -> tuple[UFM, NDArray[np.int64]]:
        """Merge rows with equal targets and equal ratios of loss weight and ridge: the same model, exactly.

        At every critical point such rows have one feature, so values, critical points and global minima agree. Their
        weights and ridges add up. Rows of labels are sorted by label, others stay in the order of their first ones.

        Returns
        -------
        UFM
            A model of rows.
        ndarray of int64, shape (M,)
            For each row of this model the one that stands for it there: a point ``(W, H, b)`` of that is
            ``(W, H[index], b)`` here.

        Notes
        -----
        Cost: sorting M numbers, a few passes over the targets.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(3, 4, targets=[0, 2, 0, 1, 0], lambda_W=1e-2, lambda_H=1e-2)
        >>> merged, index = ufm.merged()
        >>> ufm.M, merged.M, index.tolist()
        (5, 3, [0, 2, 0, 1, 0])
        """
        rows, index = merged_rows(self.data)
        return rows_model(self.K, self.d, rows, **self._options()), index

    def rows(self, start: int, stop: int) -> RowShard:
        """Return the part of f that belongs to rows [start, stop) of H, for work that is spread over processes.

        The rows keep their weights n_i w_i / N in the whole model, and the part that begins at row 0 has the ridges of
        W and b. So the values of parts that together have every row once add up to f, their gradients and Hessian
        products with respect to W and b to those of f, and the rows of H have theirs in the one part that they are in.

        Parameters
        ----------
        start, stop : int
            ``0 <= start < stop <= M``.

        Returns
        -------
        RowShard
            Its points are ``(W, H[start:stop], b)``. It has `loss`, `loss_and_grad`, `hvp` and the other functions that
            a model has, and can be pickled; no certificate.

        Raises
        ------
        TypeError, ValueError
            If there are no such rows.

        Notes
        -----
        Cost: copies of the targets of these rows. An evaluation costs what its rows cost: the sum over parts is that of
        the model, and adding up the gradients of W.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(4, 3, [40, 30, 20, 10], lambda_W=1e-3, lambda_H=1e-5)
        >>> p = ufm.random_point()
        >>> parts = [ufm.rows(0, 3), ufm.rows(3, 4)]
        >>> values = [part.loss(p._replace(H=p.H[part.start : part.stop])) for part in parts]
        >>> abs(sum(values) - ufm.loss(p)) < 1e-14
        True
        """
        from .shard import RowShard

        start = check.whole_number(start, "start", 0, self.M - 1)
        stop = check.whole_number(stop, "stop", start + 1, self.M)
        return RowShard(self.K, self.d, self.data.between(start, stop), start, **self._options())

    def collapse(self, p: Point) -> Point:
        """Replace the features of N samples, class by class, by their K class means; f does not rise.

        Parameters
        ----------
        p : Point
            With N rows in H.

        Returns
        -------
        Point
            With K rows in H.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> samples = uf.UFM(3, 4, n=20, lambda_W=1e-2, lambda_H=1e-2, collapse=False)
        >>> p = samples.random_point(0)
        >>> means = samples.collapse(p)
        >>> p.H.shape, means.H.shape
        ((60, 4), (3, 4))
        """
        self._require_classes("collapse")
        W, H, b = checked_point(p, replace(self.layout, M=self.N), self.dtype)
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        means = np.add.reduceat(H, starts, axis=0, dtype=np.float64) / self.counts[:, None]
        return Point(W, means.astype(self.dtype), b)

    def expand(self, p: Point) -> Point:
        """Give every sample its class's feature: K rows in H become N, class by class; f does not change.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(3, 4, n=20, lambda_W=1e-2, lambda_H=1e-2)
        >>> ufm.expand(ufm.random_point(0)).H.shape
        (60, 4)
        """
        self._require_classes("expand")
        require_memory("expand", self.N * self.d, K=self.K, N=self.N, d=self.d)
        W, H, b = checked_point(p, replace(self.layout, M=self.K), self.dtype)
        return Point(W, np.repeat(H, self.counts, axis=0), b)

    def _require_classes(self, method: str) -> None:
        if self.counts is None:
            raise ValueError(f"{method} is for models of classes with samples, not of rows with targets: see merged")


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw normal numbers, some at a time, between which a signal can end it."""
    numbers = np.empty(math.prod(shape))
    for first in range(0, numbers.size, _DRAWN):
        generator.standard_normal(out=numbers[first : first + _DRAWN])
    return numbers.reshape(shape)


def rows_model(
    K: int,
    d: int,
    rows: Rows,
    *,
    loss: str | Loss = "cross_entropy",
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
    bias: bool = True,
    dtype: DTypeLike = "float64",
    threads: int | None = None,
) -> UFM:
    """Return a model of rows of any kind; it has no class counts, and N is the sum of the rows' ridges."""
    ufm = UFM.__new__(UFM)
    ufm._set_options(K, d, loss, (lambda_W, lambda_H, lambda_b), bias, dtype, threads)
    ufm.collapse_classes, ufm.counts, ufm.weights = True, None, None
    ufm._set_rows(rows)
    return ufm


def rows_of_classes(ufm: UFM) -> Rows:
    """Return the data of a model, with the means of classes in place of their samples."""
    return ufm.data if ufm.collapse_classes else class_rows(ufm.counts, ufm.weights)


def in_double(ufm: UFM, *, collapse: bool, d: int | None = None) -> UFM:
    """Return the same model in float64, on class means or with a row a sample; with d features, if given."""
    options = ufm._options() | {"dtype": "float64"}
    d = ufm.d if d is None else d
    if ufm.counts is None:
        return rows_model(ufm.K, d, ufm.data, **options)
    return UFM(ufm.K, d, ufm.counts, **options, weights=ufm.weights, collapse=collapse)
