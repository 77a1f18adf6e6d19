"""
Long-tailed data: minority collapse, and weights that prevent it
================================================================

With many samples in some classes and few in others, cross-entropy with weight decay gives up the rare
classes: at the global minimum their classifiers coincide, whatever the data are (minority collapse, Fang et
al. 2021, arXiv:2101.12699).
"""

# %%
# Classes that are given up
# -------------------------
#
# CIFAR-100-LT has 500 samples in its first class and 5 in its last. With decays that are not small the minimum has
# less than the full rank K - 1 = 99: some classes share a row of W.

import numpy as np

import ufm_fast as uf
from ufm_fast.plotting import plot_path

n = uf.counts("cifar100-lt", imbalance=100)
ufm = uf.UFM(K=100, d=100, n=n, lambda_W=5e-3, lambda_H=5e-3 / n.mean(), lambda_b=1e-2)
solution = uf.global_minimum(ufm)
W = solution.point.W
distances = np.linalg.norm(W[:, None] - W[None], axis=-1) + np.diag(np.full(100, np.inf))
given_up = distances.min(axis=1) < 0.1 * np.linalg.norm(W, axis=1).max()
print(f"certified gap {solution.certificate.relative_gap:.0e}")
print(f"rows of W that are next to another: {given_up.sum()}, with at most {n[given_up].max()} samples each")

# %%
# Which weights prevent it?
# -------------------------
#
# ``path`` follows the certified minimum along class weights proportional to n_k^-g, and finds where the number of
# collapsed classes changes. Without weights (g = 0) the rarest classes are given up, with "balanced" ones (g = 1) the
# most frequent.

along = uf.path(ufm, np.linspace(0, 1.2, 13), over="weight_exponent", locate=1e-2)
for row in along.rows[:: max(1, len(along.rows) // 8)]:
    print(f"g = {row['value']:.3f}: loss {row['loss']:.4f}, rank {row['rank']}, collapsed {row['collapsed']}")
figure = plot_path(along)

# %%
# Losses made for long tails
# --------------------------
#
# Shifts, scales and margins of the logits are losses of their own, all of them convex and certified.

losses = {
    "cross-entropy": uf.CrossEntropy(),
    "logit adjustment": uf.losses.logit_adjusted(n),
    "LDAM": uf.losses.ldam(n),
    "CDT": uf.losses.cdt(n, 0.2),
}
for name, loss in losses.items():
    model = uf.UFM(K=100, d=100, n=n, loss=loss, lambda_W=5e-3, lambda_H=5e-3 / n.mean(), lambda_b=1e-2)
    row = uf.path(model, [5e-3]).rows[0]
    print(f"{name:17} certified {row['certified']}, rank {row['rank']}, collapsed {row['collapsed']}")
