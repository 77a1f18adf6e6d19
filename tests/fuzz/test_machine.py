"""Random models and random walks through the functions that take a point: bounds never pass losses, all agree."""

import pickle
import tempfile
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawn import fuzz, models
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

import ufm_fast as uf


def has_certificate(ufm):
    return not isinstance(ufm.loss_function, uf.Focal)


def has_samples(ufm):
    """Whether the model has few samples in classes, each with a logit: what a network's last layer has."""
    return ufm.counts is not None and ufm.N <= 300 and not isinstance(ufm.loss_function, (uf.Focal, uf.Ordinal))


def learns_thresholds(ufm):
    return isinstance(ufm.loss_function, uf.Ordinal) and ufm.loss_function.thresholds is None


def moves_logits_by_a_known_bias(ufm):
    """Whether the best bias for given features is known to lie in some interval, if there is one."""
    bounded = not ufm.bias or ufm.lambda_b > 0 or isinstance(ufm.loss_function, (uf.CrossEntropy, uf.MSE))
    return bounded and not learns_thresholds(ufm)


SEEDS = st.integers(0, 2**16)


class Walk(RuleBasedStateMachine):
    """A model, points of it, the lowest loss and the highest lower bound that were ever seen."""

    points = Bundle("points")

    def __init__(self):
        super().__init__()
        warnings.simplefilter("ignore", uf.ConvergenceWarning)

    @initialize(target=points, ufm=models())
    def begin(self, ufm):
        self.ufm, self.lowest, self.highest = ufm, np.inf, -np.inf
        return ufm.unpack(np.zeros(ufm.size)) if not learns_thresholds(ufm) else ufm.random_point(0)

    @rule(target=points, seed=SEEDS, exponent=st.floats(-6, 2))
    def random_point(self, seed, exponent):
        return self.ufm.random_point(seed, 10**exponent)

    @rule(target=points, seed=SEEDS, rank=st.integers(0, 4))
    def saddle(self, seed, rank):
        try:
            p = uf.saddle(self.ufm, rank, seed)
        except (ValueError, ArithmeticError):
            return self.ufm.random_point(seed)
        kind = uf.classify(self.ufm, p).kind
        assert kind in ("strict_saddle", "global_minimum", "undecided", "local_minimum"), kind
        return p

    @rule(target=points, p=points, evaluations=st.sampled_from([3, 400]))
    def minimize(self, p, evaluations):
        found = uf.minimize(self.ufm, p, max_evaluations=evaluations)
        assert found.fun <= self.ufm.loss(p) * (1 + 1e-12) + 1e-300
        self.see(found.point, found.certificate)
        return found.point

    @rule(target=points, p=points)
    def interrupted(self, p):
        """A run that goes on from its checkpoint ends no higher, and says what it is."""
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "run.npz"
            before = uf.minimize(self.ufm, p, max_evaluations=2, checkpoint=checkpoint)
            found = uf.minimize(self.ufm, p, max_evaluations=40, checkpoint=checkpoint)
        assert found.fun <= before.fun
        self.see(found.point, found.certificate)
        return found.point

    @precondition(lambda self: has_certificate(self.ufm))
    @rule(target=points, p=points, fixed=st.sampled_from("WH"))
    def minimize_with_a_part_fixed(self, p, fixed):
        """The bound is one of the restricted problem, in which no loss below it was found."""
        if fixed == "H" and not moves_logits_by_a_known_bias(self.ufm):
            with pytest.raises(ValueError, match="fixed='H' needs"):
                uf.minimize(self.ufm, p, fixed=fixed)
            return p
        found = uf.minimize(self.ufm, p, fixed=fixed, max_evaluations=100)
        assert np.array_equal(getattr(found.point, fixed), getattr(p, fixed))
        assert found.fun <= self.ufm.loss(p) * (1 + 1e-12) + 1e-300
        assert found.certificate.lower_bound <= found.fun + 1e-13 * abs(found.fun)
        self.see(found.point, None)
        return found.point

    @rule(target=points, p=points)
    def escape(self, p):
        further = uf.escape(self.ufm, p)
        if further is None:
            return p
        assert self.ufm.loss(further) < self.ufm.loss(p)
        return further

    @rule(target=points, p=points, q=points, t=st.floats(-1, 2))
    def line(self, p, q, t):
        t = min(max(t, 0), 1) if learns_thresholds(self.ufm) else t  # between points thresholds ascend
        return self.ufm.unpack((1 - t) * self.ufm.pack(p) + t * self.ufm.pack(q))

    @rule()
    def global_minimum(self):
        if self.ufm.d >= self.ufm.K and has_certificate(self.ufm):
            found = uf.global_minimum(self.ufm)
            self.see(found.point, found.certificate)

    @rule(p=points)
    def certify(self, p):
        if has_certificate(self.ufm):
            self.see(p, uf.certify(self.ufm, p))

    @precondition(lambda self: has_certificate(self.ufm))
    @rule(p=points)
    def classify(self, p):
        found = uf.classify(self.ufm, p)
        self.see(p, found.certificate)
        lower, upper = found.lowest_eigenvalue_bounds
        assert lower <= upper
        if found.kind == "strict_saddle":
            assert found.lowest_eigenvalue <= upper + 1e-12 or np.isnan(found.lowest_eigenvalue)

    @precondition(lambda self: has_certificate(self.ufm))
    @rule(seed=SEEDS)
    def census(self, seed):
        found = uf.census(self.ufm, 2, seed=seed, max_evaluations=100).points
        self.lowest = min(self.lowest, found["loss"].min())
        bounds = found["loss"] - found["relative_gap"] * abs(found["loss"])
        self.highest = max(self.highest, bounds[np.isfinite(bounds)].max(initial=-np.inf))

    @precondition(lambda self: has_certificate(self.ufm))
    @rule(over=st.sampled_from(["lambda_W", "lambda_H", "lambda"]), factor=st.floats(1.1, 10))
    def path(self, over, factor):
        """With more decay the minimum is no lower."""
        here = getattr(self.ufm, over, 1.0)
        first, last = uf.path(self.ufm, [here, factor * here], over=over, max_evaluations=100).rows
        assert first["lower_bound"] <= last["loss"] * (1 + 1e-13)
        self.lowest = min(self.lowest, first["loss"])
        self.highest = max(self.highest, first["lower_bound"])

    @precondition(lambda self: has_samples(self.ufm))
    @rule(p=points)
    def inspect(self, p):
        """The features of all samples, as those of a network with the model's decays."""
        ufm = self.ufm
        W, H, b = ufm.expand(p) if ufm.collapse_classes else p
        labels = np.repeat(np.arange(ufm.K), ufm.counts)
        bias = {"b": b, "lambda_b": ufm.lambda_b} if ufm.bias else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what is undefined, as with one sample a class
            found = uf.inspect(
                W, H, labels, **bias, lambda_W=ufm.lambda_W, lambda_H=ufm.lambda_H, loss=ufm.loss_function,
                weights=ufm.weights, solve=False,
            )  # fmt: skip
            metrics = uf.nc_metrics(W, H, labels, bias.get("b"))
        value = ufm.loss(p)
        assert abs(found.loss - value) <= 1e-10 * value
        self.highest = max(self.highest, found.lower_bound)
        assert repr(metrics.scalars()) == repr(found.metrics.scalars())

    @precondition(lambda self: has_samples(self.ufm))
    @rule(p=points)
    def means_of_classes(self, p):
        """Means of equal features are these, and those of others have no higher loss."""
        ufm = self.ufm
        if ufm.collapse_classes:
            for part, expected in zip(ufm.collapse(ufm.expand(p)), p, strict=True):
                np.testing.assert_allclose(part, expected, rtol=1e-14)
        else:
            assert ufm.loss(ufm.expand(ufm.collapse(p))) <= ufm.loss(p) * (1 + 1e-12)

    @rule(p=points, share=st.floats(0, 1), seed=SEEDS)
    def rows(self, p, share, seed):
        """Parts of the rows add up to the model, which equal rows merged are too."""
        ufm = self.ufm
        ends = sorted({0, round(share * ufm.M), ufm.M})
        parts = [ufm.rows(start, stop).loss(p._replace(H=p.H[start:stop])) for start, stop in pairwise(ends)]
        assert abs(sum(parts) - ufm.loss(p)) <= 1e-12 * ufm.loss(p)
        merged, index = ufm.merged()
        q = merged.random_point(seed)
        assert abs(merged.loss(q) - ufm.loss(q._replace(H=q.H[index]))) <= 1e-12 * merged.loss(q)

    @rule(p=points, seed=SEEDS)
    def derivatives(self, p, seed):
        """Along a line, against differences."""
        x, ufm = self.ufm.pack(p), self.ufm
        v = np.random.default_rng(seed).standard_normal(ufm.size)
        h = 1e-5 * (1 + np.linalg.norm(x)) / np.linalg.norm(v)
        if learns_thresholds(ufm):
            h *= 1e-2
        try:
            before, after = ufm.fun_and_grad(x - h * v), ufm.fun_and_grad(x + h * v)
        except ValueError:
            assert learns_thresholds(ufm)  # thresholds out of order
            return
        value, slope = ufm.fun_and_grad(x)
        product = ufm.hessp(x, v)
        self.lowest = min(self.lowest, value)
        size = abs(before[0]) + abs(after[0])
        change = np.linalg.norm(after[1] - before[1]) + h * np.linalg.norm(product)
        assert (
            abs((after[0] - before[0]) / (2 * h) - slope @ v)
            <= 1e-10 * size / h + 1e-2 * abs(v @ product) * h + 1e-6 * abs(slope @ v) + 1e-6 * size
        )
        assert np.linalg.norm((after[1] - before[1]) / (2 * h) - product) <= 1e-2 * change / h + 1e-9

    @precondition(lambda self: self.ufm.size <= 1000)
    @rule(p=points)
    def lowest_eigenpairs(self, p):
        """Against the eigenvalues of the dense Hessian."""
        hessian = self.ufm.hessian(p, coordinates="samples")
        dense = hessian @ np.eye(self.ufm.size)
        assert np.allclose(dense, dense.T, rtol=1e-9, atol=1e-12 * (1 + abs(dense).max()))
        found = uf.lowest_eigenpairs(self.ufm, p, deflate=False)
        expected = min(np.linalg.eigvalsh((dense + dense.T) / 2)[0], found.within_class)
        scale = abs(dense).max()
        assert abs(min(found.eigenvalues[0], found.within_class) - expected) <= 1e-6 * scale
        density = uf.spectrum(self.ufm, p, steps=4, probes=2)
        assert density.nodes[0] >= expected - 1e-6 * scale
        assert abs(density.weights.sum() - density.size) <= 1e-9 * density.size
        if density.exact is not None:
            assert abs(density.exact[0].min() - expected) <= 1e-3 * scale

    @rule(p=points)
    def saved_and_loaded(self, p):
        with tempfile.TemporaryDirectory() as folder:
            uf.save_point(Path(folder) / "p.npz", self.ufm, p)
            ufm, q = uf.load_point(Path(folder) / "p.npz", threads=self.ufm.threads)
        assert ufm.loss(q) == self.ufm.loss(p)
        ufm, q = pickle.loads(pickle.dumps((self.ufm, p)))
        assert ufm.loss(q) == self.ufm.loss(p)

    def see(self, p, certificate):
        value = self.ufm.loss(p)
        assert np.isfinite(value)
        self.lowest = min(self.lowest, value)
        if certificate is not None:
            assert not np.isnan(certificate.lower_bound)
            self.highest = max(self.highest, certificate.lower_bound)

    @invariant()
    def no_bound_is_above_a_loss(self):
        if hasattr(self, "ufm"):
            assert self.highest <= self.lowest + 1e-13 * abs(self.lowest)


Walk.TestCase.settings = fuzz(40, stateful_step_count=12)
TestWalk = Walk.TestCase
