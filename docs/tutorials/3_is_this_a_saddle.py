"""
Is this a saddle?
=================

With d >= K every critical point of a UFM is a global minimum or a *strict* saddle, which some direction of
negative curvature leaves (Gu and Shen 2024, arXiv:2407.10702). ``classify`` tells which, mostly from one
gradient and a few factorisations, with the exact lowest eigenvalue of the Hessian.
"""

# %%
# A saddle of each rank
# ---------------------

import numpy as np

import ufm_fast as uf
from ufm_fast.plotting import plot_census, plot_spectrum

ufm = uf.UFM(K=12, d=12, n=20, lambda_W=1e-3, lambda_H=1e-3, lambda_b=1e-2)
for rank in (0, 4, 8, 10):
    found = uf.classify(ufm, uf.saddle(ufm, rank))
    print(f"rank {found.rank:2}: {found.kind}, loss {found.certificate.loss:.4f}, lowest {found.lowest_eigenvalue:.6f}")

# %%
# The direction comes along: a step along it, either way, lowers the loss.

p = uf.saddle(ufm, 4)
direction = uf.classify(ufm, p).direction
for step in (-1.0, 1.0):
    moved = uf.Point(*(part + step * change for part, change in zip(p, direction, strict=True)))
    print(f"step {step:4}: the loss changes by {ufm.loss(moved) - ufm.loss(p):.2e}")

# %%
# Other people's optimizers stop there
# ------------------------------------
#
# SciPy's Newton-CG, started at W = H = 0, sees a gradient of zero and reports success. ``escape`` is the way on from
# wherever a solver stopped, or None where the point is certified.

from scipy.optimize import minimize

x, escapes = np.zeros(ufm.size), 0
print(minimize(ufm.fun_and_grad, x, jac=True, hessp=ufm.hessp, method="Newton-CG").message)
while (further := uf.escape(ufm, ufm.unpack(x))) is not None:
    found = minimize(ufm.fun_and_grad, ufm.pack(further), jac=True, hessp=ufm.hessp, method="Newton-CG")
    x, escapes = found.x, escapes + 1
print(f"{escapes} escapes; relative gap {uf.certify(ufm, ufm.unpack(x)).relative_gap:.1e}")

# %%
# All curvatures at once
# ----------------------
#
# The density of the Hessian's eigenvalues at the global minimum; where there is a closed form, its eigenvalues are
# marked.

spectrum = uf.spectrum(ufm, uf.global_minimum(ufm).point)
figure = plot_spectrum(spectrum)

# %%
# The landscape, by experiment
# ----------------------------
#
# A census descends from zero, from random points of all scales, and from saddles, and classifies what it meets. In d
# = K dimensions all descents end at the certified minimum; in two dimensions they end at local minima.

wide, flat = (uf.UFM(K=8, d=d, n=5, lambda_W=1e-3, lambda_H=1e-3, lambda_b=1e-2) for d in (8, 2))
census = uf.census([wide, flat], runs=15)
figure_of_census = plot_census(census)
print([row["certified"] for row in census.summary()])
