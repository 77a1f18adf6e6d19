"""Neural-collapse statistics against NumPy's ``H.T @ H``, a public library, and limits on memory.

    python bench/nc_metrics.py time            K = 1000, d = 512, N = 200 000, float32, batches of 4096
    python bench/nc_metrics.py memory          peak memory of the same stream at N and 4 N
    python bench/nc_metrics.py peer            side by side with neural_collapse (github.com/rhubarbwu/neural-collapse)
    python bench/nc_metrics.py file            ufm-fast inspect on a file of 2 GB
    python bench/nc_metrics.py file16          100 000 x 2048 in float16, mapped, K = 1000, against NumPy

Each prints one JSON object with the machine. The answer is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import ufm_fast as uf

K, D, N, BATCH = 1000, 512, 200_000, 4096


def features(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, K, rows)
    return rng.standard_normal((rows, D), dtype=np.float32), labels


def accumulate(H: np.ndarray, labels: np.ndarray, threads: int) -> uf.NCAccumulator:
    accumulator = uf.NCAccumulator(K, D, threads=threads)
    for first in range(0, len(H), BATCH):
        accumulator.update(H[first : first + BATCH], labels[first : first + BATCH])
    return accumulator


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_time(threads: int, repeats: int) -> dict:
    H, labels = features(np.random.default_rng(0), N)
    W = np.zeros((K, D)) + np.eye(K, D)
    found = accumulate(H, labels, threads).result(W)
    exact = H.astype(np.float64)
    means = np.zeros((K, D))
    np.add.at(means, labels, exact)
    means /= np.bincount(labels, minlength=K)[:, None]
    exact -= means[labels]
    within = np.linalg.eigvalsh(exact.T @ exact / N)[::-1]
    error = float(np.abs(found.spectrum_within / within - 1).max())
    del exact
    assert error < 1e-6, error
    pairs = []
    for _ in range(repeats):
        with threadpool_limits(threads):
            product = seconds(lambda: H.T @ H)
        pairs.append((product, seconds(lambda: accumulate(H, labels, threads))))
    return {
        "threads": threads,
        "gram_seconds": statistics.median(p for p, _ in pairs),
        "accumulate_seconds": statistics.median(a for _, a in pairs),
        "ratio": statistics.median(a / p for p, a in pairs),
        "ratios": [round(a / p, 3) for p, a in pairs],
        "relative_error_of_within_spectrum": error,
    }


def peak_mib() -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def stream(rows: int) -> dict:
    """Accumulate batches made as they are needed; peak memory beyond what one batch made before."""
    rng = np.random.default_rng(0)
    H, labels = features(rng, BATCH)
    uf.NCAccumulator(4, 4).update(H[:8, :4], np.arange(8) % 4)  # BLAS is loaded
    before = peak_mib()
    accumulator = uf.NCAccumulator(K, D)
    for _ in range(0, rows, BATCH):
        accumulator.update(H, labels)
    return {"N": rows, "peak_extra_mib": peak_mib() - before}


def measure_memory() -> dict:
    def run(rows: int) -> dict:
        done = subprocess.run(
            [sys.executable, __file__, "stream", "--rows", str(rows)], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return {"streams": [run(N), run(4 * N)], "d*d + 2*K*d float64, MiB": (D * D + 2 * K * D) * 8 / 2**20}


def compare_with_peer() -> dict:
    import torch
    from neural_collapse.accumulate import CovarAccumulator, MeanAccumulator, VarNormAccumulator
    from neural_collapse.measure import covariance_ratio, self_duality_error, variability_cdnv

    rng = np.random.default_rng(0)
    classes, d = 20, 48
    labels = rng.permutation(np.repeat(np.arange(classes), 50))
    H = rng.standard_normal((classes, d))[labels] + 0.3 * rng.standard_normal((len(labels), d))
    W = rng.standard_normal((classes, d))
    found = uf.nc_metrics(W, H, labels)
    x, y = torch.tensor(H), torch.tensor(labels)
    options = {"device": "cpu", "dtype": torch.float64}
    mean = MeanAccumulator(classes, d, **options)
    mean.accumulate(x, y)
    means, centre = mean.compute()
    covariance = CovarAccumulator(classes, d, M=means, **options)
    variance = VarNormAccumulator(classes, d, M=means, **options)
    covariance.accumulate(x, y, means)
    variance.accumulate(x, y, means)
    within = covariance.compute()
    theirs = {
        "nc1_trace_ratio": float(covariance_ratio(within, means, centre, "quotient")),
        "nc1": float(covariance_ratio(within, means, centre, "pinv")),
        "cdnv": float(variability_cdnv(variance.compute()[0], means)),
        "nc3_product": float(self_duality_error(torch.tensor(W), means, centre)),
    }
    return {name: {"ufm_fast": getattr(found, name), "neural_collapse": value} for name, value in theirs.items()}


def measure_file() -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        rows = 2**31 // (4 * D)
        centres = rng.standard_normal((100, D), dtype=np.float32)
        labels = rng.integers(0, 100, rows)
        np.save(folder / "W.npy", centres)
        np.save(folder / "labels.npy", labels)
        H = np.lib.format.open_memmap(folder / "H.npy", mode="w+", dtype=np.float32, shape=(rows, D))
        block = 0.1 * rng.standard_normal((2**14, D), dtype=np.float32)
        for first in range(0, rows, len(block)):
            H[first : first + len(block)] = centres[labels[first : first + len(block)]] + block
        H.flush()
        del H
        script = (
            "import sys; from ufm_fast.cli import main; code = main(['inspect', *sys.argv[1:], '--json'])\n"
            "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')), file=sys.stderr)\n"
            "sys.exit(code)"
        )
        files = [str(folder / f"{array}.npy") for array in ("W", "H", "labels")]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", script, *files, "--lambda-W", "1e-4"], capture_output=True, text=True, check=True
        )
        return {
            "bytes": os.path.getsize(folder / "H.npy"),
            "peak_mib": int(done.stderr.split()[-1]) / 1024,
            "seconds": time.perf_counter() - start,
            "nc1": json.loads(done.stdout)["metrics"]["nc1"],
        }


def write_file16(folder: Path, rows: int) -> None:
    """Features around class means, and a classifier that is close to them."""
    rng = np.random.default_rng(0)
    d = 2048
    centres = rng.standard_normal((K, d), dtype=np.float32)
    np.save(folder / "W.npy", centres - centres.mean(axis=0) + 0.1 * rng.standard_normal((K, d), dtype=np.float32))
    labels = rng.integers(0, K, rows)
    np.save(folder / "labels.npy", labels)
    H = np.lib.format.open_memmap(folder / "H.npy", mode="w+", dtype=np.float16, shape=(rows, d))
    for first in range(0, rows, BATCH):
        few = labels[first : first + BATCH]
        H[first : first + BATCH] = centres[few] + 0.5 * rng.standard_normal((len(few), d), dtype=np.float32)
    H.flush()


def read_twice_and_multiply(H: np.ndarray) -> np.ndarray:
    product = np.zeros((H.shape[1], H.shape[1]), dtype=np.float32)
    for reading in range(2):
        for first in range(0, len(H), BATCH):
            rows = H[first : first + BATCH].astype(np.float32)
            if reading == 0:
                product += rows.T @ rows
    return product


def anonymous_mib() -> float:
    """Memory of this process, without the pages of mapped files."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def measure_file16(folder: Path, threads: int, repeats: int) -> dict:
    """One run of each after the other, in this process, which must have done nothing large before."""
    W, labels, H = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("W", "labels", "H"))
    uf.nc_metrics(np.eye(2), np.eye(2), np.arange(2), threads=threads)  # BLAS is loaded
    before, samples, done = anonymous_mib(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            samples.append(anonymous_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = uf.nc_metrics(W, H, labels, threads=threads)
    done.set()
    watcher.join()
    pairs = []
    for _ in range(repeats):
        with threadpool_limits(threads):
            least = clocks(lambda: read_twice_and_multiply(H))
        pairs.append((least, clocks(lambda: uf.nc_metrics(W, H, labels, threads=threads))))
    return {
        "threads": threads,
        "N": len(H),
        "nc1": found.nc1,
        "nc4_agreement": found.nc4_agreement,
        "peak_extra_mib_without_mapped_pages": max(samples) - before,
        **{
            f"{name}_{what}": statistics.median(pair[which][clock] for pair in pairs)
            for clock, name in enumerate(("wall", "processor"))
            for which, what in enumerate(("read_twice_and_multiply", "nc_metrics"))
        },
        **{
            f"ratios_{name}": sorted(round(pair[1][clock] / pair[0][clock], 3) for pair in pairs)
            for clock, name in enumerate(("wall", "processor"))
        },
    }


def clocks(work) -> tuple[float, float]:
    """Seconds on the wall, and of processors."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def compare_file16(threads: int, repeats: int, rows: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        write_file16(Path(folder), rows)
        options = ["--folder", folder, "--threads", str(threads), "--repeats", str(repeats)]
        done = subprocess.run(
            [sys.executable, __file__, "mapped", *options], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["time", "memory", "peer", "file", "file16", "stream", "mapped"])
    parser.add_argument("--threads", type=int, default=uf.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--rows", type=int, help=f"{N}, or 100 000 for file16")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.what == "stream":
        print(json.dumps(stream(options.rows or N)))
        return
    if options.what == "mapped":
        print(json.dumps(measure_file16(options.folder, options.threads, options.repeats)))
        return
    result = {
        "time": lambda: measure_time(options.threads, options.repeats),
        "memory": measure_memory,
        "peer": compare_with_peer,
        "file": measure_file,
        "file16": lambda: compare_file16(options.threads, options.repeats, options.rows or 100_000),
    }[options.what]()
    print(json.dumps({**result, "config": uf.show_config("dicts"), "load": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
