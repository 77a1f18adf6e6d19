"""Losses of long-tailed learning: cross-entropy whose scales, shifts and margins follow from the class counts.

Each of these functions returns a `ufm_fast.CrossEntropy` with the affine logits ``a = scale z + shift``, less
``margin[k]`` at the label k, or, for `class_balanced_weights`, class weights. A shift by the same number in all classes
changes nothing. In a model with a bias without decay no shift at all changes the minimum but for its bias, which
becomes ``b - shift / scale``: of such losses only scales, margins and weights act on the geometry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._model.losses import CrossEntropy
from ._runtime.arguments import as_array, class_counts, real_number
from ._runtime.arrays import Array

__all__ = ["cdt", "class_balanced_weights", "ldam", "logit_adjusted", "vector_scaling"]


def logit_adjusted(n: ArrayLike, strength: float = 1.0) -> CrossEntropy:
    """Adjust the logits by the logarithms of the class frequencies (Menon et al. 2020, arXiv 2007.07314).

        loss(z, k) = -log softmax(z + strength log(n / N))_k

    Parameters
    ----------
    n : K ints
        Samples per class.
    strength : float, optional
        The paper's tau; 1 makes the loss consistent for the balanced error.

    Returns
    -------
    CrossEntropy
        With that shift.

    Raises
    ------
    TypeError, ValueError
        If ``n`` are not positive ints, or ``strength`` is not a finite real number.

    Notes
    -----
    In PyTorch ``cross_entropy(z + strength * log(n / n.sum()), k)``. The shift is without effect on loss, W and H of a
    minimum where the bias has no decay, which then becomes ``b - strength log(n / N)``.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.losses.logit_adjusted([90, 10]).shift
    (-0.10536051565782628, -2.3025850929940455)
    """
    counts, strength = _counts(n), real_number(strength, "strength")
    return CrossEntropy(shift=strength * np.log(counts / counts.sum()))


def ldam(n: ArrayLike, largest_margin: float = 0.5, scale: float = 1.0) -> CrossEntropy:
    """Ask for margins that grow with the rarity of a class (Cao et al. 2019, arXiv 1906.07413).

        loss(z, k) = -log softmax(scale (z - margin_k e_k))_k,   margin_k = C / n_k^(1/4)

    with the C for which the largest margin, that of the rarest class, is ``largest_margin``.

    Parameters
    ----------
    n : K ints
        Samples per class.
    largest_margin : float, optional
        Not negative; the paper's code takes 0.5.
    scale : float, optional
        Positive. The paper's code, whose features and classifiers have norm 1, takes 30.

    Returns
    -------
    CrossEntropy
        With the margin ``scale * margin_k``, and that scale in all classes if it is not 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    In PyTorch ``cross_entropy(scale * (z - margin[k] * one_hot(k)), k)``, the ``LDAMLoss`` of the paper's code. Its
    second stage adds class weights: `class_balanced_weights`.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.losses.ldam([1600, 100, 1]).margin
    (0.07905694150420949, 0.15811388300841897, 0.5)
    """
    counts = _counts(n)
    largest_margin = real_number(largest_margin, "largest_margin", least=0)
    scale = real_number(scale, "scale", above=0)
    margin = largest_margin * (counts.min() / counts) ** 0.25
    return CrossEntropy(scale=None if scale == 1 else np.full(len(counts), scale), margin=scale * margin)


def cdt(n: ArrayLike, gamma: float) -> CrossEntropy:
    """Divide the logits by class-dependent temperatures (Ye et al. 2020, arXiv 2001.01385).

        loss(z, k) = -log softmax(z / a)_k,   a_c = (n_max / n_c)^gamma

    Parameters
    ----------
    n : K ints
        Samples per class.
    gamma : float
        Not negative; 0 gives cross-entropy.

    Returns
    -------
    CrossEntropy
        With the scale 1 / a.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    In PyTorch ``cross_entropy(z / a, k)``. Only training sees the temperatures: at test time the logits are z.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.losses.cdt([100, 25, 4], gamma=0.5).scale
    (1.0, 0.5, 0.2)
    """
    counts, gamma = _counts(n), real_number(gamma, "gamma", least=0)
    return CrossEntropy(scale=(counts / counts.max()) ** gamma)


def vector_scaling(n: ArrayLike, gamma: float, strength: float) -> CrossEntropy:
    """Scale and shift the logits, the VS loss (Kini et al. 2021, arXiv 2103.01550).

        loss(z, k) = -log softmax(D z + i)_k,   D_c = (n_c / n_max)^gamma,   i_c = strength log(n_c / N)

    Parameters
    ----------
    n : K ints
        Samples per class.
    gamma : float
        Not negative. With 0 only the shift is left, `logit_adjusted`.
    strength : float
        The paper's tau. With 0 only the scale is left, `cdt`.

    Returns
    -------
    CrossEntropy
        With the scale D and the shift i.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    In PyTorch ``cross_entropy(D * z + i, k)``. The paper's class weights omega are `UFM`'s argument ``weights``.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> loss = uf.losses.vector_scaling([75, 25], gamma=0.5, strength=1.0)
    >>> loss.scale, loss.shift
    ((1.0, 0.5773502691896257), (-0.2876820724517809, -1.3862943611198906))
    """
    return CrossEntropy(scale=cdt(n, gamma).scale, shift=logit_adjusted(n, strength).shift)


def class_balanced_weights(n: ArrayLike, beta: float) -> Array:
    """Weigh classes by the effective number of their samples (Cui et al. 2019, arXiv 1901.05555).

        weight_k proportional to (1 - beta) / (1 - beta^n_k)

    normalised as published, to sum to K: the mean weight over classes, not over samples, is one.

    Parameters
    ----------
    n : K ints
        Samples per class.
    beta : float
        In [0, 1): 0 gives ones; towards 1 the weights become proportional to 1 / n_k. The paper takes 0.9 to 0.9999.

    Returns
    -------
    ndarray, shape (K,)

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    In a UFM every sample of class k counts weight_k times in the sum of losses, which is divided by N: in PyTorch
    ``cross_entropy(z, k, weight=weights, reduction="sum") / N``. The default reduction there, "mean", divides by the
    sum of the weights of the samples instead.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.losses.class_balanced_weights([1000, 10], beta=0.99).round(4)
    array([0.1746, 1.8254])
    """
    counts, beta = _counts(n), real_number(beta, "beta", least=0, below=1)
    effective = -np.expm1(counts * np.log(beta)) / (1 - beta) if beta > 0 else np.ones(len(counts))
    weights: Array = len(counts) / effective / (1 / effective).sum()
    return weights


def _counts(n: ArrayLike) -> Array:
    sizes = np.atleast_1d(as_array(n, "n"))
    return class_counts(sizes, len(sizes)).astype(np.float64)
