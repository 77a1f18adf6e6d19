"""Every instruction set that was built and runs here passes the comparison with the oracle, in its own process."""

import pytest

from ufm_fast import _core

SCRIPT = """
from comparison import CASES, check
from ufm_fast import _core

assert _core.isa == {isa!r}
for case in CASES:
    try:
        check(case)
    except AssertionError as error:
        raise AssertionError(str(case)) from error
print(len(CASES))
"""


@pytest.mark.parametrize("isa", _core.available)
def test_agrees_with_the_oracle(isa, run_python):
    assert int(run_python(SCRIPT.format(isa=isa), UFM_FAST_ISA=isa)) > 200
