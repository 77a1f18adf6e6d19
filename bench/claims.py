"""What is measured, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from peers import ONE_BY_ONE, OURS, TORCH
from work import Work

DTYPES = "float64", "float32"
SQUARES = [Work("loss+grad", K, K, dtype=dtype) for dtype in DTYPES for K in (1000, 2000)]
THIN = Work("loss+grad", 20000, 64, dtype="float32")
SAMPLES = Work("loss+grad", 1000, 256, 20, dtype="float32")
PRODUCTS = [Work("HVP", *size, dtype=dtype) for dtype in DTYPES for size in ((1000, 1000, 1), (2000, 256, 2))]
REPEATED = [replace(work, quantity="HVP, repeated") for work in PRODUCTS]
BLOCKS = [Work("block HVP", 500, 500, dtype=dtype) for dtype in DTYPES]
SMALL, SMALL_PACKED = Work("loss+grad", 10, 10), Work("loss+grad, packed", 10, 10)
SCALED = [SQUARES[1], SQUARES[3], THIN, PRODUCTS[0], PRODUCTS[2]]
SWEEP = [Work("loss+grad", K, 64, dtype="float32") for K in (1250, 2500, 5000, 10000, 20000)]
MEMORY = [THIN, PRODUCTS[1]]

WORKS = [*SQUARES, THIN, SAMPLES, *PRODUCTS, *REPEATED, *BLOCKS, SMALL, SMALL_PACKED]


def shrunk(work: Work) -> Work:
    """A fifth of every large dimension, for a quick look."""
    return replace(work, K=max(10, work.K // 5), d=work.d // 5 if work.d >= 500 else work.d)


@dataclass(frozen=True)
class Claim:
    """A number that one work must reach."""

    work: Work
    against: str
    target: float
    measure: Callable[[dict], float]  # from what `timing.measure` returns
    unit: str = "x"
    at_most: bool = False
    one_thread_only: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.target if self.at_most else value >= self.target


def best_peer(result: dict, *, but: tuple[str, ...] = ()) -> str:
    times = {name: seconds for name, seconds in result["times"].items() if name not in (OURS, *but)}
    return min(times, key=times.__getitem__)


def _ratio_to(name: str) -> Callable[[dict], float]:
    return lambda result: result["times"][name] / result["times"][OURS]


def _ratio_to_best(*but: str) -> Callable[[dict], float]:
    return lambda result: result["times"][best_peer(result, but=but)] / result["times"][OURS]


def _share(result: dict) -> float:
    return 100 * result["flops"] / result["times"][OURS] / result["peak"]


def _microseconds(result: dict) -> float:
    return 1e6 * result["times"][OURS]


def claims() -> Iterator[Claim]:
    for work in SQUARES:
        yield Claim(work, "best peer", 1.15 if work.dtype == "float64" else 1.3, _ratio_to_best())
    yield Claim(THIN, TORCH, 4, _ratio_to(TORCH))
    yield Claim(THIN, "best other peer", 1.3, _ratio_to_best(TORCH))
    yield Claim(SAMPLES, "best peer", 1.2, _ratio_to_best())
    for work in PRODUCTS:
        yield Claim(work, "best peer", 1.8, _ratio_to_best())
    for work in BLOCKS:
        yield Claim(work, "8 single products of ours", 1.2, _ratio_to(ONE_BY_ONE))
    yield Claim(SMALL, f"{TORCH} eager", 8, _ratio_to(TORCH))
    yield Claim(SQUARES[1], "processor's peak", 85, _share, "%", one_thread_only=True)
    yield Claim(SQUARES[3], "processor's peak", 88, _share, "%", one_thread_only=True)
    yield Claim(THIN, "processor's peak", 65, _share, "%", one_thread_only=True)
    yield Claim(SMALL, "time of a call", 15, _microseconds, " µs", at_most=True, one_thread_only=True)
    yield Claim(SMALL_PACKED, "time of a call", 20, _microseconds, " µs", at_most=True, one_thread_only=True)
