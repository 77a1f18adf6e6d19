"""The results as Markdown."""

from __future__ import annotations

from pathlib import Path

from claims import WORKS, Claim, best_peer, claims
from peers import OURS, SWEPT

README = Path(__file__).with_name("README.md")


def record(script: str, parts: list[str]) -> None:
    """Put what a script reports between its marks in README.md."""
    begin, end = f"<!-- {script} writes from here -->", f"<!-- {script} to here -->"
    before, _, rest = README.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{README.name} has no marks of {script}")
    README.write_text(before + "\n\n".join([begin, *parts, end]) + after)


def table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _verdict(claim: Claim, result: dict) -> str:
    if claim.peer and claim.peer(result) not in result["times"]:
        return f"no time of {claim.peer(result)}"
    value = claim.value(result)
    text = f"{value:.{2 if claim.unit == 'x' else 1}f}{claim.unit} {'yes' if claim.holds(value) else '**NO**'}"
    if claim.peer is None:
        return text
    limits = "" if claim.holds(value) else "; bounds {:.2f}x, {:.2f}x".format(*claim.limits(result))
    return f"{text} ({claim.peer(result)}{limits})"


def must_show(results: dict[int, dict]) -> str:
    """The claims, with what was measured at each number of threads."""
    rows = []
    for claim in claims():
        if claim.work.title not in next(iter(results.values()))["works"]:
            continue
        bound = f"{'<=' if claim.at_most else '>='} {claim.target:g}{claim.unit}"
        cells = [
            "" if claim.one_thread_only and threads > 1 else _verdict(claim, result["works"][claim.work.title])
            for threads, result in results.items()
        ]
        rows.append([claim.work.title, claim.against, bound, *cells])
    return table(["work", "against", "target", *map(_threads, results)], rows)


def repeated(results: dict[int, dict]) -> str:
    """HVPs repeated at one point against peers that keep their graph: reported, without a target."""
    rows = []
    for work in WORKS:
        if work.quantity == "HVP, repeated":
            cells = []
            for result in results.values():
                times = result["works"][work.title]["times"]
                peer = best_peer(result["works"][work.title])
                cells.append(f"{times[peer] / times[OURS]:.2f}x {peer}" if peer in times else f"no time of {peer}")
            rows.append([work.title, *cells])
    return table(["work", *(f"best peer, {_threads(threads)}" for threads in results)], rows)


def scaling(values: dict[str, float], threads: int) -> str:
    target = 0.9 * threads
    rows = [[title, f"{ratio:.2f}x {'yes' if ratio >= target else '**NO**'}"] for title, ratio in values.items()]
    return table(["work", f"{threads} threads against 1 (target >= {target:g}x)"], rows)


def details(results: dict[int, dict]) -> str:
    """Every implementation of every work."""
    rows = []
    measured_titles = next(iter(results.values()))["works"]
    for work in (work for work in WORKS if work.title in measured_titles):
        names = [name for result in results.values() for name in result["works"][work.title]["times"]]
        for name in dict.fromkeys(names):
            row = [work.title if name == OURS else "", name]
            for result in results.values():
                measured = result["works"][work.title]
                if name not in measured["times"]:
                    row += ["", "", ""]
                    continue
                seconds = measured["times"][name]
                share = measured["flops"] / seconds / measured["peak"]
                row += [_seconds(seconds), f"{seconds / measured['times'][OURS]:.2f}", f"{100 * share:.1f} %"]
            rows.append(row)
    columns = [f"{quantity}, {_threads(threads)}" for threads in results for quantity in ("time", "ratio", "of peak")]
    return table(["work", "implementation", *columns], rows)


def over_K(times: dict[int, dict[str, float]]) -> dict[str, dict[int, float]]:
    """Turn times by K and name into times by name and K."""
    names = [name for name in SWEPT if all(name in at_K for at_K in times.values())]
    return {name: {K: at_K[name] for K, at_K in times.items()} for name in names}


def memory(values: dict[str, dict[str, tuple[float, float]]]) -> str:
    rows = []
    for title, peaks in values.items():
        for name, (highest, added) in peaks.items():
            first = title if name == next(iter(peaks)) else ""
            rows.append([first, name, f"{highest:.0f} MiB", f"{added:.0f} MiB", f"{added / peaks[OURS][1]:.1f}"])
    return table(["work", "implementation", "peak of the process", "added by the call", "ratio"], rows)


def failures(results: dict[int, dict]) -> list[str]:
    """Peers that did not run, and why."""
    return [
        f"{_threads(threads)}, {title}: {name} left out ({reason})"
        for threads, result in results.items()
        for title, measured in result["works"].items()
        for name, reason in measured["failures"].items()
    ]


def _threads(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"
