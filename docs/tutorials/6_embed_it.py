"""
Embed it: SciPy, PyTorch, JAX, PETSc, C++, C
============================================

Solvers and training loops of other people need the loss, its gradient and products with its Hessian. All of the
following call the same C++ core for these; they differ in what a point is and in who asks for the derivatives.

.. list-table::
   :header-rows: 1

   * - In
     - A point is
     - Loss and gradient
     - Product with the Hessian
   * - SciPy
     - a vector, ``ufm.pack(p)``
     - ``ufm.fun_and_grad(x)``
     - ``ufm.hessp(x, v)``, ``ufm.hessian(p)``
   * - PyTorch
     - tensors W, H, b
     - ``backward()`` of ``uf.torch.loss(ufm, W, H, b)``
     - ``torch.func.jvp`` of ``torch.func.grad``
   * - JAX
     - arrays W, H, b
     - ``jax.value_and_grad`` of ``uf.jax.loss``
     - ``jax.jvp`` of ``jax.grad``
   * - PETSc
     - a vector spread over the ranks of MPI
     - ``shard.fun_and_grad(x)``
     - ``shard.hessian(x)``, a shell matrix
   * - C++
     - an array in the order of ``ufm.pack``
     - ``loss_and_gradient``
     - ``hessian_product``
   * - C
     - the same
     - ``ufm_fast_loss_and_gradient``
     - ``ufm_fast_hessian_products``

What says where a solver has stopped belongs to Python, takes a ``uf.Point`` of NumPy arrays, and is the same for all
of them: ``uf.escape`` is the way on from a saddle, ``uf.certify`` the proof of a minimum.
"""

# %%
# SciPy
# -----
#
# A model of ten classes with long-tailed counts. Every solver here starts at the saddle W = H = 0, where the gradient
# vanishes, and stops there at once. ``escape`` gives a point further down, from which the solver goes on, until there
# is none.

import numpy as np
from scipy.optimize import minimize

import ufm_fast as uf

n = uf.counts("cifar10-lt", imbalance=100)
ufm = uf.UFM(K=10, d=10, n=n, lambda_W=2e-3, lambda_H=2e-3 / n.mean(), lambda_b=1e-2)


def certified_minimum(solver):
    """Call a function from points to points until where it stops is certified; print each stop."""
    p = uf.saddle(ufm, rank=0)
    while p is not None:
        end = solver(p)
        certificate = uf.certify(ufm, end)
        print(f"loss {certificate.loss:.8f}, at most {certificate.relative_gap:.0e} of it above the minimum")
        p = uf.escape(ufm, end)
    return end


def by_scipy(p):
    options = {"maxiter": 5000, "maxfun": 5000, "ftol": 1e-14, "gtol": 1e-9}
    return ufm.unpack(minimize(ufm.fun_and_grad, ufm.pack(p), jac=True, method="L-BFGS-B", options=options).x)


end = certified_minimum(by_scipy)

# %%
# There is no preconditioner to set for a minimiser: packed coordinates are scaled well. Eigen-solvers need two more
# things. Eigenvalues are those of all samples in ``coordinates="samples"``; and at a critical point the Hessian
# vanishes on rotations of the feature space, which ``ufm.rotations`` projects on, so that adding it moves them away.

from scipy.sparse.linalg import eigsh

A = ufm.hessian(end, coordinates="samples")
P = ufm.rotations(end, coordinates="samples")
lowest = eigsh(A + P, 1, which="SA", return_eigenvectors=False)[0]
print(f"{P.dimension} rotations; the lowest other eigenvalue is {lowest:.3e}")

# %%
# PyTorch
# -------
#
# ``ufm_fast.torch.loss`` is a function of tensors, differentiable twice, and any optimizer of PyTorch can minimise it.

import torch

import ufm_fast.torch


def by_torch(p):
    point = [torch.from_numpy(part.copy()).requires_grad_() for part in p]
    options = {"max_iter": 3000, "tolerance_grad": 1e-9, "tolerance_change": 0, "history_size": 20}
    optimizer = torch.optim.LBFGS(point, **options, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = uf.torch.loss(ufm, *point)
        value.backward()
        return value

    optimizer.step(closure)
    return uf.Point(*(part.detach().numpy() for part in point))


end = certified_minimum(by_torch)

# %%
# JAX
# ---
#
# ``ufm_fast.jax.loss`` is a function of arrays, differentiable twice, also in compiled programs. A ``uf.Point`` is a
# named tuple, so JAX's functions take it as it is. Here it is gradient descent with momentum, all steps in one program.

import jax

import ufm_fast.jax

jax.config.update("jax_enable_x64", True)  # as the model is
gradient = jax.grad(lambda p: uf.jax.loss(ufm, *p))


@jax.jit
def descend(p):
    def step(_, state):
        p, velocity = state
        velocity = jax.tree.map(lambda v, g: 0.97 * v - g, velocity, gradient(p))
        return jax.tree.map(jax.numpy.add, p, velocity), velocity

    return jax.lax.fori_loop(0, 2000, step, (p, jax.tree.map(jax.numpy.zeros_like, p)))[0]


end = certified_minimum(lambda p: uf.Point(*map(np.asarray, descend(p))))

# %%
# A product with the Hessian is the derivative of the gradient along a direction, in PyTorch (``torch.func``) as here.

direction = ufm.random_point(seed=1)
_, product = jax.jvp(gradient, (end,), (direction,))
print(all(np.allclose(x, y, rtol=1e-12, atol=1e-15) for x, y in zip(product, ufm.hvp(end, direction), strict=True)))

# %%
# C
# -
#
# In C the packed point is an array: W, H and b. This program reads one, descends, and writes where it stops, so that
# Python can say what that is. ``ufm-fast config`` prints the options for the compiler.

import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

PROGRAM = r"""
#include <stdio.h>
#include <ufm_fast.h>

enum { K = 10, D = 10, SIZE = 2 * K * D + K };

int main(void) {
  static const double counts[K] = {5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50};
  static double x[SIZE], velocity[SIZE], gradient[SIZE];
  double value;
  ufm_fast_problem* problem;
  int failed = fread(x, sizeof *x, SIZE, stdin) != SIZE ||
               ufm_fast_new("cross_entropy", K, D, 0, &problem) ||
               ufm_fast_set_decays(problem, 2e-3, 2e-3 / 1240.6, 1e-2, 1) ||
               ufm_fast_set_labels(problem, K, NULL, counts, NULL, NULL);
  for (int step = 0; step < 2000 && !failed; ++step) {
    failed = ufm_fast_loss_and_gradient(problem, x, &value, gradient);
    for (int i = 0; i < SIZE; ++i) x[i] += velocity[i] = 0.97 * velocity[i] - gradient[i];
  }
  if (failed) {
    fprintf(stderr, "%s\n", ufm_fast_message());
    return 1;
  }
  fwrite(x, sizeof *x, SIZE, stdout);
  ufm_fast_free(problem);
  return 0;
}
"""

folder = Path(mkdtemp())
config = [sys.executable, "-m", "ufm_fast", "config", "--cflags", "--libs"]
options = shlex.split(subprocess.run(config, check=True, capture_output=True, text=True).stdout)
(folder / "descend.c").write_text(PROGRAM)
subprocess.run(["cc", "-std=c99", folder / "descend.c", *options, "-o", folder / "descend"], check=True)


def by_c(p):
    done = subprocess.run([folder / "descend"], input=ufm.pack(p).tobytes(), capture_output=True, check=True)
    return ufm.unpack(np.frombuffer(done.stdout))


end = certified_minimum(by_c)

# %%
# C++
# ---
#
# The C++ headers have the same functions, for packed points and for W, H and b apart, as templates without a library
# behind them. This is from the example that minimises by liblbfgs and gets eigenvalues from Spectra:
#
# .. literalinclude:: ../../examples/cpp/solve.cpp
#    :language: cpp
#    :start-at: /// One row of H
#    :end-before: double dot
#
# .. literalinclude:: ../../examples/cpp/solve.cpp
#    :language: cpp
#    :start-at: double evaluate
#    :end-before: void minimise
#
# PETSc
# -----
#
# Under MPI a ``Shard`` spreads the rows of a model over the ranks. TAO's minimisers and SLEPc's eigen-solvers work on
# its vectors; ``tao_solve`` has the loop of escapes, and ``slepc_lowest`` leaves out the rotations. From the example
# ``mpiexec -n 2 python examples/petsc_solve.py``:
#
# .. literalinclude:: ../../examples/petsc_solve.py
#    :pyobject: main
#
# Each host has a page of its own: :doc:`SciPy and other solvers </solvers>`, :doc:`PyTorch </torch>`,
# :doc:`JAX </jax>`, :doc:`PETSc and MPI </distributed>`, :doc:`C++, C and other languages </c_and_cpp>`.
