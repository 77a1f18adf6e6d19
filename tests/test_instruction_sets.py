"""Every instruction set that was built and runs here passes the comparison with the oracle, in its own process."""

import pytest

from ufm_fast._runtime import core

SCRIPT = """
from comparison import CASES, SHAPE_CASES, check
from ufm_fast._runtime import blas
from ufm_fast._runtime import core

{prelude}
assert core.isa == {isa!r}
for case in CASES + SHAPE_CASES:
    try:
        check(case)
    except AssertionError as error:
        raise AssertionError(str(case)) from error
print(len(CASES + SHAPE_CASES))
"""


PRELUDES = {"with BLAS": "", "without BLAS": "blas._integer_bytes = lambda capsule, parameters: None"}


@pytest.mark.parametrize("prelude", PRELUDES.values(), ids=PRELUDES)
@pytest.mark.parametrize("isa", core.available)
def test_agrees_with_the_oracle(isa, prelude, run_python):
    assert int(run_python(SCRIPT.format(isa=isa, prelude=prelude), UFM_FAST_ISA=isa)) > 200
