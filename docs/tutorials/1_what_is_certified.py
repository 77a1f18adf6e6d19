"""
What a UFM is, and what is certified
====================================

Near the end of training, a classification network's last layer takes on a shape that does not depend on the
data: features of a class coincide, class means and classifiers form a simplex. An *unconstrained feature
model* (UFM) explains it: it drops the network before the last layer and treats the features themselves as
free::

    f(W, H, b) = (1/N) sum_i loss(W h_i + b, y_i) + lambda_W/2 |W|^2 + lambda_H/2 sum_i |h_i|^2 + lambda_b/2 |b|^2

With K classes, W has K rows, and features of dimension d are the rows of H.
"""

# %%
# The model
# ---------
#
# Ten classes, of which the first has a hundred times as many samples as the last. A row of H stands for all samples
# of a class, which is exact at every critical point.

import numpy as np

import ufm_fast as uf
from ufm_fast.plotting import plot_solution

n = uf.counts("cifar10-lt", imbalance=100)
ufm = uf.UFM(K=10, d=10, n=n, lambda_W=5e-4, lambda_H=5e-4 / n.mean(), lambda_b=1e-2)
print(n, ufm.N)

# %%
# The minimum
# -----------
#
# The descent here begins at W = H = 0, a critical point where the gradient vanishes: any method that only follows the
# gradient stays there. ``minimize`` leaves it along directions of negative curvature.

zero = ufm.unpack(np.zeros(ufm.size))
result = uf.minimize(ufm, zero)
print(result.message)
print(f"loss {result.fun:.10f} after {result.nfev} evaluations and {result.escapes} escape")
figure = plot_solution(ufm, result)

# %%
# The certificate
# ---------------
#
# How is it known that no other point is lower? In the logits the problem is convex, with the nuclear norm of W H^T in
# place of the two decays, and every point of its dual gives a number below the minimum. The certificate holds the
# best of some such numbers, with an allowance for rounding, and so a bracket that contains the global minimum.

certificate = result.certificate
print(f"{certificate.lower_bound:.12f} <= minimum <= {certificate.loss:.12f}")
print(f"relative gap {certificate.relative_gap:.1e}")

# %%
# The bracket is valid at *every* point, also far from the minimum, where it is wide.

for scale in (1e-3, 1.0, 10.0):
    found = uf.certify(ufm, ufm.random_point(0, scale))
    print(f"scale {scale:6}: {found.lower_bound:.4f} <= minimum <= {found.loss:.4f}")

# %%
# Which points have a gap of zero?
# --------------------------------
#
# At a critical point, all depends on one number: the spectral norm of the gradient G of the data term in the logits.
# It is the threshold tau = sqrt(lambda_W lambda_H) at a global minimum other than zero, and above it at every other
# critical point.

print(f"at the minimum   |G| / tau = {certificate.spectral_norm / certificate.threshold:.9f}")
at_zero = uf.certify(ufm, zero)
print(f"at W = H = 0     |G| / tau = {at_zero.spectral_norm / at_zero.threshold:.3f}")
