"""The loss of a model as a function of tensors: derivatives of both modes against the core's, and what is refused."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ufm_fast as uf

torch = pytest.importorskip("torch")
from torch.autograd import forward_ad, functional, gradcheck, gradgradcheck  # noqa: E402
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap  # noqa: E402

from ufm_fast.torch import loss  # noqa: E402

COUNTS = [4, 3, 2, 1]
DECAYS = {"lambda_W": 0.1, "lambda_H": 0.05, "lambda_b": 0.2}
LOSSES = {
    "cross-entropy": "cross_entropy",
    "smoothed": uf.CrossEntropy(0.1),
    "affine": uf.CrossEntropy(scale=[1, 2, 0.5, 1], shift=[0.1, 0, -1, 0], margin=[0.5, 0, 0.1, 1]),
    "squared error": "mse",
    "binary": uf.BinaryCrossEntropy(0.1),
    "focal": uf.Focal(2.0),
    "ordinal": uf.Ordinal([-1.0, 0.0, 1.5]),
}
MODELS = {
    **{name: uf.UFM(4, 3, COUNTS, loss=function, **DECAYS) for name, function in LOSSES.items()},
    "samples": uf.UFM(4, 3, COUNTS, collapse=False, **DECAYS),
    "no bias": uf.UFM(4, 3, COUNTS, bias=False, **DECAYS),
    "rows": uf.UFM(4, 3, targets=np.random.default_rng(0).dirichlet(np.ones(4), 5), n=[1, 2, 3, 4, 5], **DECAYS),
}
MODEL = MODELS["cross-entropy"]


def tensors(ufm, seed=0, requires_grad=True):
    p = ufm.random_point(seed, scale=0.7)
    return tuple(torch.from_numpy(part).requires_grad_(requires_grad) for part in (p if ufm.bias else p[:2]))


def of(ufm):
    return lambda *parts: loss(ufm, *parts)


def point(ufm, parts):
    parts = [part.detach().numpy() for part in parts]
    return uf.Point(*parts, *([] if ufm.bias else [np.zeros(ufm.layout.biases, ufm.dtype)]))


def product(ufm, parts, v):
    return tuple(map(torch.from_numpy, ufm.hvp(point(ufm, parts), point(ufm, v))))[: len(parts)]


def assert_same(found, expected, **tolerances):
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, **({"rtol": 1e-12, "atol": 1e-14} | tolerances))


@pytest.mark.parametrize("ufm", MODELS.values(), ids=MODELS)
def test_derivatives_by_differences(ufm):
    """By both modes, of value and gradient."""
    parts = tensors(ufm)
    assert gradcheck(of(ufm), parts, check_forward_ad=True)
    assert gradgradcheck(of(ufm), parts, check_fwd_over_rev=True)


@pytest.mark.parametrize("ufm", MODELS.values(), ids=MODELS)
def test_derivatives_are_those_of_the_core(ufm):
    parts, v, f = tensors(ufm), tensors(ufm, 1, False), of(ufm)
    value, gradient = ufm.loss_and_grad(point(ufm, parts))
    found = loss(ufm, *parts)
    found.backward()
    assert found.item() == value
    assert found.dtype == torch.float64
    expected = tuple(map(torch.from_numpy, gradient))[: len(parts)]
    assert all(torch.equal(part.grad, wanted) for part, wanted in zip(parts, expected, strict=True))

    x, wanted = tuple(part.detach() for part in parts), product(ufm, parts, v)
    argnums = tuple(range(len(x)))
    gradient = grad(f, argnums)
    assert_same(gradient(*x), expected)
    assert_same(jvp(gradient, x, v)[1], wanted)
    assert_same(vjp(gradient, *x)[1](v), wanted)
    assert_same(grad(lambda *x: jvp(f, x, v)[1], argnums)(*x), wanted)
    assert_same(functional.hvp(f, x, v)[1], wanted)
    assert_same(functional.vhp(f, x, v)[1], wanted)
    slope = sum((a * b).sum() for a, b in zip(expected, v, strict=True))
    assert_same([jvp(f, x, v)[1], functional.jvp(f, x, v)[1]], [slope, slope])


def test_hessians_of_torch():
    """`torch.func.hessian` and the others, which use vmap, against the operator's matrix."""
    x = tensors(MODEL, requires_grad=False)
    A = torch.from_numpy(MODEL.hessian(point(MODEL, x)) @ np.eye(MODEL.size))
    sizes = [part.numel() for part in x]
    blocks = [list(rows.split(sizes, 1)) for rows in A.split(sizes)]
    f, argnums = of(MODEL), (0, 1, 2)
    for found in (
        hessian(f, argnums)(*x),
        jacrev(jacrev(f, argnums), argnums)(*x),
        jacrev(jacfwd(f, argnums), argnums)(*x),
        functional.hessian(f, x),
    ):
        for i in range(3):
            assert_same([found[i][j].reshape(sizes[i], sizes[j]) for j in range(3)], blocks[i])
    with pytest.raises(RuntimeError, match="atching rule"):  # another kind of batches, PyTorch's old one
        functional.hessian(f, x, vectorize=True)


def test_dual_tensors():
    """Forward mode without `torch.func`, through the backward pass, too, which records nothing."""
    x, v = tensors(MODEL), tensors(MODEL, 1, False)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(part, direction) for part, direction in zip(x, v, strict=True)]
        value = loss(MODEL, *duals)
        gradient = torch.autograd.grad(value, duals)
        assert forward_ad.unpack_dual(value).tangent is not None
        assert_same([forward_ad.unpack_dual(part).tangent for part in gradient], product(MODEL, x, v))
        scale = forward_ad.make_dual(torch.ones((), dtype=torch.float64), torch.full((), 3, dtype=torch.float64))
        value = loss(MODEL, *x)
        gradient = torch.autograd.grad(value, x, scale)
        tangents = [forward_ad.unpack_dual(part).tangent for part in gradient]
        assert_same(tangents, [3 * forward_ad.unpack_dual(part).primal for part in gradient])


@pytest.mark.parametrize("arranged", ["jvp jvp jvp", "jvp jvp", "jvp of vmap jvp"])
def test_forward_mode_is_not_nested(arranged):
    """PyTorch would leave out the outer derivative without a word (its issue 197867)."""
    x, v = tensors(MODEL, requires_grad=False), tensors(MODEL, 1, False)
    f = of(MODEL)
    once = lambda *x: jvp(f, x, v)[1]  # noqa: E731
    twice = {
        "jvp jvp jvp": lambda *x: jvp(once, x, v)[1],
        "jvp jvp": once,
        "jvp of vmap jvp": lambda *x: vmap(lambda s: jvp(f, x, tuple(s * t for t in v))[1])(torch.ones(2)).sum(),
    }[arranged]
    with pytest.raises(RuntimeError, match=r"torch\.func\.jvp of torch\.func\.grad"):
        jvp(twice, x, v)
    with pytest.raises(RuntimeError, match=r"torch\.func\.jvp of torch\.func\.grad"):
        jacfwd(jacfwd(f))(*x)


def test_third_derivatives_are_errors():
    x, v, f = tensors(MODEL), tensors(MODEL, 1, False), of(MODEL)
    gradient = torch.autograd.grad(loss(MODEL, *x), x, create_graph=True)
    second = torch.autograd.grad(gradient, x, v, create_graph=True)
    with pytest.raises(RuntimeError, match="no third"):
        second[0].sum().backward()
    detached = tuple(part.detach() for part in x)
    multiplied = lambda *x: jvp(grad(f), x, v)[1].sum()  # noqa: E731
    with pytest.raises(RuntimeError, match="no third"):
        grad(multiplied)(*detached)
    with pytest.raises(RuntimeError, match="no third"):
        jvp(lambda *x: vjp(grad(f), *x)[1](v[0])[0], detached, v)


def test_a_hessian_product_is_linear():
    """It is differentiable in the direction, and the gradient in what it is multiplied by."""
    x, v, u = tensors(MODEL), tensors(MODEL, 1), tensors(MODEL, 2, False)
    gradient = torch.autograd.grad(loss(MODEL, *x), x, create_graph=True)
    found = torch.autograd.grad(gradient, x, v, create_graph=True)
    assert_same(torch.autograd.grad(found, v, u), product(MODEL, x, u))
    a = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(loss(MODEL, *x), x, a, create_graph=True)
    slope = torch.autograd.grad(gradient, a, u, create_graph=True)[0]
    assert_same(torch.autograd.grad(slope, x), product(MODEL, x, u))


def test_scaled_and_accumulated():
    x = tensors(MODEL)
    expected = torch.autograd.grad(loss(MODEL, *x), x)
    value = 3 * loss(MODEL, *x)
    value.backward(retain_graph=True)
    value.backward()
    (loss(MODEL, *x) * torch.tensor(-1.0)).backward()
    assert_same([part.grad for part in x], [5 * part for part in expected])
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_gradients_may_be_changed_between_backward_passes():
    """They are no memory of the graph."""
    x = tensors(MODEL)
    value = loss(MODEL, *x)
    value.backward(retain_graph=True)
    expected = [part.grad.clone() for part in x]
    for part in x:
        part.grad.zero_()
    value.backward()
    assert_same([part.grad for part in x], expected)


@pytest.mark.parametrize("index", range(3))
def test_some_gradients_alone(index):
    x = list(tensors(MODEL, requires_grad=False))
    x[index].requires_grad_()
    (found,) = torch.autograd.grad(loss(MODEL, *x), x[index], create_graph=True)
    expected = torch.from_numpy(MODEL.loss_and_grad(point(MODEL, x))[1][index])
    assert_same([found], [expected])
    v = [torch.zeros_like(part) for part in x]
    v[index] = expected
    assert_same(torch.autograd.grad(found, x[index], expected), [product(MODEL, x, v)[index]])


def test_no_gradient_costs_no_gradient(monkeypatch):
    ufm = uf.UFM(4, 3, COUNTS, **DECAYS)
    monkeypatch.setattr(uf.UFM, "loss_and_grad", None)
    x = tensors(ufm)
    with torch.no_grad():
        value = loss(ufm, *x)
    assert not value.requires_grad
    with torch.inference_mode():
        assert loss(ufm, *x) == value
        assert loss(ufm, *(part.clone() for part in x)) == value
    assert loss(ufm, *(part.detach() for part in x)) == value


def test_changes_before_the_backward_pass_are_noticed():
    x = tensors(MODEL)
    value = loss(MODEL, *x)
    with torch.no_grad():
        x[0].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_hooks_and_inner_nodes():
    x = tensors(MODEL)
    W = 2 * x[0]
    seen = []
    W.register_hook(seen.append)
    W.retain_grad()
    loss(MODEL, W, *x[1:]).backward()
    assert torch.equal(seen[0], W.grad)
    assert torch.equal(x[0].grad, 2 * W.grad)


def test_memory_is_shared(monkeypatch):
    ufm = uf.UFM(4, 3, COUNTS, **DECAYS)
    seen, loss_and_grad = [], uf.UFM.loss_and_grad
    monkeypatch.setattr(uf.UFM, "loss_and_grad", lambda self, p: seen.append(p) or loss_and_grad(self, p))
    x = tensors(ufm)
    loss(ufm, *x).backward()
    assert [part.ctypes.data for part in seen[0]] == [part.data_ptr() for part in x]


def test_other_layouts_are_copied():
    x = tensors(MODEL, requires_grad=False)
    expected = torch.autograd.functional.jacobian(of(MODEL), x)
    turned = [x[0].t().contiguous().t(), torch.stack([x[1]] * 2, -1)[..., 0], torch.stack([x[2]] * 3, 1)[:, 1]]
    assert not any(part.is_contiguous() for part in turned)
    found = torch.autograd.functional.jacobian(of(MODEL), tuple(turned))
    assert_same(found, expected)
    assert torch.func.grad(of(MODEL))(*turned).shape == x[0].shape


def test_single_precision():
    ufm = uf.UFM(4, 3, COUNTS, dtype="float32", **DECAYS)
    x, v = tensors(ufm), tensors(ufm, 1, False)
    value = loss(ufm, *x)
    gradient = torch.autograd.grad(value, x, create_graph=True)
    found = torch.autograd.grad(gradient, x, v)
    assert {part.dtype for part in (value, *gradient, *found)} == {torch.float32}
    precise = tuple(part.detach().double() for part in x)
    assert_same(found, product(ufm, x, v), rtol=0, atol=0)
    expected = product(MODEL, precise, [part.double() for part in v])
    assert_same([part.double() for part in found], expected, rtol=1e-4, atol=1e-5)


def test_vmap_takes_one_after_the_other():
    x = tensors(MODEL, requires_grad=False)
    many = torch.stack([x[0], 2 * x[0], -x[0]])
    f = of(MODEL)
    found = vmap(grad(f), (0, None, None))(many, *x[1:])
    assert_same(found, [grad(f)(W, *x[1:]) for W in many])
    found = vmap(f, (2, None, None))(many.movedim(0, 2), *x[1:])
    assert_same(found, [loss(MODEL, W, *x[1:]) for W in many])


def test_lbfgs_ends_at_the_minimum():
    ufm = uf.UFM(4, 4, COUNTS, lambda_W=0.02, lambda_H=0.01, lambda_b=0.05)
    x = tensors(ufm)
    tolerances = {"tolerance_grad": 1e-9, "tolerance_change": 0}
    optimizer = torch.optim.LBFGS(x, max_iter=300, line_search_fn="strong_wolfe", **tolerances)

    def closure():
        optimizer.zero_grad()
        value = loss(ufm, *x)
        value.backward()
        return value

    optimizer.step(closure)
    assert uf.certify(ufm, point(ufm, x)).is_global(1e-10)


def test_threads_and_copies():
    ufm = copy.deepcopy(pickle.loads(pickle.dumps(MODEL)))
    x = tensors(MODEL, requires_grad=False)
    expected = grad(of(MODEL), (0, 1, 2))(*x)

    def work(_):
        parts = tuple(part.clone().requires_grad_() for part in x)
        loss(ufm, *parts).backward()
        return [part.grad for part in parts]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(20)):
            assert_same(found, expected)


W0, H0, B0 = tensors(MODEL, requires_grad=False)
REFUSED = {
    "half": ((W0.half(), H0, B0), TypeError, r"W must be float32 or float64, not torch.float16: W.float\(\) converts"),
    "bfloat16": ((W0, H0.bfloat16(), B0), TypeError, r"H must be float32 or float64, not torch.bfloat16: H.float\(\)"),
    "ints": ((W0.long(), H0, B0), TypeError, "W must be float32 or float64, not torch.int64"),
    "complex": ((W0.cfloat(), H0, B0), TypeError, "W must be float32 or float64, not torch.complex64"),
    "mixed": ((W0, H0.float(), B0), TypeError, r"H must be torch.float64, as W is, not torch.float32: H.to\(torch.f"),
    "model's": ((W0.float(), H0.float(), B0.float()), TypeError, "W must be a C-contiguous float64 array"),
    "array": ((W0.numpy(), H0, B0), TypeError, "W must be a torch.Tensor, not ndarray"),
    "meta": ((W0, H0.to("meta"), B0), ValueError, "H must be in main memory, not on meta"),
    "sparse": ((W0.to_sparse(), H0, B0), TypeError, "W must be dense, not torch.sparse_coo"),
    "shape": ((W0[1:], H0, B0), ValueError, r"W must be a C-contiguous float64 array of shape \(4, 3\)"),
    "transposed": ((W0, H0.t(), B0), ValueError, r"H must be a C-contiguous float64 array of shape \(4, 3\)"),
    "NaN": ((W0, H0 * torch.nan, B0), ValueError, "H must be finite, but entry 0"),
    "no bias": ((W0, H0), ValueError, "b must be given: the model has a bias"),
}  # fmt: skip


@pytest.mark.parametrize(("parts", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(parts, error, message):
    with pytest.raises(error, match=message):
        loss(MODEL, *parts)


def test_more_that_is_refused():
    with pytest.raises(ValueError, match="b must be None: the model has no bias"):
        loss(MODELS["no bias"], W0, H0, B0)
    with pytest.raises(TypeError, match="ufm must be a UFM, not 'model'"):
        loss("model", W0, H0, B0)
    with pytest.raises(FloatingPointError, match="overflow"):
        loss(MODEL, 1e200 * W0, H0, B0)
    x = tensors(MODEL)
    gradient = torch.autograd.grad(loss(MODEL, *x), x, create_graph=True)
    with pytest.raises(ValueError, match="must be finite"):
        torch.autograd.grad(gradient, x, [torch.nan * part for part in x])


def test_gradients_given_away_are_not_used_again():
    """In graphs that are kept: what the caller does with a gradient changes no later one, of any order."""
    x, v = tensors(MODEL), tensors(MODEL, 1, False)
    expected, products = torch.autograd.grad(loss(MODEL, *x), x), product(MODEL, x, v)
    value = loss(MODEL, *x)
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    doubled = torch.autograd.grad(value, x, a, create_graph=True)
    for scale in (1.0, 3.0, 1.0):
        found = torch.autograd.grad(value, x, torch.tensor(scale, dtype=torch.float64), retain_graph=True)
        assert_same(found, [scale * part for part in expected])
        for part in found:
            part.fill_(torch.nan)
    again = torch.autograd.grad(value, x, create_graph=True)
    assert_same([part.detach() for part in again], expected)
    assert_same(torch.autograd.grad(again, x, v, retain_graph=True), products)
    slope, *seconds = torch.autograd.grad(doubled, (a, *x), v)
    assert_same([slope], [sum((p * q).sum() for p, q in zip(expected, v, strict=True))])
    assert_same(seconds, [2 * part for part in products])


def test_gradients_are_handed_over_without_a_copy(monkeypatch):
    ufm, made, loss_and_grad = uf.UFM(4, 3, COUNTS, **DECAYS), [], uf.UFM.loss_and_grad

    def watched(self, p):
        value, gradient = loss_and_grad(self, p)
        made.extend(part.ctypes.data for part in gradient)
        return value, gradient

    monkeypatch.setattr(uf.UFM, "loss_and_grad", watched)
    x = tensors(ufm)
    (2 * loss(ufm, *x)).backward()
    assert [part.grad.data_ptr() for part in x] == made


def test_defaults_of_torch_do_not_matter():
    x = tensors(MODEL)
    expected = torch.autograd.grad(loss(MODEL, *x), x)
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float16)
    try:
        found = torch.autograd.grad(loss(MODEL, *x), x)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert_same(found, expected, rtol=0, atol=0)
