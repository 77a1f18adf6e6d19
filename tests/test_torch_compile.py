"""torch.compile and torch.export take the losses as operators that they do not look into."""

import pytest

import ufm_fast as uf

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch.func import grad, jvp, linearize  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

from ufm_fast.torch import linear_cross_entropy, loss  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BACKENDS = ("eager", "aot_eager")
K, D = 5, 3
DECAYS = {"lambda_W": 0.1, "lambda_H": 0.05, "lambda_b": 0.2}
MODELS = [uf.UFM(K, D, n, **DECAYS) for n in (1, 2)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    torch.compiler.reset()
    return request.param


def tensors(ufm=MODELS[0], seed=0):
    return tuple(torch.from_numpy(part).requires_grad_() for part in ufm.random_point(seed, scale=1.0))


def test_models(backend):
    """Another model is another function, and the first comes back."""
    compiled = torch.compile(lambda ufm, *x: 2 * loss(ufm, x[0].sin(), *x[1:]), backend=backend, fullgraph=True)
    x = tensors()
    for ufm in (*MODELS, MODELS[0]):
        value, expected = compiled(ufm, *x), 2 * loss(ufm, x[0].sin(), *x[1:])
        assert torch.equal(value, expected)
        found, wanted = (torch.autograd.grad(f, x) for f in (value, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-15)
    with torch.no_grad():
        assert torch.equal(compiled(MODELS[1], *x), 2 * loss(MODELS[1], x[0].sin(), *x[1:]))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_heads(backend, reduction):
    """For any size of batch, after two of them."""
    compilations = []

    def counted(graph, example):
        compilations.append(graph)
        return graph if backend == "eager" else torch._dynamo.lookup_backend(backend)(graph, example)

    def f(H, W, b, labels):
        return (
            2 * linear_cross_entropy(H.relu(), W, labels, b, reduction=reduction, weight=W.detach()[:, 0] ** 2)
        ).sum()

    compiled = torch.compile(f, backend=counted, fullgraph=True)
    W, b = torch.randn(K, D, requires_grad=True), torch.randn(K, requires_grad=True)
    for count in (4, 5, 6, 7):
        x = torch.randn(count, 2, D, requires_grad=True), W, b
        labels = torch.randint(K, (count, 2))
        found, expected = (torch.autograd.grad(g(*x, labels), x) for g in (compiled, f))
        torch.testing.assert_close(found, expected)
    assert len(compilations) == 2


def test_other_losses(backend):
    margins = uf.CrossEntropy(margin=range(K))
    compiled = torch.compile(
        lambda H, W, y: linear_cross_entropy(H, W, y, loss=margins), backend=backend, fullgraph=True
    )
    H, W, y = torch.randn(4, D), torch.randn(K, D), torch.randint(K, (4,))
    assert torch.equal(compiled(H, W, y), linear_cross_entropy(H, W, y, loss=margins))


def test_derivatives_inside(backend):
    """Of both modes: Dynamo would forget the rules of forward mode (PyTorch's issue 192985) if it looked inside."""
    x, v = (tuple(part.detach() for part in tensors(seed=seed)) for seed in (0, 1))
    f = lambda *x: loss(MODELS[0], *x)  # noqa: E731
    for derivative in (
        lambda *x: grad(f, (0, 1, 2))(*x),
        lambda *x: jvp(f, x, v)[1],
        lambda *x: jvp(grad(f, (0, 1, 2)), x, v)[1],
        lambda *x: grad(lambda *x: jvp(f, x, v)[1], (0, 1, 2))(*x),
    ):
        compiled = torch.compile(derivative, backend=backend, fullgraph=True)
        torch.testing.assert_close(compiled(*x), derivative(*x), rtol=1e-13, atol=1e-14)


def test_second_derivatives_from_outside():
    """Where the backward pass is not compiled they are right, and elsewhere PyTorch refuses them."""
    x, v = tensors(), tuple(part.detach() for part in tensors(seed=1))
    expected = MODELS[0].hvp(*(uf.Point(*(part.detach().numpy() for part in p)) for p in (x, v)))
    for backend in BACKENDS:
        torch.compiler.reset()
        compiled = torch.compile(lambda *x: loss(MODELS[0], *x), backend=backend, fullgraph=True)
        value = compiled(*x)
        if backend == "eager":
            gradient = torch.autograd.grad(value, x, create_graph=True)
            found = torch.autograd.grad(gradient, x, v)
            torch.testing.assert_close(found, tuple(map(torch.from_numpy, expected)), rtol=1e-13, atol=1e-14)
        else:
            with pytest.raises(RuntimeError, match=r"create_graph|double backward"):
                torch.autograd.grad(torch.autograd.grad(value, x, create_graph=True), x, v)


def test_sizes_that_are_symbols(backend):
    compiled = torch.compile(
        lambda H, W, y: linear_cross_entropy(H, W, y), backend=backend, fullgraph=True, dynamic=True
    )
    W = torch.randn(K, D)
    for count in (1, 3):
        H, y = torch.randn(count, D), torch.randint(K, (count,))
        torch.testing.assert_close(compiled(H, W, y), F.cross_entropy(H @ W.T, y))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # linearize's own
def test_tracing_makes_no_constants():
    """`make_fx`, and `linearize`, which is made of it, record operators and not what NumPy computed."""
    x, u = (tuple(part.detach() for part in tensors(seed=seed)) for seed in range(2))
    f = lambda *x: loss(MODELS[0], *x)  # noqa: E731
    gradient = grad(f, (0, 1, 2))
    for function in (f, gradient, lambda *x: jvp(gradient, x, x)[1]):
        torch.testing.assert_close(make_fx(function)(*x)(*u), function(*u), rtol=1e-14, atol=1e-15)
    for function in (f, gradient):
        torch.testing.assert_close(linearize(function, *x)[1](*u), jvp(function, x, u)[1], rtol=1e-13, atol=1e-14)


def test_errors_name_arguments(backend):
    compiled = torch.compile(lambda H, W, y: linear_cross_entropy(H, W, y), backend=backend)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 5\)"):
        compiled(torch.randn(4, D), torch.randn(K, D), torch.full((4,), K))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(D, K)

    def forward(self, H, labels):
        return linear_cross_entropy(H, self.head.weight, labels, self.head.bias)


def test_export(monkeypatch):
    """For this process: another one may have other models."""
    network, batch = Network(), (torch.randn(4, D), torch.randint(K, (4,)))
    exported = torch.export.export(network, batch).module()
    torch.testing.assert_close(exported(*batch), F.cross_entropy(network.head(batch[0]), batch[1]))
    monkeypatch.setattr("ufm_fast.torch.compiled._terms", {})
    with pytest.raises(RuntimeError, match="exported in another process"):
        exported(*batch)


def test_operators_pass_the_checks_of_torch():
    """Their declared shapes and that they change no input."""
    from ufm_fast.torch.compiled import number_of
    from ufm_fast.torch.terms import Head

    number = number_of(Head, "cross_entropy", 0.0, -100, "none", None)
    summed = number_of(Head, "cross_entropy", 0.0, -100, "sum", None)
    x = torch.randn(K, D), torch.randn(4, D), torch.randn(K)
    labels, tests = torch.randint(K, (4,)), ("test_schema", "test_faketensor")
    for name, arguments in {
        "value": (number, labels, None, *x),
        "value_and_gradient": (summed, labels, torch.ones(4), *x),
        "scaled": (torch.tensor(2.0), *x, *x),
        "product": (summed, labels, None, *x[:2], None, *x[:2], None),
        "along": (number, labels, *x, *x),
    }.items():
        torch.library.opcheck(getattr(torch.ops.ufm_fast, name), arguments, test_utils=tests)
