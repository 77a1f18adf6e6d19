"""Class counts against published totals and against exact integer arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufm_fast._model.datasets import counts

TOTALS = {  # training images and classes, as the data sets' authors state them
    "mnist": (60000, 10),
    "fashion-mnist": (60000, 10),
    "kmnist": (60000, 10),
    "svhn": (73257, 10),
    "cifar10": (50000, 10),
    "cifar100": (50000, 100),
    "tiny-imagenet": (100000, 200),
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals(name):
    n = counts(name)
    assert n.dtype == np.int64
    assert (n.sum(), len(n)) == TOTALS[name]


def test_mnist_has_few_fives():
    assert counts("mnist").argmin() == 5
    assert counts("mnist").argmax() == 1
    assert counts("svhn").argmax() == 1


@pytest.mark.parametrize(
    ("name", "imbalance", "total", "smallest"),
    [
        ("cifar100-lt", 100, 10847, 5),  # totals as the long-tail literature reports them
        ("cifar10-lt", 100, 12406, 50),
        ("cifar100-lt", 50, 12608, 10),
        ("cifar10-lt", 10, 20431, 500),
    ],
)
def test_long_tail_totals(name, imbalance, total, smallest):
    n = counts(name, imbalance=imbalance)
    assert n.sum() == total
    assert n[-1] == smallest


def test_imbalance_is_100_unless_given():
    assert (counts("cifar100-lt") == counts("cifar100-lt", imbalance=100)).all()


@given(st.sampled_from([("cifar10-lt", 5000, 10), ("cifar100-lt", 500, 100)]), st.integers(1, 500))
def test_long_tail_is_the_exact_floor(dataset, imbalance):
    name, largest, K = dataset
    for k, n in enumerate(counts(name, imbalance=imbalance).tolist()):
        # n = floor(x) with x = largest * imbalance**(-k/(K-1)), compared as integers
        assert n ** (K - 1) * imbalance**k <= largest ** (K - 1) < (n + 1) ** (K - 1) * imbalance**k


def test_answers_may_be_written_to():
    n = counts("mnist")
    n[0] = 0
    assert counts("mnist")[0] == 5923


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"cifar10-lt.*mnist.*not 'cifar11'"):
        counts("cifar11")


@pytest.mark.parametrize("imbalance", [0.5, 0, -3, float("nan"), float("inf"), 501])
def test_impossible_imbalance(imbalance):
    with pytest.raises(ValueError, match="imbalance"):
        counts("cifar100-lt", imbalance=imbalance)


def test_imbalance_needs_a_long_tail():
    with pytest.raises(ValueError, match=r"imbalance.*'mnist'"):
        counts("mnist", imbalance=10)
