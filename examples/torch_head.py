"""Train a classifier on scikit-learn's digits with the fused loss of its head, then inspect the head.

Needs torch and scikit-learn. Classes are long-tailed, from 120 digits of the first class to 12 of the last, and the
loss is cross-entropy with logits adjusted to that. Seconds on one core:

    python examples/torch_head.py
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import ufm_fast as uf
import ufm_fast.torch

K, D, WEIGHT_DECAY = 10, 32, 2e-3
COUNTS = np.geomspace(120, 12, K).round().astype(int)


class Data(NamedTuple):
    """Digits, and their labels."""

    images: Tensor
    labels: Tensor


class Network(nn.Module):
    """A body that makes features, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in (64, 128, 128):
            layers += [nn.Linear(size, 128), nn.BatchNorm1d(128), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Linear(128, D))
        self.head = nn.Linear(D, K)

    def loss(self, data: Data, loss: uf.CrossEntropy) -> Tensor:
        """Evaluate the loss without logits: in place of ``cross_entropy(head(body(images)), labels)``."""
        H = self.body(data.images)
        return ufm_fast.torch.linear_cross_entropy(H, self.head.weight, data.labels, self.head.bias, loss=loss)

    @torch.no_grad()
    def accuracy(self, data: Data) -> float:
        """Return the mean over classes of the share of digits that are recognised."""
        right = self.head(self.body(data.images)).argmax(dim=1) == data.labels
        return float(np.mean([right[data.labels == k].double().mean() for k in range(K)]))


def digits() -> tuple[Data, Data]:
    """Return a long-tailed choice of digits to train on, and all others."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == k][: COUNTS[k]] for k in range(K)])
    parts = chosen, np.setdiff1d(order, chosen)
    return tuple(Data(torch.tensor(images[p] / 16, dtype=torch.float32), torch.tensor(labels[p])) for p in parts)


def train(network: Network, data: Data, loss: uf.CrossEntropy, epochs: int) -> None:
    """Train with weight decay on every parameter."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 3, epochs * 2 // 3], gamma=0.1)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data.labels)).split(128):
            optimizer.zero_grad()
            network.loss(Data(data.images[rows], data.labels[rows]), loss).backward()
            optimizer.step()
        schedule.step()
    network.eval()


def inspect(network: Network, data: Data, loss: uf.CrossEntropy) -> uf.Inspection:
    """Inspect the head as a point of the model with the loss of the training and its decay of W and b."""
    with torch.no_grad():
        H = network.body(data.images)
    W, b = network.head.weight, network.head.bias
    return uf.inspect(W, H, data.labels, b, loss=loss, lambda_W=WEIGHT_DECAY, lambda_b=WEIGHT_DECAY)


def main(epochs: int) -> tuple[float, uf.Inspection]:
    """Train, test and inspect."""
    torch.manual_seed(0)
    network, (data, others) = Network(), digits()
    loss = uf.losses.logit_adjusted(COUNTS)
    train(network, data, loss, epochs)
    accuracy, found = network.accuracy(others), inspect(network, data, loss)
    print(f"trained on {len(data.labels)} digits, {COUNTS.max()} to {COUNTS.min()} of a class")
    print(f"accuracy on the other {len(others.labels)}, averaged over classes: {accuracy:.3f}")
    print(found)
    return accuracy, found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=150)
    torch.set_num_threads(1)  # so small a network gains nothing from more
    main(parser.parse_args().epochs)
