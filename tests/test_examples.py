"""The examples run, and what they show is true."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import ufm_fast as uf

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_jax_solvers():
    """Each solver stops at zero, and after one escape at the certified minimum."""
    for library in ("jax", "optax", "optimistix"):
        pytest.importorskip(library)
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        found = load("jax_solvers").main()
    finally:
        jax.config.update("jax_enable_x64", before)
    assert len(found) == 2
    for at_zero, minimum in found.values():
        assert not at_zero.W.any()
        assert not at_zero.H.any()
        assert np.linalg.matrix_rank(minimum.W, tol=1e-6) == 4


def test_ordinal_regression(capsys):
    """The network is above the certified bound, and tells levels better than a constant would."""
    pytest.importorskip("sklearn")
    loss, bound = load("ordinal_regression").main(0)
    assert bound < loss < 1.51 < 8 * bound
    assert "learned thresholds" in capsys.readouterr().out


def test_torch_head():
    """The head is trained by the fused loss: rare digits are recognised, too, and its point is above the bound."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        accuracy, found = load("torch_head").main(40)
    finally:
        torch.set_num_threads(threads)
    assert accuracy > 0.9
    assert found.metrics.nc4_agreement > 0.97
    assert found.lower_bound < found.loss < 5 * found.lower_bound


def test_train_and_inspect(tmp_path):
    """On digits, with weight decay: the training data end fitted, and collapse and the UFM gap have progressed."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    example = load("train_and_inspect")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        snapshots = example.train(60, tmp_path)
    finally:
        torch.set_num_threads(threads)
    first, last = (example.inspect(snapshot) for snapshot in (snapshots[0], snapshots[-1]))
    with np.load(snapshots[-1]) as arrays:
        logits = arrays["H"] @ arrays["W"].T + arrays["b"]
        assert np.mean(logits.argmax(axis=1) == arrays["labels"]) > 0.97
        assert last.metrics.nc1 == uf.nc_metrics(**arrays).nc1
    assert last.metrics.nc1 < first.metrics.nc1 / 2
    assert last.metrics.nc2_means < first.metrics.nc2_means
    assert last.metrics.nc3_product < first.metrics.nc3_product
    assert last.metrics.nc4_agreement > max(0.97, first.metrics.nc4_agreement)
    assert last.relative_gap < first.relative_gap
    assert last.stationarity < first.stationarity
    epochs = [int(snapshot.stem[5:]) for snapshot in snapshots]
    example.draw(epochs, [example.inspect(snapshot) for snapshot in snapshots]).savefig(tmp_path / "figure.png")
