"""
My trained network
==================

How collapsed are the last-layer features of a trained network, and how far is it from the optimum of its UFM?
Here the "network" is a noisy collapse made with NumPy; arrays of a real one may be tensors, or lie in files.
"""

# %%
# Metrics
# -------

import numpy as np

import ufm_fast as uf
from ufm_fast.plotting import plot_inspection

rng = np.random.default_rng(0)
K, d, N = 10, 64, 5000
labels = rng.integers(0, K, N)
W = 2 * uf.simplex_etf(K, d) + 0.05 * rng.standard_normal((K, d))
H = (4 * uf.simplex_etf(K, d)[labels] + 0.2 * rng.standard_normal((N, d))).astype(np.float32)
b = 0.01 * rng.standard_normal(K)

metrics = uf.nc_metrics(W, H, labels, b)
print(metrics)

# %%
# Batch by batch
# --------------
#
# Features that do not fit in memory go through an accumulator; accumulators of several processes merge.

accumulator = uf.NCAccumulator(K, d)
for batch in np.array_split(np.arange(N), 10):
    accumulator.update(H[batch], labels[batch])
print(f"{accumulator.result(W).nc1:.6f} {metrics.nc1:.6f}")

# %%
# Distance from the optimum
# -------------------------
#
# ``inspect`` takes the weight decay of the training script as lambda_W, fits the others to the balance of W and H,
# and bounds the loss that any classifier and any features could reach with these decays. Is the network near a
# critical point at all?

found = uf.inspect(W, H, labels, b, lambda_W=5e-4)
print(f"loss {found.loss:.5f}, no point is below {found.lower_bound:.5f}")
print(f"near a critical point: {found.near_critical}")
figure = plot_inspection(W, found)

# %%
# From the command line the same reads .npy, .npz, safetensors, PyTorch, HDF5, MATLAB and Parquet files, and follows
# the checkpoints of a run: ``ufm-fast inspect --every-epoch DIR --plot run.png``. The conventions of training scripts
# (weight decay, reductions, label smoothing) are translated on the page about conventions.
