"""Train a small network on scikit-learn's digits into the terminal phase, and watch neural collapse.

Needs torch, scikit-learn and matplotlib. Saves the last layer's features, classifier and bias now and then (any of the
files can be given to ``ufm-fast inspect``), inspects each, prints a table and draws it:

    python examples/train_and_inspect.py --folder snapshots --plot collapse.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import ufm_fast as uf

K, D, WEIGHT_DECAY = 10, 32, 2e-3


def train(epochs: int, folder: Path) -> list[Path]:
    """Train with weight decay on every parameter; save a snapshot at about 20 epochs, spaced evenly on a log scale."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    layers: list[nn.Module] = []
    for size in (64, 128, 128, 128):
        layers += [nn.Linear(size, 128), nn.BatchNorm1d(128), nn.ReLU()]
    body = nn.Sequential(*layers, nn.Linear(128, D))
    head = nn.Linear(D, K)
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 3, epochs * 2 // 3], gamma=0.1)
    wanted = set(np.unique(np.geomspace(1, epochs, 20).astype(int)))
    snapshots = []
    for epoch in range(1, epochs + 1):
        body.train()
        for rows in torch.randperm(len(images)).split(128):
            loss = nn.functional.cross_entropy(head(body(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        if epoch in wanted:
            body.eval()
            with torch.no_grad():
                arrays = {"W": head.weight, "H": body(images), "b": head.bias, "labels": labels}
            snapshots.append(folder / f"epoch{epoch:04d}.npz")
            np.savez(snapshots[-1], **{name: value.detach().numpy() for name, value in arrays.items()})
    return snapshots


def inspect(snapshot: Path) -> uf.Inspection:
    """Inspect a snapshot: W and b carry the decay of the training, that of the features is what balance implies."""
    with np.load(snapshot) as arrays:
        return uf.inspect(**arrays, lambda_W=WEIGHT_DECAY, lambda_b=WEIGHT_DECAY)


def draw(epochs: list[int], found: list[uf.Inspection]) -> Figure:
    """Draw NC1 to NC4 and the certified gap over epochs."""
    figure = Figure(figsize=(12, 3.2), dpi=150, layout="constrained")
    collapse, agreement, gap = figure.subplots(1, 3)
    for name, label in (
        ("nc1", "NC1  tr(S_W S_B⁺) / K"),
        ("nc2_means", "NC2  class means"),
        ("nc2_W", "NC2  W"),
        ("nc3_product", "NC3  W Mᵀ"),
    ):
        collapse.loglog(epochs, [getattr(one.metrics, name) for one in found], ".-", label=label)
    collapse.set(title="neural collapse", xlabel="epoch")
    agreement.semilogx(epochs, [one.metrics.nc4_agreement for one in found], ".-", color="C4")
    agreement.set(title="NC4: agreement with nearest class mean", xlabel="epoch")
    gap.loglog(epochs, [one.relative_gap for one in found], ".-", label="(loss - global minimum) / loss, at most")
    gap.loglog(epochs, [one.stationarity for one in found], ".-", label="stationarity")
    gap.set(title="as a point of the UFM", xlabel="epoch")
    collapse.legend(fontsize="small")
    gap.legend(fontsize="small")
    return figure


def main() -> None:
    """Train, inspect, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("snapshots"), help="where the snapshots go")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: png, pdf or svg")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so small a network gains nothing from more
    options.folder.mkdir(parents=True, exist_ok=True)
    snapshots = train(options.epochs, options.folder)
    found = [inspect(snapshot) for snapshot in snapshots]
    epochs = [int(snapshot.stem[5:]) for snapshot in snapshots]
    print("epoch      NC1  NC2 means    NC2 W      NC3      NC4  UFM gap  |G|/tau")
    for epoch, one in zip(epochs, found, strict=True):
        m = one.metrics
        print(
            f"{epoch:5d} {m.nc1:8.1e} {m.nc2_means:10.4f} {m.nc2_W:8.4f} {m.nc3_product:8.4f} {m.nc4_agreement:8.4f} "
            f"{one.relative_gap:8.1e} {one.spectral_norm / one.threshold:8.3f}"
        )
    if options.plot:
        draw(epochs, found).savefig(options.plot)


if __name__ == "__main__":
    main()
