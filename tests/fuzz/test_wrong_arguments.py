"""Any value for any argument of any public function: an answer, or one line that says what is wrong."""

import contextlib
import io
import traceback
import warnings
from pathlib import Path

import pytest
from calls import CALLS, WRONG
from drawn import fuzz
from hypothesis import given
from hypothesis import strategies as st

WORK = ("max_evaluations", "steps", "probes", "max_products")  # a large number is no mistake, but a long run


def outcome(name, arguments):
    """Call; an error must come from this package, in one line."""
    function, _ = CALLS[name]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            function(**arguments)
    except (TypeError, ValueError, FloatingPointError, MemoryError, ImportError) as error:
        message, place = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
        assert message
        assert "\n" not in message
        assert "ufm_fast" in place or place.endswith(("calls.py", "test_wrong_arguments.py")), (message, place)
    except OSError:
        assert any(isinstance(value, Path) or value == "" for value in arguments.values())


def is_long(key, value):
    return key in WORK and isinstance(value, int) and value > 1000


@pytest.mark.parametrize("name", CALLS)
def test_the_right_arguments_are_right(name):
    function, arguments = CALLS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(**arguments)


@pytest.mark.parametrize("name", CALLS)
def test_one_wrong_argument(name):
    _, arguments = CALLS[name]
    for key in arguments:
        for value in WRONG:
            if not is_long(key, value):
                outcome(name, {**arguments, key: value})


@fuzz(300)
@given(st.data())
def test_several_wrong_arguments(data):
    name = data.draw(st.sampled_from(list(CALLS)))
    arguments = dict(CALLS[name][1])
    for key in data.draw(st.sets(st.sampled_from(list(arguments)), min_size=1, max_size=4)):
        value = data.draw(st.sampled_from(range(len(WRONG))))
        if not is_long(key, WRONG[value]):
            arguments[key] = WRONG[value]
    outcome(name, arguments)
