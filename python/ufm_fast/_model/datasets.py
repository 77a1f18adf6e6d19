"""Class counts of real data sets."""

from __future__ import annotations

import numpy as np

from .._runtime.arguments import choice, real_number

_BALANCED = {  # name: (samples per class, classes), training split
    "cifar10": (5000, 10),
    "cifar100": (500, 100),
    "fashion-mnist": (6000, 10),
    "kmnist": (6000, 10),
    "tiny-imagenet": (500, 200),
}
_MEASURED = {  # class order: digits 0 to 9, training split
    "mnist": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "svhn": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
}
_LONG_TAILED = {"cifar10-lt": "cifar10", "cifar100-lt": "cifar100"}
_KNOWN = sorted({*_BALANCED, *_MEASURED, *_LONG_TAILED})


def counts(name: str, imbalance: float | None = None) -> np.ndarray:
    """Training samples in each class of a named data set.

    Parameters
    ----------
    name : str
        One of "mnist", "fashion-mnist", "kmnist", "svhn", "cifar10", "cifar100", "tiny-imagenet", or the long-tailed
        "cifar10-lt", "cifar100-lt".
    imbalance : float, optional
        For the long-tailed sets only: size of the largest class over that of the smallest, 100 if not given.
        Class k of K has ``floor(n_max * imbalance**(-k / (K - 1)))`` samples, the exponential profile of
        Cui et al. (arXiv:1901.05555) and Cao et al. (arXiv:1906.07413).

    Returns
    -------
    ndarray of int64, shape (K,)
        In the data set's own class order.

    Raises
    ------
    TypeError
        If `imbalance` is not a real number.
    ValueError
        If the name is unknown, if `imbalance` is given for a set that is not long-tailed, or if it is below 1 or
        so large that a class would be empty.

    Examples
    --------
    >>> counts("cifar10-lt", imbalance=10)
    array([5000, 3871, 2997, 2320, 1796, 1391, 1077,  834,  645,  500])
    """
    name = choice(name, "name", _KNOWN)
    if name in _LONG_TAILED:
        largest, K = _BALANCED[_LONG_TAILED[name]]
        imbalance = 100.0 if imbalance is None else real_number(imbalance, "imbalance", least=1, most=largest)
        return np.array([int(largest * imbalance ** (-k / (K - 1))) for k in range(K)], np.int64)
    if imbalance is not None:
        raise ValueError(f"imbalance is {imbalance}, but {name!r} has fixed counts; only the -lt data sets take it")
    if name in _MEASURED:
        return np.array(_MEASURED[name], np.int64)
    n, K = _BALANCED[name]
    return np.full(K, n, np.int64)
