"""Models and arguments that hypothesis draws."""

import os

import numpy as np
import scipy.sparse
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import ufm_fast as uf

#: How many examples a test takes: a fixed, quick set by default; as many as UFM_FAST_FUZZ says, new ones each time.
COUNT = int(os.environ.get("UFM_FAST_FUZZ", "0"))


def fuzz(quick: int, **options):
    """Settings of a fuzz test, which takes so many examples where nothing else is asked for."""
    return settings(
        max_examples=COUNT or quick, derandomize=not COUNT, deadline=None, print_blob=True,
        suppress_health_check=list(HealthCheck), **options,
    )  # fmt: skip


def decays(least=1e-5, most=1.0):
    return st.floats(np.log10(least), np.log10(most)).map(lambda exponent: float(10**exponent))


@st.composite
def losses(draw, K):
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    vector = {
        "scale": np.exp(rng.uniform(-1, 1, K)),
        "shift": 2 * rng.standard_normal(K),
        "margin": rng.uniform(0, 2, K),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(vector))))
    return draw(
        st.sampled_from([
            uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.CrossEntropy(**{name: vector[name] for name in sorted(chosen)}),
            uf.MSE(), uf.BinaryCrossEntropy(), uf.BinaryCrossEntropy(0.05), uf.Focal(2.0),
            uf.Ordinal(np.linspace(-2, 2, K - 1) if K > 2 else [0.0]), uf.Ordinal(None, link="probit"),
        ])
    )  # fmt: skip


def targets_of(loss, rng, M, K, kind):
    """Targets that the loss takes, or labels."""
    if kind == "labels" or isinstance(loss, (uf.Focal, uf.Ordinal)) or getattr(loss, "margin", None) is not None:
        return np.concatenate([np.arange(K), rng.integers(0, K, M)])  # every level, as learned thresholds need
    if isinstance(loss, uf.MSE):
        return rng.standard_normal((M, K))
    if isinstance(loss, uf.BinaryCrossEntropy):
        return (rng.random((M, K)) < 0.3).astype(float)
    dense = rng.dirichlet(np.full(K, 0.3), M)
    return scipy.sparse.csr_array(dense) if kind == "sparse" else dense


@st.composite
def models(draw):
    """A model of any kind: classes or rows, any loss, bias and dimension."""
    K, seed = draw(st.integers(2, 7)), draw(st.integers(0, 2**16))
    d = draw(st.integers(1, K + 2) | st.integers(1, K + 2) | st.just(40))
    rng = np.random.default_rng(seed)
    loss = draw(losses(K))
    learned = isinstance(loss, uf.Ordinal) and loss.thresholds is None
    bias = draw(st.sampled_from([{"lambda_b": 0.0}, {"lambda_b": 0.01}] + [{"bias": False}] * (not learned)))
    options = {
        "loss": loss,
        "lambda_W": draw(decays()),
        "lambda_H": draw(decays()),
        "threads": draw(st.sampled_from([1, 2])),
        **bias,
    }
    if draw(st.booleans()):
        n = rng.integers(1, draw(st.sampled_from([2, 20, 1000])), K)
        weights = draw(st.sampled_from([None, np.exp(rng.uniform(-2, 2, K))]))
        few = int(n.sum()) < 60
        return uf.UFM(K, d, n, weights=weights, collapse=not few or draw(st.booleans()), **options)
    kind = draw(st.sampled_from(["labels", "dense", "sparse"]))
    targets = targets_of(loss, rng, draw(st.integers(1, 12)), K, kind)
    M = targets.shape[0]
    more = {
        "n": np.exp(rng.uniform(-2, 2, M)),
        "weights": np.exp(rng.uniform(-1, 1, M)),
        "ridges": np.exp(rng.uniform(-1, 1, M)),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(more))))
    return uf.UFM(K, d, targets=targets, **{name: more[name] for name in chosen}, **options)
