"""Class counts of real data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._io.files import reading
from .._runtime.arguments import choice, real_number, shown

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
_PLACES_LT = """
219 20 115 86 229 33 25 4980 108 2612 33 39 2400 87 12 225 41 98 191 1582 37 78 48 7
1530 56 93 84 18 183 155 72 92 78 10 120 22 6 143 98 195 36 1487 93 73 1406 8 40
1380 138 11 14 1085 43 59 20 6 129 103 98 46 41 1036 82 14 23 1023 841 8 91 20 30
19 34 44 11 198 129 135 132 29 830 725 11 689 88 668 48 5 38 643 605 71 6 566 72 34
547 54 72 6 33 36 97 76 78 521 97 116 157 499 8 99 74 24 62 28 128 176 72 87 482
148 86 40 147 5 108 6 8 35 24 480 32 140 7 84 6 46 22 104 85 118 59 72 36 34 80
33 100 475 470 79 164 451 7 28 171 65 15 8 80 20 208 450 28 9 60 9 10 13 431 9 22
34 428 72 17 34 42 73 98 188 422 42 20 60 21 6 39 50 23 408 167 99 5 25 97 13 105
55 13 41 392 389 383 54 12 17 207 57 18 63 81 374 371 48 367 25 16 366 98 7 104 364
28 89 68 15 17 46 113 334 56 60 12 55 51 87 58 26 15 22 331 179 318 12 18 8 94 65
71 315 29 173 9 14 315 226 124 33 9 9 51 15 52 309 34 209 61 116 298 298 149 60 70
89 218 291 290 30 36 16 186 287 36 195 80 283 39 141 14 181 152 11 6 22 39 19 280
11 173 11 43 112 177 111 279 108 153 103 19 265 264 95 72 40 263 19 229 45 54 12 260
253 32 253 27 52 34 250 10 11 49 250 17 24 242 74 14 48 216 241 16 238 232 8 33 205
93 46 7 46 82 44 230 91 218 21 69 156 206 103 14 20
"""
_LISTED = {"places-lt": _PLACES_LT}
_LONG_TAILED = {"cifar10-lt": "cifar10", "cifar100-lt": "cifar100"}
_UNLISTED = {  # name: the list of training images that its authors publish
    "imagenet-lt": "ImageNet_LT_train.txt",
    "inaturalist2018": "iNaturalist18_train.txt",
}
_KNOWN = sorted({*_BALANCED, *_MEASURED, *_LONG_TAILED, *_LISTED})


def counts(name: str | os.PathLike[str], imbalance: float | None = None) -> NDArray[np.int64]:
    """Training samples in each class of a data set.

    Parameters
    ----------
    name : str or path
        In upper or lower case: one of "mnist", "fashion-mnist", "kmnist", "svhn", "cifar10", "cifar100",
        "tiny-imagenet", "places-lt" (Liu et al. 2019, arXiv:1904.05160), or the long-tailed "cifar10-lt",
        "cifar100-lt". Or the path of a list of training images, a ``.txt`` file with a line ``image label`` for each,
        as those of ImageNet-LT, Places-LT and iNaturalist 2018 are published; labels count from 0.
    imbalance : float, optional
        For the long-tailed sets only: size of the largest class over that of the smallest, 100 if not given.
        Class k of K has ``floor(n_max * imbalance**(-k / (K - 1)))`` samples, the exponential profile of
        Cui et al. (arXiv:1901.05555) and Cao et al. (arXiv:1906.07413), who write 0.01 for what is 100 here.

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
        so large that a class would be empty; if a line of a list has no label, or a class no line.
    OSError
        If a list cannot be read.

    Examples
    --------
    >>> counts("CIFAR10-LT", imbalance=10)
    array([5000, 3871, 2997, 2320, 1796, 1391, 1077,  834,  645,  500])
    """
    if isinstance(name, os.PathLike) or str(name).lower().endswith(".txt"):
        return _fixed(_of_list(Path(name)), name, imbalance)
    name = _known(name)
    if name in _LONG_TAILED:
        largest, K = _BALANCED[_LONG_TAILED[name]]
        return exponential_counts(K, largest, 100.0 if imbalance is None else _imbalance(imbalance, largest))
    if name in _BALANCED:
        n, K = _BALANCED[name]
        return _fixed(np.full(K, n, np.int64), name, imbalance)
    sizes = _MEASURED[name] if name in _MEASURED else _LISTED[name].split()
    return _fixed(np.array(sizes, np.int64), name, imbalance)


def exponential_counts(K: int, largest: int, imbalance: float) -> NDArray[np.int64]:
    """Let class sizes fall exponentially from the largest to its part 1/imbalance, rounded down."""
    return np.array([int(largest * imbalance ** (-k / (K - 1))) for k in range(K)], np.int64)


def inverse_hint(imbalance: float) -> str:
    """Return what to add to an error about an imbalance that looks like the inverse of one."""
    return f": for the inverse ratio, give {1 / imbalance:.10g}" if 0 < imbalance < 1 else ""


def _known(name: str) -> str:
    lower = name.lower() if isinstance(name, str) else name
    if lower in _UNLISTED:
        raise ValueError(
            f"the counts of {name!r} are not kept here: give the path of its list of training images, "
            f"{_UNLISTED[lower]}, instead of its name"
        )
    return choice(lower, "name", _KNOWN)


def _imbalance(imbalance: float, largest: int) -> float:
    number = real_number(imbalance, "imbalance", above=0)
    if number < 1:
        raise ValueError(
            f"imbalance must be at least 1, the largest class over the smallest, not {imbalance}{inverse_hint(number)}"
        )
    return real_number(imbalance, "imbalance", least=1, most=largest)


def _fixed(sizes: NDArray[np.int64], name: Any, imbalance: float | None) -> NDArray[np.int64]:
    if imbalance is not None:
        raise ValueError(
            f"imbalance is {imbalance}, but {name!r} has fixed counts; only cifar10-lt and cifar100-lt take it"
        )
    return sizes


def _of_list(path: Path) -> NDArray[np.int64]:
    with reading(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        labels = [_label(line, number) for number, line in enumerate(lines, 1) if line.strip()]
        if not labels:
            raise ValueError("it must have a line for each image, but is empty")
        if max(labels) >= len(labels):
            raise ValueError(f"labels must count from 0 without gaps, but one of {len(labels)} lines has {max(labels)}")
        sizes = np.bincount(labels)
        if not sizes.all():
            raise ValueError(f"labels must count from 0 without gaps, but none is {sizes.argmin()}")
    return sizes.astype(np.int64)


def _label(line: str, number: int) -> int:
    words = line.replace(",", " ").split()
    if len(words) < 2 or not words[-1].isdecimal():
        raise ValueError(f"line {number} must end with a label, a number from 0, but is {shown(line.strip())}")
    return int(words[-1])
