"""Ours and the peers: every function here turns a `Work` into a call without arguments that computes it.

An answer is (loss, gradient W, H, b) or (product W, H, b). Peers are written the way their own users are told to, and
whatever need not be repeated at a new point (compilation, conversion of the inputs) is done before the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

import numpy as np

import ufm_fast as uf
import work as numpy_formulas
from work import PRODUCTS, Work

Call = Callable[[], tuple]


def ours_loss_and_grad(work: Work, threads: int) -> Call:
    ufm, point = work.ufm(threads), work.point

    def call():
        loss, gradient = ufm.loss_and_grad(point)
        return loss, *gradient

    return call


def ours_packed(work: Work, threads: int) -> Call:
    ufm = work.ufm(threads)
    x = ufm.pack(work.point)

    def call():
        loss, gradient = ufm.fun_and_grad(x)
        return loss, *ufm.unpack(gradient)

    return call


def ours_hvp(work: Work, threads: int) -> Call:
    return partial(work.ufm(threads).hvp, work.point, work.direction)


def ours_operator(work: Work, threads: int) -> Call:
    ufm = work.ufm(threads)
    operator, v = ufm.hessian(work.point), ufm.pack(work.direction)
    return lambda: ufm.unpack(operator @ v)


def ours_block(work: Work, threads: int) -> Call:
    """Eight vectors at once; the answer is the product with the first."""
    ufm = work.ufm(threads)
    operator, V = ufm.hessian(work.point), _block(ufm, work)
    return lambda: ufm.unpack(np.ascontiguousarray((operator @ V)[:, 0]))


def ours_one_by_one(work: Work, threads: int) -> Call:
    ufm = work.ufm(threads)
    operator, vectors = ufm.hessian(work.point), np.ascontiguousarray(_block(ufm, work).T)

    def call():
        products = [operator @ v for v in vectors]
        return ufm.unpack(products[0])

    return call


def _block(ufm: uf.UFM, work: Work) -> np.ndarray:
    others = np.random.default_rng(2).standard_normal((ufm.size, 7)).astype(work.dtype)
    return np.column_stack([ufm.pack(work.direction), others])


def numpy_loss_and_grad(work: Work, threads: int) -> Call:
    return partial(numpy_formulas.loss_and_grad, *work.point, work.labels, work.decay, work.M)


def numpy_hvp(work: Work, threads: int) -> Call:
    return partial(numpy_formulas.hvp, *work.point, work.labels, work.decay, *work.direction, work.M)


def products_alone(work: Work, threads: int) -> Call:
    """The matrix products of the algebra, by NumPy's BLAS into arrays that are there already; no answer."""
    G = np.empty((work.M, work.K), work.dtype)
    gradient_W, gradient_H = np.empty_like(work.point.W), np.empty_like(work.point.H)
    products = [
        partial(np.matmul, *factors, out=out)
        for W, H, _ in (work.point, work.direction)
        for *factors, out in ((H, W.T, G), (G.T, H, gradient_W), (G, W, gradient_H))
    ]
    needed = list(islice(cycle(products), PRODUCTS[work.quantity]))

    def call():
        for product in needed:
            product()

    return call


def _torch_inputs(work: Work, threads: int):
    import torch

    torch.set_num_threads(threads)
    point = tuple(torch.tensor(array, requires_grad=True) for array in work.point)
    direction = tuple(torch.tensor(array) for array in work.direction)
    return point, direction, torch.tensor(work.labels)


def _torch_loss(labels, decay, cross_entropy):
    def loss(W, H, b):
        return cross_entropy(W, H, b, labels) + decay / 2 * (W.square().sum() + H.square().sum())

    return loss


def torch_plain(W, H, b, labels):
    from torch.nn import functional

    return functional.cross_entropy(functional.linear(H, W, b), labels)


def torch_chunked(W, H, b, labels):
    from torch.nn import LinearCrossEntropyOptions, functional

    return functional.linear_cross_entropy(H, W, labels, linear_bias=b, options=LinearCrossEntropyOptions())


def torch_loss_and_grad(cross_entropy: Callable, compiled: bool, work: Work, threads: int) -> Call:
    import torch

    point, _, labels = _torch_inputs(work, threads)
    loss = _torch_loss(labels, work.decay, cross_entropy)
    if compiled:
        torch._dynamo.reset()
        loss = torch.compile(loss, dynamic=False)

    def call():
        value = loss(*point)
        return value.detach(), *torch.autograd.grad(value, point)

    if compiled:
        call()  # compiles
    return call


def torch_double_backward(work: Work, threads: int, *, repeated: bool = False) -> Call:
    import torch

    point, direction, labels = _torch_inputs(work, threads)
    loss = _torch_loss(labels, work.decay, torch_plain)

    def gradient():
        return torch.autograd.grad(loss(*point), point, create_graph=True)

    if not repeated:
        return lambda: torch.autograd.grad(gradient(), point, direction)
    kept = gradient()
    return lambda: torch.autograd.grad(kept, point, direction, retain_graph=True)


def torch_jvp_of_grad(work: Work, threads: int) -> Call:
    import torch

    point, direction, labels = _torch_inputs(work, threads)
    point = tuple(array.detach() for array in point)
    gradient = torch.func.grad(_torch_loss(labels, work.decay, torch_plain), argnums=(0, 1, 2))
    return lambda: torch.func.jvp(gradient, point, direction)[1]


def curvlinops_hvp(work: Work, threads: int) -> Call:
    import torch
    from curvlinops import HessianLinearOperator

    point, direction, labels = _torch_inputs(work, threads)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.H, self.b = (torch.nn.Parameter(array.detach()) for array in point)

        def forward(self, samples):
            return torch.nn.functional.linear(self.H, self.W, self.b)

    model = Model()
    data = [(torch.zeros(work.M, 1), labels)]
    loss = torch.nn.CrossEntropyLoss()
    operator = HessianLinearOperator(model, loss, list(model.parameters()), data, check_deterministic=False)
    decays = work.decay, work.decay, 0.0

    def call():
        product = operator @ list(direction)
        return tuple(part.add_(v, alpha=decay) for part, v, decay in zip(product, direction, decays, strict=True))

    return call


def _jax_inputs(work: Work):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    point, direction = (tuple(map(jnp.asarray, arrays)) for arrays in (work.point, work.direction))
    labels, decay = jnp.asarray(work.labels), work.decay

    def loss(point):
        W, H, b = point
        log_probabilities = jax.nn.log_softmax(H @ W.T + b)
        mean = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()
        return mean + decay / 2 * ((W * W).sum() + (H * H).sum())

    return jax, loss, point, direction


def jax_loss_and_grad(work: Work, threads: int) -> Call:
    jax, loss, point, _ = _jax_inputs(work)
    function = jax.jit(jax.value_and_grad(loss)).lower(point).compile()

    def call():
        value, gradient = jax.block_until_ready(function(point))
        return value, *gradient

    return call


def jax_jvp_of_grad(work: Work, threads: int) -> Call:
    jax, loss, point, direction = _jax_inputs(work)
    function = jax.jit(lambda p, v: jax.jvp(jax.grad(loss), (p,), (v,))[1]).lower(point, direction).compile()
    return lambda: jax.block_until_ready(function(point, direction))


def jax_linearized(work: Work, threads: int) -> Call:
    jax, loss, point, direction = _jax_inputs(work)
    _, product = jax.jit(lambda p: jax.linearize(jax.grad(loss), p))(point)
    function = jax.jit(lambda product, v: product(v)).lower(product, direction).compile()
    return lambda: jax.block_until_ready(function(product, direction))


OURS = "ufm-fast"
TORCH, TORCH_CHUNKED, TORCH_COMPILED = "PyTorch", "PyTorch chunked", "PyTorch compiled"
ONE_BY_ONE = "ufm-fast, one by one"
PRODUCTS_ALONE = "the products alone"

IMPLEMENTATIONS: dict[str, dict[str, Callable[[Work, int], Call]]] = {
    "loss+grad": {
        OURS: ours_loss_and_grad,
        "NumPy": numpy_loss_and_grad,
        TORCH: partial(torch_loss_and_grad, torch_plain, False),
        TORCH_CHUNKED: partial(torch_loss_and_grad, torch_chunked, False),
        TORCH_COMPILED: partial(torch_loss_and_grad, torch_plain, True),
        "JAX": jax_loss_and_grad,
        PRODUCTS_ALONE: products_alone,
    },
    "loss+grad, packed": {OURS: ours_packed},
    "HVP": {
        OURS: ours_hvp,
        "NumPy": numpy_hvp,
        "PyTorch double backward": torch_double_backward,
        "PyTorch jvp of grad": torch_jvp_of_grad,
        "curvlinops": curvlinops_hvp,
        "JAX jvp of grad": jax_jvp_of_grad,
        PRODUCTS_ALONE: products_alone,
    },
    "HVP, repeated": {
        OURS: ours_operator,
        "PyTorch double backward, graph kept": partial(torch_double_backward, repeated=True),
        "JAX linearized": jax_linearized,
    },
    "block HVP": {OURS: ours_block, ONE_BY_ONE: ours_one_by_one, PRODUCTS_ALONE: products_alone},
}
SWEPT = OURS, TORCH, TORCH_CHUNKED, "JAX"


def library(name: str) -> str:
    """Whose process an implementation runs in."""
    first = re.split("[ ,]", name)[0]
    return {"the": "NumPy", "curvlinops": TORCH}.get(first, first)
