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
# A word whose own logit is not above all others at its own feature is given up. Which words that are depends on their
# counts alone: there is a threshold, and the weight decay moves it.

figure = Figure(figsize=(8, 3), dpi=150, layout="constrained")
axes = figure.add_subplot()
words = np.unique(np.geomspace(1, K, 100).astype(int)) - 1
for decay in (1e-4, 5e-5, 2e-5, 1e-5):
    model = uf.UFM(K=K, d=K, n=n, lambda_W=decay, lambda_H=decay / n.mean(), lambda_b=1e-2)
    minimum = uf.global_minimum(model).factored
    margins = []
    for word in words:
        logits = minimum.logits(word)
        margins.append(logits[word] - np.delete(logits, word).max())
    known = words[np.array(margins) > 1e-6]
    print(f"lambda_W = {decay:.0e}: words with {n[known].min()} samples and more are told from all others")
    axes.semilogx(n[words], margins, ".-", markersize=3, label=f"lambda_W = {decay:.0e}")
axes.set_xlabel("samples of a word")
axes.set_ylabel("own logit less the largest other")
axes.legend(fontsize="small")

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
