"""Random models and random walks through the functions that take a point: bounds never pass losses, all agree."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from drawn import fuzz, models
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

import ufm_fast as uf


def has_certificate(ufm):
    return not isinstance(ufm.loss_function, uf.Focal)


def learns_thresholds(ufm):
    return isinstance(ufm.loss_function, uf.Ordinal) and ufm.loss_function.thresholds is None


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

    @rule(p=points)
    def saved_and_loaded(self, p):
        with tempfile.TemporaryDirectory() as folder:
            uf.save_point(Path(folder) / "p.npz", self.ufm, p)
            ufm, q = uf.load_point(Path(folder) / "p.npz", threads=self.ufm.threads)
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
