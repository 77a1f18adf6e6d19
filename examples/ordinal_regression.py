"""Ordinal regression on scikit-learn's diabetes data in five levels: optimum, certificate, and a network against both.

Needs scikit-learn. The progression of the disease is cut into five levels of uneven sizes. First come the minima of the
unconstrained feature model of these levels, with given and with learned thresholds: what a network that can place its
features freely would reach with the same decays, certified. Then a small network is trained on ten measurements, its
last layer with the library's loss and gradient, and compared: no network can be below the certified bound. Both are
measured for ordinal neural collapse (Ma, Obuchi & Tanaka, arXiv 2506.05801).

    python examples/ordinal_regression.py
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from sklearn.datasets import load_diabetes

import ufm_fast as uf

LEVELS, D = 5, 8
LAMBDA_W, LAMBDA_H, DECAY = 1e-2, 1e-4, 1e-5


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return the standardised measurements (M, 10) and the level of each patient."""
    bunch = load_diabetes()
    cuts = np.quantile(bunch.target, [0.1, 0.3, 0.6, 0.85])
    return bunch.data / bunch.data.std(axis=0), np.searchsorted(cuts, bunch.target)


class Network:
    """Features ``h = tanh(X V + c)``, one logit, learned thresholds: parameters in one vector, thresholds by steps."""

    def __init__(self, X: np.ndarray, labels: np.ndarray, loss: uf.Ordinal) -> None:
        self.X = np.column_stack([X, np.ones(len(X))])
        self.ufm = uf.UFM(LEVELS, D, targets=labels, loss=loss, lambda_W=LAMBDA_W, lambda_H=LAMBDA_H)
        self.ends = np.cumsum([self.X.shape[1] * D, D])

    def point(self, x: np.ndarray) -> uf.Point:
        """Return W, features and thresholds."""
        V, w, steps = np.split(x, self.ends)
        b = steps[0] + np.concatenate([[0.0], np.cumsum(np.exp(steps[1:]))])
        return uf.Point(w[None, :].copy(), np.tanh(self.X @ V.reshape(-1, D)), b)

    def loss_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the model's loss plus a decay on V, and the gradient by the chain rule."""
        V, _, steps = np.split(x, self.ends)
        p = self.point(x)
        value, (grad_W, grad_H, grad_b) = self.ufm.loss_and_grad(p)
        to_V = self.X.T @ (grad_H * (1 - p.H**2))
        above = np.cumsum(grad_b[::-1])[::-1]
        to_steps = np.concatenate([above[:1], above[1:] * np.exp(steps[1:])])
        return value + DECAY / 2 * V @ V, np.concatenate([to_V.ravel() + DECAY * V, grad_W[0], to_steps])

    def train(self, seed: int) -> OptimizeResult:
        """Minimise from a random start."""
        start = 0.3 * np.random.default_rng(seed).standard_normal(self.ends[-1] + LEVELS - 1)
        return minimize(self.loss_and_grad, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})


def show_minimum(title: str, ufm: uf.UFM) -> uf.Certificate:
    """Print the minimum of a model of the levels, and its certificate."""
    best = uf.global_minimum(ufm)
    z = (best.point.H @ best.point.W.T)[:, 0]
    print(f"{title}\n  {best.certificate}")
    print("  logits of the levels  ", *(f"{number:8.3f}" for number in z))
    if ufm.loss_function.thresholds is None:
        print("  learned thresholds    ", *(f"{number:8.3f}" for number in best.point.b))
        show_collapse(best.point, np.arange(LEVELS))
    return best.certificate


def show_collapse(p: uf.Point, labels: np.ndarray) -> None:
    """Print the metrics of ordinal neural collapse: zero for features of the minimum."""
    m = uf.onc_metrics(p.W, p.H, labels, b=p.b)
    print(f"  within levels, ONC1 {m.onc1:.2g}; across W, ONC2 {m.onc2:.2g}; out of order, ONC3 {m.onc3:.2g}")


def main(seed: int) -> tuple[float, float]:
    """Print all; return the network's loss without its own decay, and the certified bound."""
    X, labels = data()
    counts = np.bincount(labels)
    print(f"{len(labels)} patients in {LEVELS} levels: {', '.join(map(str, counts))}\n")
    decays = {"lambda_W": LAMBDA_W, "lambda_H": LAMBDA_H}
    given = uf.Ordinal(np.linspace(-5, 5, LEVELS + 1))
    show_minimum("Unconstrained features, given thresholds -5, -3, ..., 5, no bias:",
                 uf.UFM(LEVELS, D, counts, loss=given, bias=False, **decays))  # fmt: skip
    learned = uf.Ordinal(None)
    bound = show_minimum("Unconstrained features, learned thresholds:",
                         uf.UFM(LEVELS, D, counts, loss=learned, **decays)).lower_bound  # fmt: skip
    network = Network(X, labels, learned)
    p = network.point(network.train(seed).x)
    loss = network.ufm.loss(p)
    z = (p.H @ p.W.T)[:, 0]
    error = np.abs(np.searchsorted(p.b, z) - labels).mean()
    print(f"\nA network with {D} features, learned thresholds:\n  loss {loss:.6f}, {loss / bound:.2f} times the bound")
    print("  mean logits of levels ", *(f"{z[labels == level].mean():8.3f}" for level in range(LEVELS)))
    print("  learned thresholds    ", *(f"{number:8.3f}" for number in p.b))
    print(f"  a patient's level is {error:.2f} off on average")
    show_collapse(p, labels)
    return loss, bound


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the network's start")
    main(parser.parse_args().seed)
