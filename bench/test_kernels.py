"""Every implementation under pytest-benchmark, at sizes that take a minute together."""

from __future__ import annotations

import pytest

from peers import IMPLEMENTATIONS, PRODUCTS_ALONE
from work import Work

pytestmark = pytest.mark.filterwarnings("ignore")  # of peers

WORKS = [
    *(Work(quantity, 10, 10) for quantity in ("loss+grad", "loss+grad, packed")),
    *(Work(quantity, 400, 400, dtype=dtype) for quantity in IMPLEMENTATIONS for dtype in ("float64", "float32")),
    *(Work(quantity, 200, 64, 10, "float32") for quantity in ("loss+grad", "HVP")),
]
CASES = [
    pytest.param(work, name, id=f"{work.title}: {name}", marks=pytest.mark.benchmark(group=work.title))
    for work in WORKS
    for name in IMPLEMENTATIONS[work.quantity]
    if name != PRODUCTS_ALONE
]


@pytest.mark.parametrize(("work", "name"), CASES)
def test_kernel(benchmark, work: Work, name: str) -> None:
    module = {"Py": "torch", "cu": "curvlinops", "JA": "jax"}.get(name[:2])
    if module:
        pytest.importorskip(module)
    call = IMPLEMENTATIONS[work.quantity][name](work, 1)
    work.check(name, call())
    benchmark(call)
