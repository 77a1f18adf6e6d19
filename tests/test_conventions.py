"""The page on conventions, against PyTorch's own losses: the factor before the decays of each."""

import numpy as np
import pytest

import ufm_fast as uf

torch = pytest.importorskip("torch")

K, D, COUNTS = 4, 3, np.array([6, 3, 2, 1])
N, LABELS, DECAY, FEATURE_DECAY = 12, np.repeat(np.arange(4), COUNTS), 3e-3, 2e-3
WEIGHTS = np.array([1.0, 2.0, 0.5, 4.0])
ONE_HOT = np.eye(K)[LABELS]
CASES = {  # loss of PyTorch, targets, what it is times ours, our model
    "mean": (torch.nn.CrossEntropyLoss(), LABELS, 1, {}),
    "smoothing": (torch.nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, 1, {"loss": uf.CrossEntropy(0.1)}),
    "weights": (
        torch.nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS)),
        LABELS, 1, {"weights": WEIGHTS * N / (COUNTS @ WEIGHTS)},
    ),
    "sum": (torch.nn.CrossEntropyLoss(reduction="sum"), LABELS, N, {}),
    "mse": (torch.nn.MSELoss(), ONE_HOT, 2 / K, {"loss": "mse"}),
    "mse sum": (torch.nn.MSELoss(reduction="sum"), ONE_HOT, 2 * N, {"loss": "mse"}),
    "bce": (torch.nn.BCEWithLogitsLoss(), ONE_HOT, 1 / K, {"loss": "bce"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_sgd_is_a_gradient_step_of_the_model(name):
    """Weight decay of SGD and a penalty on the mean square of a batch's features, divided by the factor."""
    criterion, targets, factor, model = CASES[name]
    rng = np.random.default_rng(0)
    p = uf.Point(*(rng.standard_normal(shape) for shape in ((K, D), (N, D), K)))
    W, H, b = (torch.tensor(part, requires_grad=True) for part in p)
    step = torch.optim.SGD([{"params": [W, b], "weight_decay": DECAY}, {"params": [H]}], lr=1.0)
    (criterion(H @ W.T + b, torch.tensor(targets)) + FEATURE_DECAY / 2 * (H**2).sum(1).mean()).backward()
    step.step()
    decays = {"lambda_W": DECAY, "lambda_b": DECAY, "lambda_H": FEATURE_DECAY / N}
    scaled = {key: value / factor for key, value in decays.items()}
    _, gradient = uf.UFM(K, D, COUNTS, collapse=False, **scaled, **model).loss_and_grad(p)
    for before, after, slope in zip(p, (W, H, b), gradient, strict=True):
        np.testing.assert_allclose(before - after.detach().numpy(), factor * slope, rtol=1e-12, atol=1e-14)
