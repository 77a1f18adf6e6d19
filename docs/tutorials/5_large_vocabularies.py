"""
Large vocabularies
==================

Next-token prediction has tens of thousands of classes with Zipf's counts. A K x K array of them fills a
computer's memory; the global minimum does not need one.
"""

# %%
# Twenty thousand classes
# -----------------------
#
# Classes that differ in nothing are solved as one, and similar ones by interpolation; the minimum stays in a few
# numbers.

import time

import numpy as np
from matplotlib.figure import Figure

import ufm_fast as uf

K = 20_000
n = np.maximum(1, 100_000 // np.arange(1, K + 1))
tail = uf.UFM(K=K, d=K, n=n, lambda_W=1e-4, lambda_H=1e-4 / n.mean(), lambda_b=1e-2)
begin = time.perf_counter()
solution = uf.global_minimum(tail)
print(f"{solution.value:.9f}, gap {solution.certificate.relative_gap:.0e}, {time.perf_counter() - begin:.1f} s")

# %%
# Which words does the model know?
# --------------------------------
#
# A word whose own logit is not above that of its neighbours in frequency is given up.

for decay in (1e-4, 5e-5, 2e-5, 1e-5):
    model = uf.UFM(K=K, d=K, n=n, lambda_W=decay, lambda_H=decay / n.mean(), lambda_b=1e-2)
    minimum = uf.global_minimum(model).factored
    words = range(0, K, 200)
    known = sum(int(minimum.logits(k).argmax()) == k for k in words)
    print(f"lambda_W = {decay:.0e}: of every 200th word, {known} of {len(words)} are told from all others")
figure = Figure(figsize=(8, 3), dpi=150, layout="constrained")
axes = figure.add_subplot()
for k in (0, 100, 1000, 5000, 19_999):
    axes.plot(solution.factored.logits(k), lw=0.8, label=f"word {k}, {n[k]} samples")
axes.set_xscale("symlog", linthresh=1)
axes.set_xlabel("class, by frequency")
axes.set_ylabel("its logit at the word's own feature")
axes.legend()

# %%
# Contexts
# --------
#
# A language model's rows are contexts, each with a distribution of next tokens: soft targets, dense or sparse.

rng = np.random.default_rng(0)
tokens = rng.dirichlet(np.full(200, 0.05), 300)
contexts = uf.UFM(200, 200, targets=tokens, n=1 / np.arange(1, 301), ridges=1, lambda_W=1e-3, lambda_H=1e-3)
result = uf.minimize(contexts)
print(f"certified: {result.success}; rank {np.linalg.matrix_rank(result.point.W, tol=1e-6)} of 199")

# %%
# The head of a real model
# ------------------------
#
# In a training loop the same kernels give the loss of a batch and its gradient without the N x K logits.

W = rng.standard_normal((K, 64), dtype=np.float32) / 8
H = rng.standard_normal((512, 64), dtype=np.float32)
labels = rng.integers(0, K, 512)
value, (to_W, to_H, _) = uf.linear_cross_entropy(W, H, labels)
print(f"{value:.3f}", to_W.shape, to_H.shape)
