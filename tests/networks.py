"""Features and classifiers at or near the global minimum of a UFM."""

import numpy as np

import ufm_fast as uf

K, D, N_CLASS = 6, 9, 25
DECAYS = {"lambda_W": 5e-3, "lambda_H": 2e-4, "lambda_b": 1e-2}


def network(loss="cross_entropy", noise=0.0, seed=0, counts=N_CLASS, **decays):
    """A UFM, and W, H, labels, b at or near its global minimum, samples in random order."""
    ufm = uf.UFM(K, D, counts, loss=loss, **(DECAYS | decays))
    rng = np.random.default_rng(seed)
    p = uf.global_minimum(ufm).point
    labels = rng.permutation(np.repeat(np.arange(K), ufm.counts))
    W, H, b = p.W, p.H[labels], p.b
    return ufm, {
        "W": W + noise * rng.standard_normal(W.shape),
        "H": H + noise * rng.standard_normal(H.shape),
        "labels": labels,
        "b": b + noise * rng.standard_normal(b.shape),
    }
