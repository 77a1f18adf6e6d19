"""The examples in the docstrings of public names and of their methods run and give what they say."""

import doctest
import inspect
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import pytest

import ufm_fast as uf

NAMES = {name: getattr(uf, name) for name in uf.__all__}
if find_spec("matplotlib"):
    from ufm_fast import plotting

    NAMES |= {f"plotting.{name}": getattr(plotting, name) for name in plotting.__all__}
LOSSES = {"CrossEntropy", "MSE", "BinaryCrossEntropy", "Focal", "Ordinal"}  # their methods are called by the library


def homes(value):
    """A function, or a class and those of the library that it inherits from."""
    all_homes = getattr(value, "__mro__", (value,))
    return [home for home in all_homes if getattr(home, "__module__", "ufm_fast").startswith("ufm_fast")]


def methods(value):
    """Names of the public methods and properties of a class."""
    kinds = (property, cached_property, classmethod, staticmethod)
    return {
        name
        for home in homes(value)
        for name, member in vars(home).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, kinds))
    }


EXAMPLES = [
    example
    for name, value in NAMES.items()
    for home in homes(value)
    for example in doctest.DocTestFinder().find(
        home, name, module=home if inspect.ismodule(home) else False, globs={"uf": uf, **NAMES}
    )
    if example.examples
]
WITH_EXAMPLES = {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    assert doctest.DocTestRunner().run(example).failed == 0


def test_every_public_name_is_in_the_reference():
    page = Path(__file__).parents[1] / "docs" / "reference.md"
    assert set(NAMES) <= set(page.read_text(encoding="utf-8").split())


def test_every_public_name_has_an_example():
    assert {name for name, value in NAMES.items() if not inspect.ismodule(value)} <= WITH_EXAMPLES


def test_every_public_method_has_an_example():
    classes = {name: value for name, value in NAMES.items() if inspect.isclass(value) and name not in LOSSES}
    assert {f"{name}.{method}" for name, value in classes.items() for method in methods(value)} <= WITH_EXAMPLES
