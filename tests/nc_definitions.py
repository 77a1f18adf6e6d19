"""Neural-collapse metrics as their papers define them, in plain NumPy, and data to measure."""

import numpy as np


def etf_gram(K):
    return (np.eye(K) - 1 / K) / np.sqrt(K - 1)


def distance_to_etf(A):
    return np.linalg.norm(A / np.linalg.norm(A) - etf_gram(len(A)))


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1)[:, None]
    return (unit @ unit.T)[~np.eye(len(rows), dtype=bool)]


def spread(values):
    return values.std() / values.mean()


def by_definition(W, H, labels, b, centre="samples"):
    """Every metric as its paper writes it; covariances from explicit outer products, no shortcuts."""
    K = len(W)
    H = H.astype(np.float64)
    means = np.array([H[labels == k].mean(axis=0) for k in range(K)])
    counts = np.bincount(labels, minlength=K)
    mu = H.mean(axis=0) if centre == "samples" else means.mean(axis=0)
    M = means - mu
    deviations = H - means[labels]
    S_W = deviations.T @ deviations / len(H)
    S_B = M.T @ M / K
    V = np.array([(deviations[labels == k] ** 2).sum() / counts[k] for k in range(K)])
    pairs = [(V[i] + V[j]) / (2 * ((means[i] - means[j]) ** 2).sum()) for i in range(K) for j in range(K) if i != j]
    Wc = W - W.mean(axis=0)
    nearest = np.argmin(((H[:, None] - means) ** 2).sum(axis=2), axis=1)
    expected = {
        "nc1": np.trace(S_W @ np.linalg.pinv(S_B, rcond=1e-10)) / K,
        "nc1_trace_ratio": np.trace(S_W) / np.trace(S_B),
        "cdnv": np.mean(pairs),
        "nc2_W": distance_to_etf(W @ W.T),
        "nc2_W_centred": distance_to_etf(Wc @ Wc.T),
        "nc2_means": distance_to_etf(M @ M.T),
        "nc2_means_uncentred": distance_to_etf(means @ means.T),
        "nc3_product": distance_to_etf(W @ M.T),
        "nc3_product_centred": distance_to_etf(Wc @ M.T),
        "nc3_duality": np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)) ** 2,
        "nc3_duality_centred": np.linalg.norm(Wc / np.linalg.norm(Wc) - M / np.linalg.norm(M)) ** 2,
        "nc4_agreement": np.mean(np.argmax(H @ W.T + b, axis=1) == nearest),
        "bias_term": np.linalg.norm(b + W @ mu),
        "norm_ratio": (W**2).sum(axis=1).mean() / (H**2).sum(axis=1).mean(),
    }
    for name, rows in (("W", W), ("W_centred", Wc), ("means", M)):
        cos = cosines(rows)
        expected |= {
            f"equinorm_{name}": spread(np.linalg.norm(rows, axis=1)),
            f"cosine_mean_{name}": cos.mean(),
            f"cosine_std_{name}": cos.std(),
            f"equiangularity_{name}": np.abs(cos + 1 / (K - 1)).mean(),
        }
    return expected


def example(kind, seed=0):
    """W, H, labels, b."""
    rng = np.random.default_rng(seed)
    K, d = (7, 11) if kind != "wide" else (30, 8)
    counts = rng.integers(2, 60, K) if kind == "imbalanced" else np.full(K, 20)
    labels = rng.permutation(np.repeat(np.arange(K), counts))
    means = rng.standard_normal((K, d)) + 3 * rng.standard_normal(d)
    if kind == "low rank":
        means = means[:, :3] @ rng.standard_normal((3, d))
    W = means - means.mean(axis=0) + 0.4 * rng.standard_normal((K, d))
    noise = 0.3 * rng.standard_normal((len(labels), d))
    if kind == "low rank":  # balanced noise, so that the class means keep their rank exactly
        for k in range(K):
            noise[labels == k] -= noise[labels == k].mean(axis=0)
    return W, means[labels] + noise, labels, rng.standard_normal(K)
