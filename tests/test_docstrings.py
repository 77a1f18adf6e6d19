"""The examples in the docstrings of public names run and give what they say."""

import doctest
import inspect
from pathlib import Path

import pytest

import ufm_fast as uf

NAMES = {name: getattr(uf, name) for name in uf.__all__}
EXAMPLES = [
    example
    for name, value in NAMES.items()
    for home in getattr(value, "__mro__", (value,))
    if getattr(home, "__module__", "ufm_fast").startswith("ufm_fast")
    for example in doctest.DocTestFinder().find(home, name, module=False, globs={"uf": uf, **NAMES})
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    assert doctest.DocTestRunner().run(example).failed == 0


def test_every_public_name_is_in_the_reference():
    page = Path(__file__).parents[1] / "docs" / "reference.md"
    assert set(NAMES) <= set(page.read_text(encoding="utf-8").split())


def test_every_public_name_has_an_example():
    with_examples = {example.name.partition(".")[0] for example in EXAMPLES}
    assert {name for name, value in NAMES.items() if not inspect.ismodule(value)} <= with_examples
