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


def log_energies(rows):
    """log 1/|u_j - u_k| of the directions of each two rows, one at a time."""
    unit = [row / np.sqrt((row**2).sum()) for row in rows]
    return np.array([-np.log(np.sqrt(((u - v) ** 2).sum())) for i, u in enumerate(unit) for v in unit[:i]])


def by_definition(W, H, labels, b, centre="samples", ignored=()):
    """Every metric as its paper writes it; covariances from explicit outer products, no shortcuts.

    Row k of W belongs to label k; samples with ignored labels and classes without samples are left out first.
    """
    kept = ~np.isin(labels, ignored)
    H, labels = H[kept].astype(np.float64), labels[kept]
    present, places = np.unique(labels, return_inverse=True)
    decided = np.argmax(H @ W.T + b, axis=1)
    labels, W, b = places, W[present], b[present]
    K = len(W)
    means = np.array([H[labels == k].mean(axis=0) for k in range(K)])
    counts = np.bincount(labels, minlength=K)
    mu = H.mean(axis=0) if centre == "samples" else means.mean(axis=0)
    M = means - mu
    deviations = H - means[labels]
    S_W = deviations.T @ deviations / len(H)
    inverse = np.linalg.pinv(M, rcond=1e-10)
    V = np.array([(deviations[labels == k] ** 2).sum() / counts[k] for k in range(K)])
    several = np.flatnonzero(counts > 1)
    pairs = [(V[i] + V[j]) / (2 * ((means[i] - means[j]) ** 2).sum()) for i in several for j in several if i != j]
    Wc = W - W.mean(axis=0)
    nearest = present[np.argmin(((H[:, None] - means) ** 2).sum(axis=2), axis=1)]
    expected = {
        "nc1": np.trace(S_W @ (K * inverse @ inverse.T)) / K,
        "nc1_trace_ratio": np.trace(S_W) / np.trace(M.T @ M / K),
        "cdnv": np.mean(pairs) if pairs else np.nan,
        "nc2_means_uncentred": distance_to_etf(means @ means.T),
        "nc0": np.sqrt(sum(sum(column) ** 2 for column in W.T)),
        "nc0_relative": np.linalg.norm(np.ones(K) @ W) / (np.sqrt(K) * np.linalg.norm(W)),
        "nc4_agreement": np.mean(decided == nearest),
        "bias_term": np.linalg.norm(b + W @ mu),
        "norm_ratio": (W**2).sum(axis=1).mean() / (H**2).sum(axis=1).mean(),
    }
    if not (counts > 1).any():
        expected |= {"nc1": np.nan, "nc1_trace_ratio": np.nan}
    for end, rows in (("", W), ("_centred", Wc)):
        aligned = [w @ m / np.sqrt((w @ w) * (m @ m)) for w, m in zip(rows, M, strict=True)]
        expected |= {
            f"nc3_product{end}": distance_to_etf(rows @ M.T),
            f"nc3_duality{end}": np.linalg.norm(rows / np.linalg.norm(rows) - M / np.linalg.norm(M)) ** 2,
            f"nc3_cosine_mean{end}": np.mean(aligned),
            f"nc3_cosine_std{end}": np.std(aligned),
        }
    for name, rows in (("W", W), ("W_centred", Wc), ("means", M)):
        cos, energies = cosines(rows), log_energies(rows)
        expected |= {
            f"nc2_{name}": distance_to_etf(rows @ rows.T),
            f"equinorm_{name}": spread(np.linalg.norm(rows, axis=1)),
            f"cosine_mean_{name}": cos.mean(),
            f"cosine_std_{name}": cos.std(),
            f"equiangularity_{name}": np.abs(cos + 1 / (K - 1)).mean(),
            f"uniformity_mean_{name}": energies.mean(),
            f"uniformity_std_{name}": energies.std(),
        }
    return expected


def multilabel_by_definition(H, targets):
    """The ratio of angles for two labels: of each pair's mean to its own sum of single means, and to every pair's."""
    sets = [frozenset(np.flatnonzero(row)) for row in targets]
    mean = {s: np.mean([h for h, t in zip(H, sets, strict=True) if t == s], axis=0) for s in set(sets)}
    singles = sorted(next(iter(s)) for s in mean if len(s) == 1)

    def angle(u, v):
        u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
        return np.degrees(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))

    def total(pair):
        i, j = pair
        return mean[frozenset([i])] + mean[frozenset([j])]

    doubles = [s for s in mean if len(s) == 2 and s <= set(singles)]
    own = np.mean([angle(mean[s], total(s)) for s in doubles])
    pairs = [(i, j) for i in singles for j in singles if i < j]
    return own / np.mean([angle(mean[s], total(pair)) for s in doubles for pair in pairs])


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
