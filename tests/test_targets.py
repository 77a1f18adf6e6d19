"""Rows given by users: targets in every form, samples and weights of rows and classes, and merging equal rows."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import ufm_fast as uf
from ufm_fast._model.rows import Rows
from ufm_fast._model.targets import checked_targets

K, d = 5, 6
DECAYS = {"lambda_W": 0.02, "lambda_H": 0.004}


def plain_loss(p, T, n, weights, ridges, lambda_b=0.0):
    """Cross-entropy of rows in NumPy, as theory writes it."""
    Z = p.H @ p.W.T + p.b
    each = logsumexp(Z, axis=1) - (T * Z).sum(axis=1)
    ridge = DECAYS["lambda_W"] / 2 * (p.W**2).sum() + DECAYS["lambda_H"] / 2 * ridges @ (p.H**2).sum(axis=1)
    return (n * weights) @ each / n.sum() + ridge + lambda_b / 2 * (p.b**2).sum()


def soft_targets(M, seed, distinct=None):
    rng = np.random.default_rng(seed)
    T = rng.dirichlet(np.full(K, 0.4), M if distinct is None else distinct)
    T[T < 0.05] = 0
    T /= T.sum(axis=1, keepdims=True)
    return T if distinct is None else T[rng.integers(0, distinct, M)]


SPARSE = [getattr(scipy.sparse, f"{kind}_{thing}") for kind in ("csr", "csc", "coo") for thing in ("array", "matrix")]


@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, *SPARSE], ids=lambda form: form.__name__)
def test_every_form_of_targets_gives_the_same_model(form):
    T, rng = soft_targets(9, 0), np.random.default_rng(1)
    n, weights, ridges = rng.uniform(0.5, 4, 9), rng.uniform(0.5, 2, 9), rng.uniform(0.5, 2, 9)
    ufm = uf.UFM(K, d, targets=form(T), n=n, weights=weights, ridges=ridges, **DECAYS, lambda_b=0.01)
    p = ufm.random_point(0, 1.0)
    assert (ufm.M, ufm.N, ufm.counts, ufm.weights) == (9, pytest.approx(n.sum()), None, None)
    assert ufm.loss(p) == pytest.approx(plain_loss(p, T, n, weights, ridges, 0.01), rel=1e-13)


def test_ridges_follow_the_samples_unless_they_are_given():
    T, n = soft_targets(7, 2), np.arange(1.0, 8)
    p = uf.UFM(K, d, targets=T, n=n, **DECAYS).random_point(0, 1.0)
    for given_ridges, ridges in ((None, n), (1, np.ones(7))):
        ufm = uf.UFM(K, d, targets=T, n=n, ridges=given_ridges, **DECAYS)
        assert ufm.loss(p) == pytest.approx(plain_loss(p, T, n, np.ones(7), ridges), rel=1e-13)


def test_labels_come_in_any_order_and_need_not_be_all_there():
    labels, rng = np.array([3, 0, 3, 1, 0, 0]), np.random.default_rng(0)
    n, weights = rng.uniform(1, 5, 6), rng.uniform(0.5, 2, 6)
    for kind in (np.int8, np.uint64, int):
        ufm = uf.UFM(K, d, targets=labels.astype(kind), n=n, weights=weights, **DECAYS)
        p = ufm.random_point(3, 1.0)
        assert ufm.loss(p) == pytest.approx(plain_loss(p, np.eye(K)[labels], n, weights, n), rel=1e-13)
    assert uf.minimize(ufm).success


def test_duplicate_and_unsorted_entries_of_a_sparse_matrix_are_added_up():
    entries, columns, starts = [0.2, 0.3, 0.5, 0.6, 0.4], [4, 1, 4, 2, 0], [0, 3, 5]
    ufm = uf.UFM(K, d, targets=scipy.sparse.csr_array((entries, columns, starts), shape=(2, K)), **DECAYS)
    same = uf.UFM(K, d, targets=[[0, 0.3, 0, 0, 0.7], [0.4, 0, 0.6, 0, 0]], **DECAYS)
    p = ufm.random_point(0)
    assert ufm.loss(p) == same.loss(p)


@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_class_weights_count_each_sample_of_a_class(loss, collapse):
    counts, weights = [5, 1, 3, 2, 1], [0.5, 2, 1, 1.5, 3]
    ufm = uf.UFM(K, d, counts, weights=weights, loss=loss, collapse=collapse, **DECAYS)
    labels = np.repeat(np.arange(K), counts)
    each = uf.UFM(K, d, targets=labels, weights=np.repeat(weights, counts), loss=loss, **DECAYS)
    p = each.random_point(0, 1.0)
    p = p._replace(H=p.H[np.cumsum(counts) - 1][labels])
    mine = p if not collapse else uf.Point(p.W, p.H[np.cumsum(counts) - 1], p.b)
    assert ufm.loss(mine) == pytest.approx(each.loss(p), rel=1e-13)
    assert ufm.weights.tolist() == weights
    found, there = uf.minimize(ufm), uf.minimize(each.merged()[0])
    assert found.success
    assert found.fun == pytest.approx(there.fun, rel=3e-8)
    assert uf.classify(ufm, found.point).kind == "global_minimum"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.sampled_from(["labels", "dense", "sparse"]), st.integers(0, 10**6))
def test_merged_rows_are_the_same_model(M, distinct, kind, seed):
    rng = np.random.default_rng(seed)
    T = soft_targets(M, seed, distinct)
    if kind == "labels":
        targets = rng.integers(0, K, M)
        T = np.eye(K)[targets]
    else:
        targets = T if kind == "dense" else scipy.sparse.coo_array(T)
    n, weights = rng.uniform(0.1, 9, M), rng.choice([1.0, 3.0], M)
    ufm = uf.UFM(K, d, targets=targets, n=n, weights=weights, **DECAYS)
    merged, index = ufm.merged()
    pairs = {(*row, weight) for row, weight in zip(T.tolist(), weights.tolist(), strict=True)}
    assert len(pairs) == merged.M
    assert merged.N == ufm.N
    p = merged.random_point(seed, 1.0)
    assert merged.loss(p) == pytest.approx(ufm.loss(p._replace(H=p.H[index])), rel=1e-12)
    assert (merged.data.anchors(K)[index] == ufm.data.anchors(K)).all()


def test_merging_goes_by_the_ratio_of_weight_and_ridge():
    """Equal ridges do not suffice, and need not be: see theory, rows that share a feature."""
    T = np.repeat(soft_targets(1, 0), 3, axis=0)
    merged, index = uf.UFM(K, d, targets=T, weights=[1, 1, 2], ridges=[1, 1, 2], **DECAYS).merged()
    assert (merged.M, index.tolist()) == (1, [0, 0, 0])
    assert uf.UFM(K, d, targets=T, weights=[1, 1, 2], ridges=[1, 1, 1], **DECAYS).merged()[0].M == 2


def test_merged_labels_are_classes():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(K), rng.integers(0, K, 95)])
    merged, _ = uf.UFM(K, d, targets=labels, **DECAYS).merged()
    classes = uf.UFM(K, d, np.bincount(labels), **DECAYS)
    p = classes.random_point(0)
    assert merged.loss(p) == pytest.approx(classes.loss(p), rel=1e-14)
    assert uf.minimize(merged).fun == pytest.approx(uf.minimize(classes).fun, rel=3e-8)


BAD = [
    ({"targets": [[0.5, 0.6]]}, ValueError, "row 0"),
    ({"targets": [[0.5, 0.5], [1.5, -0.5]]}, ValueError, "row 1"),
    ({"targets": scipy.sparse.csr_array([[0.5, 0.2]])}, ValueError, "row 0"),
    ({"targets": [[0.5, 0.5], [np.nan, 1]]}, ValueError, "row 1 holds a NaN"),
    ({"targets": scipy.sparse.csr_array([[0.5, 0.5], [0, np.inf]])}, ValueError, "row 1 holds a NaN or an infinity"),
    ({"targets": [0, 1, 2]}, ValueError, r"lie in \[0, 2\).* row 2 is 2"),
    ({"targets": [0, -1]}, ValueError, "row 1 is -1"),
    ({"targets": []}, TypeError, "labels of an integer type"),
    ({"targets": np.zeros(0, int)}, ValueError, "at least one row"),
    ({"targets": [0.0, 1.0]}, TypeError, "labels of an integer type"),
    ({"targets": ["a", "b"]}, TypeError, "labels of an integer type"),
    ({"targets": np.ma.masked_array([0, 1])}, TypeError, "masked"),
    ({"targets": np.eye(3)}, ValueError, r"K = 2 columns, not shape \(3, 3\)"),
    ({"targets": np.ones((2, 3))}, ValueError, "transpose"),
    ({"targets": [[1, 0]], "n": 0}, ValueError, "n must be positive"),
    ({"targets": [[1, 0]], "n": [1, 2]}, ValueError, r"n must be .* shape \(2,\)"),
    ({"targets": [[1, 0]], "n": np.inf}, ValueError, "n must be positive and finite"),
    ({"targets": [[1, 0]], "weights": [-1]}, ValueError, "weights must be positive and finite, but number 0 is -1"),
    ({"targets": [[1, 0]], "ridges": [np.nan]}, ValueError, "ridges must be positive"),
    ({"targets": [[1, 0]], "ridges": "1"}, TypeError, "ridges must be"),
    ({"targets": [[1, 0]], "collapse": False}, ValueError, "collapse"),
    ({"weights": [1, 2, 3]}, ValueError, "weights must be a positive number or 2"),
    ({"weights": [1, 0]}, ValueError, "weights must be positive"),
    ({"ridges": 1}, ValueError, "ridges must not be given without targets"),
    ({"targets": [[1, 0]], "weights": 1e-60, "dtype": "float32"}, ValueError, "weights must make terms in the range"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_rows_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        uf.UFM(2, 2, lambda_W=0.1, lambda_H=0.1, **arguments)


def test_what_is_for_classes_says_so():
    ufm = uf.UFM(K, d, targets=soft_targets(4, 0), **DECAYS)
    for method in (ufm.collapse, ufm.expand):
        with pytest.raises(ValueError, match="models of classes"):
            method(ufm.random_point())


@pytest.mark.parametrize("kind", ["labels", "dense", "sparse", "weighted classes"])
def test_models_of_rows_are_saved_loaded_and_pickled(tmp_path, kind):
    T = soft_targets(8, 3)
    targets = {"labels": T.argmax(axis=1), "dense": T, "sparse": scipy.sparse.csr_array(T)}.get(kind)
    if targets is None:
        ufm = uf.UFM(K, d, [4, 3, 2, 2, 1], weights=[1, 1, 2, 2, 4], **DECAYS)
    else:
        ufm = uf.UFM(K, d, targets=targets, n=np.arange(1, 9), weights=0.5, ridges=1, **DECAYS)
    p = ufm.random_point(0)
    uf.save_point(tmp_path / "point.npz", ufm, p)
    loaded, q = uf.load_point(tmp_path / "point.npz")
    again = pickle.loads(pickle.dumps(ufm))
    for other in (loaded, again):
        assert (other.N, other.M, repr(other)) == (ufm.N, ufm.M, repr(ufm))
        assert other.loss(q) == ufm.loss(p)


def test_a_run_on_rows_goes_on_from_its_checkpoint(tmp_path):
    ufm = uf.UFM(K, d, targets=scipy.sparse.csr_array(soft_targets(8, 3)), **DECAYS)
    whole, file = uf.minimize(ufm, tol=1e-9), tmp_path / "run.npz"
    with pytest.warns(uf.ConvergenceWarning):
        uf.minimize(ufm, tol=1e-9, max_evaluations=9, checkpoint=file)
    resumed = uf.minimize(ufm, tol=1e-9, checkpoint=file)
    assert resumed.fun == whole.fun
    other = uf.UFM(K, d, targets=soft_targets(8, 4), **DECAYS)
    with pytest.raises(ValueError, match="another model"):
        uf.minimize(other, tol=1e-9, checkpoint=file)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_anchors_of_sparse_rows_are_those_of_dense_ones(M, width, seed):
    T = np.random.default_rng(seed).choice([-2.0, -1.0, 0.0, 1.0, 2.0], (M, width))
    sparse = checked_targets(scipy.sparse.csr_array(T), width)
    assert (Rows(sparse, np.ones(M), np.ones(M)).anchors(width) == T.argmax(axis=1)).all()
