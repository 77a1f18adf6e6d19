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
    "places-lt": (62500, 365),
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


def test_places_lt_is_as_its_authors_describe_it():
    n = counts("Places-LT")
    assert (n.max(), n.min()) == (4980, 5)
    assert ((n > 100).sum(), (n < 20).sum()) == (131, 71)  # many-shot and few-shot classes


@pytest.mark.parametrize("name", ["CIFAR10", "Cifar10", "cifar10-LT", "FASHION-mnist"])
def test_names_may_be_in_capitals(name):
    assert (counts(name) == counts(name.lower())).all()


@pytest.mark.parametrize("imbalance", [0.01, np.float32(0.01), 0.5])
def test_an_inverse_ratio_is_pointed_out(imbalance):
    with pytest.raises(ValueError, match=f"for the inverse ratio, give {1 / float(imbalance):.10g}"):
        counts("cifar100-lt", imbalance=imbalance)


@pytest.mark.parametrize("name", ["imagenet-lt", "iNaturalist2018"])
def test_counts_that_are_not_kept_name_the_list_that_has_them(name):
    with pytest.raises(ValueError, match=r"path of its list of training images, .*_train\.txt"):
        counts(name)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.randoms())
def test_counts_of_a_list_of_images(tmp_path_factory, sizes, random):
    path = tmp_path_factory.mktemp("list") / "X_LT_train.txt"
    lines = [f"train/a b/{i}.jpg {k}" for k, n in enumerate(sizes) for i in range(n)]
    random.shuffle(lines)
    path.write_text("\n".join([*lines, ""]))
    for form in (path, str(path)):
        assert counts(form).tolist() == sizes
    with pytest.raises(ValueError, match="has fixed counts"):
        counts(path, imbalance=10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a.jpg 0\nb.jpg 2\nc.jpg 2\n", "without gaps, but none is 1"),
        ("a.jpg 0\nb.jpg 2\n", "without gaps, but one of 2 lines has 2"),
        ("a.jpg 0\nb.jpg\n", "line 2 must end with a label"),
        ("a.jpg 0\nb.jpg -1\n", "line 2 must end with a label"),
        ("a.jpg cat\n", "line 1 must end with a label"),
    ],
)
def test_lists_that_are_none(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"list.txt.*{message}"):
        counts(path)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"nothing\.txt"):
        counts(tmp_path / "nothing.txt")


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
