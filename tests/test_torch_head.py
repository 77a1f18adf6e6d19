"""The loss of a batch as a function of tensors, against torch.nn.functional."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch.autograd import functional, gradcheck, gradgradcheck  # noqa: E402
from torch.func import grad, hessian, jvp, vmap  # noqa: E402

import ufm_fast.torch  # noqa: E402
from ufm_fast.torch import linear_cross_entropy  # noqa: E402

K, D, N = 5, 3, 7
RNG = torch.Generator().manual_seed(0)


def randn(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=RNG, dtype=dtype)


H0, W0, B0 = randn(N, D), randn(K, D), randn(K)
LABELS = torch.tensor([0, 1, -100, 3, 4, 2, 2])
SOFT = randn(N, K).softmax(1)
CLASSES = randn(K).exp()
CASES = {
    "labels": (LABELS, {}),
    "smoothed": (LABELS, {"label_smoothing": 0.1}),
    "weighted": (LABELS, {"weight": CLASSES}),
    "soft": (SOFT, {"label_smoothing": 0.2}),
    "all kept": (LABELS.clamp(0), {"ignore_index": 3}),
}


def plain(H, W, labels, bias=None, **options):
    return F.cross_entropy(F.linear(H, W, bias), labels, **options)


def parts(bias=True):
    return tuple(part.clone().requires_grad_() for part in ((H0, W0, B0) if bias else (H0, W0)))


def both(labels, options):
    return [lambda H, W, *bias, f=f: f(H, W, labels, *bias, **options) for f in (linear_cross_entropy, plain)]


def assert_same(found, expected, rtol=1e-11, atol=1e-13):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_are_those_of_torch(case, reduction, bias):
    labels, options = CASES[case]
    ours, theirs = both(labels, {**options, "reduction": reduction})
    x = parts(bias)
    assert_same(ours(*x), theirs(*x))
    scale = randn(*ours(*x).shape)  # of either sign
    if reduction == "none":
        scale[:2] = 0
    found, expected = (torch.autograd.grad(f(*x), x, scale, create_graph=True) for f in (ours, theirs))
    assert_same(found, expected)
    v = tuple(map(torch.randn_like, x))
    assert_same(*(torch.autograd.grad(g, x, v) for g in (found, expected)))
    x = tuple(part.detach() for part in x)
    squares = [lambda *x, f=f: (f(*x) ** 2).sum() for f in (ours, theirs)]
    assert_same(*(jvp(f, x, v)[1] for f in (ours, theirs)))
    argnums = tuple(range(len(x)))
    for derivative in (
        lambda f: hessian(f, argnums)(*x),
        lambda f: grad(lambda *x: jvp(f, x, v)[1], argnums)(*x),
        lambda f: functional.hvp(f, x, v),
    ):
        assert_same(*map(derivative, squares))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", ["mse", uf.BinaryCrossEntropy(0.1), uf.CrossEntropy(margin=range(K)), uf.Focal(1.5)])
def test_derivatives_of_other_losses(loss, reduction):
    def f(*x):
        return linear_cross_entropy(*x[:2], LABELS, x[2], loss=loss, reduction=reduction)

    assert gradcheck(f, parts(), check_forward_ad=True)
    assert gradgradcheck(f, parts(), check_fwd_over_rev=True)


@given(
    st.lists(st.integers(0, 3), min_size=0, max_size=3),
    st.sampled_from(["mean", "sum", "none"]),
    st.sampled_from(["labels", "soft"]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_any_number_of_leading_dimensions(shape, reduction, kind, dtype):
    """None of them, too, and no rows at all."""
    H = torch.randn(*shape, D, dtype=dtype, requires_grad=True)
    W = torch.randn(K, D, dtype=dtype, requires_grad=True)
    labels = torch.randint(K, shape, dtype=torch.int32) if kind == "labels" else torch.rand(*shape, K).double()
    labels = labels / labels.sum(-1, keepdim=True) if kind == "soft" else labels
    if reduction == "mean" and not labels.numel():
        with pytest.raises(ValueError, match="labels must leave some rows"):
            linear_cross_entropy(H, W, labels)
        return
    value = linear_cross_entropy(H, W, labels, reduction=reduction)
    targets = labels.flatten().long() if kind == "labels" else labels.reshape(-1, K).to(dtype)
    expected = plain(H.reshape(-1, D), W, targets, reduction=reduction)
    assert value.dtype == dtype
    assert value.shape == (tuple(shape) if reduction == "none" else ())
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    assert_same(value.reshape(expected.shape), expected, **tolerance)
    found, wanted = (torch.autograd.grad(f.sum(), (H, W)) for f in (value, expected))
    assert_same(found, wanted, **tolerance)


def test_rows_that_are_left_out():
    x = parts()
    ignored = torch.full((N,), -100)
    for reduction in ("sum", "none"):
        value = linear_cross_entropy(*x[:2], ignored, x[2], reduction=reduction)
        assert not value.any()
        assert not any(part.any() for part in torch.autograd.grad(value.sum(), x))
    with pytest.raises(ValueError, match="all are left out"):
        linear_cross_entropy(*x[:2], ignored, x[2])
    with pytest.raises(ValueError, match="weights must be finite"):
        linear_cross_entropy(*x[:2], ignored, x[2], weight=CLASSES)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 5\), but sample 2 has -100"):
        linear_cross_entropy(*x[:2], LABELS, x[2], ignore_index=None)


def test_masks_multiply_the_losses_of_rows():
    """As language models have it; rows of weight zero get no gradient."""
    H, W, b = randn(2, 4, D).requires_grad_(), W0.clone().requires_grad_(), B0
    labels, mask = torch.randint(K, (2, 4)), torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1]])
    found = (linear_cross_entropy(H, W, labels, b, reduction="none") * mask).sum() / mask.sum()
    expected = plain(H.flatten(0, 1), W, labels.where(mask > 0, -100).flatten(), b)
    assert_same(found, expected)
    assert_same(torch.autograd.grad(found, (H, W)), torch.autograd.grad(expected, (H, W)))


def test_features_without_gradient():
    """As where a network below is frozen."""
    x = H0, W0.clone().requires_grad_(), B0
    (found,) = torch.autograd.grad(linear_cross_entropy(*x[:2], LABELS, x[2]), x[1])
    (expected,) = torch.autograd.grad(plain(*x[:2], LABELS, x[2]), x[1])
    assert_same(found, expected)
    assert not linear_cross_entropy(H0, W0, LABELS).requires_grad


def test_vmap_over_heads():
    heads = randn(3, K, D)
    f = lambda W, H, labels: linear_cross_entropy(H, W, labels)  # noqa: E731
    assert_same(vmap(grad(f), (0, None, None))(heads, H0, LABELS), torch.stack([grad(f)(W, H0, LABELS) for W in heads]))
    batches, labels = randn(3, N, D), torch.randint(K, (3, N))
    found = vmap(f, (None, 0, 0))(W0, batches, labels)
    assert_same(found, torch.stack([f(W0, *batch) for batch in zip(batches, labels, strict=True)]))


def test_training_under_autocast():
    """What autocast makes of the features is refused, as PyTorch's own losses are computed in float32."""
    layer, head = torch.nn.Linear(4, D), torch.nn.Linear(D, K)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        H = layer(torch.randn(N, 4))
        with pytest.raises(
            TypeError, match=r"H must be float32 or float64, not torch.bfloat16: H.float\(\) converts it"
        ):
            linear_cross_entropy(H, head.weight, LABELS, head.bias)
        value = linear_cross_entropy(H.float(), head.weight, LABELS, head.bias)
    value.backward()
    assert value.dtype == head.weight.grad.dtype == torch.float32
    assert layer.weight.grad.any()


def test_labels_from_loaders():
    """Of any integer type, and copied by workers."""
    data = torch.utils.data.TensorDataset(H0, LABELS.clamp(0).to(torch.uint8))
    values = [linear_cross_entropy(H, W0, labels) for H, labels in torch.utils.data.DataLoader(data, batch_size=3)]
    expected = [plain(H, W0, labels.long()) for H, labels in torch.utils.data.DataLoader(data, batch_size=3)]
    assert_same(values, expected)


def test_labels_have_no_derivative():
    with pytest.raises(ValueError, match="labels must not require a gradient"):
        linear_cross_entropy(H0, W0, SOFT.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="labels and weights are constants"):
        jvp(lambda T: linear_cross_entropy(H0, W0, T), (SOFT,), (SOFT,))
    with pytest.raises(ValueError, match="weight must not require a gradient"):
        linear_cross_entropy(H0, W0, LABELS, weight=CLASSES.clone().requires_grad_())


REFUSED = {
    "half": ({"H": H0.half()}, TypeError, "H must be float32 or float64, not torch.float16"),
    "mixed": ({"W": W0.float()}, TypeError, "W must be torch.float64, as H is, not torch.float32"),
    "bias": ({"bias": B0[1:]}, ValueError, r"bias must have shape \(5,\), not \(4,\)"),
    "bias's type": ({"bias": B0.float()}, TypeError, "bias must be torch.float64, as H is"),
    "order": ({"H": W0, "W": H0}, ValueError, r"bias must have shape \(7,\), not \(5,\)"),
    "W": ({"W": W0[0]}, ValueError, r"W must have shape \(K, d\), not \(3,\)"),
    "H": ({"H": H0.t()}, ValueError, r"H must have shape \(\.\.\., 3\), as W has, not \(3, 7\)"),
    "H alone": ({"H": H0[0, 0]}, ValueError, r"H must have shape \(\.\.\., 3\), as W has, not \(\)"),
    "labels": ({"labels": LABELS[:3]}, ValueError, r"labels must have shape \(7,\) where they are labels, not \(3,\)"),
    "targets": ({"labels": SOFT[:, 1:]}, ValueError, r"labels must have shape \(7, 5\) where they are targets"),
    "no distribution": ({"labels": 2 * SOFT}, ValueError, "sums to 2"),
    "strange label": ({"labels": LABELS.clamp(0) + 2}, ValueError, r"labels must lie in \[0, 5\), but sample 3"),
    "bool": ({"labels": LABELS > 0}, TypeError, "labels must be integers, or float32 or float64 for targets, not"),
    "array": ({"labels": LABELS.numpy()}, TypeError, "labels must be a torch.Tensor, not ndarray"),
    "meta": ({"labels": LABELS.to("meta")}, ValueError, "labels must be in main memory, not on meta"),
    "weight": ({"weight": CLASSES[1:]}, ValueError, r"weight must be of shape \(5,\) and of float32 or fl"),
    "weight, soft": ({"labels": SOFT, "weight": CLASSES}, ValueError, "weight must be None for targets and wi"),
    "reduction": ({"reduction": "average"}, ValueError, "reduction must be 'mean', 'sum' or 'none'"),
    "smoothing": ({"label_smoothing": 1.0}, ValueError, r"label_smoothing must lie in \[0, 1\)"),
    "smoothing twice": ({"loss": "mse", "label_smoothing": 0.1}, ValueError, "label_smoothing must be 0 for the loss"),
    "threads": ({"threads": 0}, ValueError, "threads must be between 1"),
    "NaN": ({"W": W0 * torch.nan}, ValueError, "W must be finite"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        linear_cross_entropy(**({"H": H0, "W": W0, "labels": LABELS, "bias": B0} | change))


def test_gradients_that_are_not_finite():
    value = linear_cross_entropy(*parts()[:2], LABELS, reduction="none")
    with pytest.raises(ValueError, match="weights must be finite"):
        value.backward(torch.full((N,), np.nan, dtype=torch.float64))


def test_examples_of_docstrings():
    found = doctest.testmod(ufm_fast.torch)
    assert found.attempted >= 10
    assert found.failed == 0
