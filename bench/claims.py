"""What is measured, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

from peers import ONE_BY_ONE, OURS, PRODUCTS_ALONE, TORCH, TORCH_COMPILED
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
SWEEP = [Work("loss+grad", K, 64, dtype="float32") for K in (2500, 5000, 10000, 20000)]
MEMORY = [THIN, PRODUCTS[1]]

WORKS = [*SQUARES, THIN, SAMPLES, *PRODUCTS, *REPEATED, *BLOCKS, SMALL, SMALL_PACKED]


@cache
def shrunk(work: Work) -> Work:
    """A fifth of every large dimension, for a quick look."""
    return replace(work, K=max(10, work.K // 5), d=work.d // 5 if work.d >= 500 else work.d)


@dataclass(frozen=True)
class Claim:
    """A number that ours must reach at one work: a ratio to a peer, or where none is named another quantity."""

    work: Work
    against: str
    target: float
    peer: Callable[[dict], str] | None = None  # chooses among the results of `timing.measure`
    quantity: Callable[[dict], float] | None = None
    unit: str = "x"
    at_most: bool = False
    one_thread_only: bool = False

    def value(self, result: dict) -> float:
        if self.peer is None:
            return self.quantity(result)
        return result["times"][self.peer(result)] / result["times"][OURS]

    def limits(self, result: dict) -> tuple[float, float]:
        """Ratio to the peer of a program that does the work's products and nothing else: by BLAS, and at the peak."""
        times = result["times"]
        peer, at_peak = times[self.peer(result)], result["flops"] / result["peak"]
        return peer / times.get(PRODUCTS_ALONE, at_peak), peer / at_peak

    def holds(self, value: float) -> bool:
        return value <= self.target if self.at_most else value >= self.target


def best_peer(result: dict, *, but: tuple[str, ...] = ()) -> str:
    times = {name: seconds for name, seconds in result["times"].items() if name not in (OURS, PRODUCTS_ALONE, *but)}
    return min(times, key=times.__getitem__, default="any peer")


def _share(result: dict) -> float:
    return 100 * result["flops"] / result["times"][OURS] / result["peak"]


def _microseconds(result: dict) -> float:
    return 1e6 * result["times"][OURS]


def claims() -> Iterator[Claim]:
    differentiated = "best of automatic differentiation", partial(best_peer, but=("NumPy",))
    best = "best of all, NumPy formulas too", best_peer
    eager = partial(best_peer, but=("NumPy", TORCH_COMPILED))
    for work in SQUARES:
        yield Claim(work, "best of PyTorch plain and chunked, JAX", 1.15 if work.dtype == "float64" else 1.3, eager)
        yield Claim(work, TORCH_COMPILED, 1, lambda _: TORCH_COMPILED)
    yield Claim(THIN, TORCH, 4, lambda _: TORCH)
    yield Claim(THIN, "best other", 1.3, partial(best_peer, but=(TORCH,)))
    yield Claim(SAMPLES, best[0], 1.2, best[1])
    for work in PRODUCTS:
        yield Claim(work, differentiated[0], 1.8, differentiated[1])
        yield Claim(work, best[0], 1.8, best[1])
    for work in BLOCKS:
        yield Claim(work, "8 single products of ours", 1.2, lambda _: ONE_BY_ONE)
    yield Claim(SMALL, "PyTorch eager", 8, lambda _: TORCH)
    for work, target in ((SQUARES[1], 85), (SQUARES[3], 88), (THIN, 65)):
        yield Claim(work, "processor's peak", target, quantity=_share, unit="%", one_thread_only=True)
    for work, target in ((SMALL, 15), (SMALL_PACKED, 20)):
        yield Claim(
            work, "time of a call", target, quantity=_microseconds, unit=" µs", at_most=True, one_thread_only=True
        )
