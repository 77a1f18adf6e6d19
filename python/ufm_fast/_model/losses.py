"""Losses of a UFM, as functions of one sample's K logits.

All that depends on the loss is asked of its object or, where the answer is a calculation of a higher floor (a dual
problem, a closed form), looked up in a table there by the object's class; where there is no answer, there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from .._runtime.arguments import choice, real_number, real_numbers, shown
from .._runtime.arrays import Array
from .grouped import GroupedCrossEntropy
from .loss import Loss, Parameters, change_of_entropy
from .ordinal import Ordinal


@dataclass(frozen=True, repr=False)
class CrossEntropy(Loss):
    """Cross-entropy, optionally with label smoothing and with affine logits.

    The loss of logits z with label k is ``logsumexp(a) - <t, a>`` with the target
    ``t = (1 - label_smoothing) e_k + label_smoothing / K`` (Zhou et al. 2022, arXiv 2210.02192) and the affine logits

        a_j = scale_j z_j + shift_j,   less margin_k at the label: a_k = scale_k z_k + shift_k - margin_k.

    `ufm_fast.losses` makes those of long-tailed learning: logit adjustment, LDAM, CDT and VS.

    Parameters
    ----------
    label_smoothing : float
        In [0, 1). NumPy's scalars become floats.
    scale, shift, margin : K real numbers, optional
        The scale is positive; a margin needs labels for targets. They become tuples of floats.

    Raises
    ------
    TypeError
        If an argument is not of real numbers.
    ValueError
        If ``label_smoothing`` lies outside [0, 1), a scale is not positive, or a number is not finite.

    Notes
    -----
    A shift by the same number in all classes changes nothing, whatever the scale. Moreover, with a bias without decay
    every shift is without effect but on the bias, which becomes b - shift / scale: loss, W and H of the minimum stay.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> loss = uf.CrossEntropy(label_smoothing=0.1)
    >>> uf.minimize(uf.UFM(4, 4, n=[50, 20, 10, 5], loss=loss, lambda_W=1e-3, lambda_H=1e-4)).success
    True
    """

    label_smoothing: float = 0.0
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    margin: tuple[float, ...] | None = None
    name: ClassVar[str] = "cross_entropy"
    title: ClassVar[str] = "cross-entropy"
    has_logsumexp: ClassVar[bool] = True
    convex: ClassVar[bool] = True
    saturates: ClassVar[bool] = True

    def __init__(
        self,
        label_smoothing: float = 0.0,
        scale: ArrayLike | None = None,
        shift: ArrayLike | None = None,
        margin: ArrayLike | None = None,
    ) -> None:
        smoothing = real_number(label_smoothing, "label_smoothing", least=0, below=1)
        object.__setattr__(self, "label_smoothing", smoothing)
        for name, value, above in (("scale", scale, 0.0), ("shift", shift, -math.inf), ("margin", margin, -math.inf)):
            object.__setattr__(self, name, None if value is None else real_numbers(value, name, above=above))

    def __repr__(self) -> str:
        given = {"label_smoothing": self.label_smoothing, **self._vectors}
        return f"CrossEntropy({', '.join(f'{name}={shown(value)}' for name, value in given.items())})"

    @property
    def _vectors(self) -> dict[str, tuple[float, ...]]:
        vectors = {"scale": self.scale, "shift": self.shift, "margin": self.margin}
        return {name: vector for name, vector in vectors.items() if vector is not None}

    @property
    def parameters(self) -> Parameters:
        """The label smoothing, and which of scale, shift and margin are given."""
        return {"label_smoothing": self.label_smoothing, **{name: list(x) for name, x in self._vectors.items()}}

    def check(self, K: int) -> None:
        """Raise ValueError if scale, shift or margin are given for another number of classes."""
        for name, vector in self._vectors.items():
            if len(vector) != K:
                raise ValueError(
                    f"{name} must hold a number for each of the K = {K} classes, not {len(vector)} numbers"
                )

    def describe(self) -> str:
        """Return a name with the label smoothing, if there is any, and the ranges of scale, shift and margin."""
        smoothed = f" smoothed by {self.label_smoothing:g}" if self.label_smoothing else ""
        vectors = [f"{name} {min(x):.3g} to {max(x):.3g}" for name, x in self._vectors.items()]
        return self.title + smoothed + (" with " if vectors else "") + ", ".join(vectors)

    def prepared(self, targets: Array) -> Array:
        """Return the smoothed targets."""
        smoothed: Array = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
        return smoothed

    @property
    def curvature(self) -> float:
        """Half the largest squared scale: that of D (diag(p) - p p^T) D, where diag(p) - p p^T has at most 1/2."""
        return 0.5 * max(self.scale or (1.0,)) ** 2

    @property
    def least_curvature(self) -> float:
        """Zero, along the invariant direction."""
        return 0.0

    @property
    def treats_classes_alike(self) -> bool:
        """Whether neither scale, shift nor margin are given."""
        return not self._vectors

    def aligns(self, withheld: float) -> bool:
        """Whether classes are treated alike and smoothing does not keep much more from labels than the decays do."""
        return self.treats_classes_alike and self.label_smoothing <= 16 * withheld

    @property
    def offset(self) -> float:
        """The largest shift and the largest margin over the largest scale."""
        sizes = [max(abs(x) for x in vector) for vector in (self.shift, self.margin) if vector is not None]
        return sum(sizes) / max(self.scale or (1.0,))

    def invariant_direction(self, K: int) -> Array:
        """Return 1 / scale: ones without a scale."""
        return np.ones(K) if self.scale is None else 1 / np.array(self.scale)

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        Then no affine logit moves by more than the error times the largest scale: see `change_of_entropy`.
        """
        error *= max(self.scale or (1.0,))
        if not labels:
            return 2 * weight * error
        return change_of_entropy(value, error, self.label_smoothing, weight)


@dataclass(frozen=True)
class MSE(Loss):
    """Half the squared error, ``|z - e_k|^2 / 2`` for logits z with label k (Zhou et al. 2022, arXiv 2203.01238).

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(4, 4, n=[50, 20, 10, 5], loss=uf.MSE(), lambda_W=1e-3, lambda_H=1e-4)
    >>> uf.global_minimum(ufm).method
    'closed_form'
    """

    name: ClassVar[str] = "mse"
    title: ClassVar[str] = "squared error"
    convex: ClassVar[bool] = True
    saturates: ClassVar[bool] = False
    has_best_bias: ClassVar[bool] = True

    @property
    def curvature(self) -> float:
        """One, everywhere."""
        return 1.0

    @property
    def least_curvature(self) -> float:
        """One, everywhere."""
        return 1.0

    def best_bias(self, scores: Array, targets: Array, weights: Array, lambda_b: float, guess: Array) -> Array:
        """Return the weighted mean of the residuals, shrunk by the decay."""
        bias: Array = weights @ (targets - scores) / (weights.sum() + lambda_b)
        return bias

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        By the inequality of Cauchy and Schwarz, since the residuals' weighted squares sum to twice the value.
        """
        return (math.sqrt(2 * K * weight * value) + weight * K * error / 2) * error


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Binary cross-entropy, one class against all others, for one label or several.

    The loss of logits z with targets T in [0, 1], one at the label or labels, is ``sum_c softplus(z_c) - t_c z_c`` with
    ``t = (1 - label_smoothing) T + label_smoothing / 2``. It is PyTorch's ``BCEWithLogitsLoss(reduction="none")``
    summed over classes, not averaged.

    Parameters
    ----------
    label_smoothing : float
        In [0, 1).

    Raises
    ------
    TypeError
        If ``label_smoothing`` is not a real number.
    ValueError
        If ``label_smoothing`` lies outside [0, 1).

    Examples
    --------
    >>> import ufm_fast as uf
    >>> several_labels = [[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]]
    >>> ufm = uf.UFM(3, 4, targets=several_labels, loss=uf.BinaryCrossEntropy(), lambda_W=1e-2, lambda_H=1e-2)
    >>> uf.minimize(ufm).success
    True
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "bce"
    title: ClassVar[str] = "binary cross-entropy"
    convex: ClassVar[bool] = True
    saturates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        smoothing = real_number(self.label_smoothing, "label_smoothing", least=0, below=1)
        object.__setattr__(self, "label_smoothing", smoothing)

    @property
    def parameters(self) -> Parameters:
        """The label smoothing."""
        return {"label_smoothing": self.label_smoothing}

    def describe(self) -> str:
        """Return a name with the label smoothing, if there is any."""
        return self.title + (f" smoothed by {self.label_smoothing:g}" if self.label_smoothing else "")

    def prepared(self, targets: Array) -> Array:
        """Return the smoothed targets."""
        smoothed: Array = (1 - self.label_smoothing) * targets + self.label_smoothing / 2
        return smoothed

    @property
    def curvature(self) -> float:
        """A quarter: that of softplus at zero."""
        return 0.25

    @property
    def least_curvature(self) -> float:
        """Zero, far out."""
        return 0.0

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        With p_c the probability of class c and a the label smoothing, |p_c - t_c| <= |p_c - T_c| + a/2. The loss of
        class c is a mean of those of T_c and of 1 - T_c with weights 1 - a/2 and a/2, both of which are positive, and
        for labels that of T_c is at least |p_c - T_c|, as -log(1 - x) >= x. The second derivative in a logit is at most
        1/4. Besides, |p_c - t_c| <= 1.
        """
        most = weight * K
        if not labels:
            return most * error
        slope = value / (1 - self.label_smoothing / 2) + self.label_smoothing / 2 * most
        return min(slope + most * error / 8, most) * error


@dataclass(frozen=True)
class Focal(Loss):
    """The focal loss (Lin et al. 2017, arXiv 1708.02002; Zhou et al. 2022, arXiv 2210.02192).

    The loss of logits z with label k is ``-(1 - p_k)^gamma log(p_k)`` with the softmax p of z. For gamma = 0 it is
    cross-entropy; for gamma > 0 it is not convex, so that nothing is certified, and a model can have local minima that
    are not global. Targets are labels.

    Parameters
    ----------
    gamma : float
        Not negative.

    Raises
    ------
    TypeError, ValueError
        If it is not such a number.

    Notes
    -----
    As a function of u = log p_k, whose gradient is v = e_k - p, its derivatives are, with q = 1 - p_k and
    x = -u / q >= 1: first -A, ``A = q^gamma (1 + gamma p_k x)``, and second
    ``B = gamma p_k q^(gamma - 1) (2 + u + (gamma - 1) p_k x)``. So the gradient is ``-A v`` and the second derivative
    ``B v v^T + A (diag(p) - p p^T)``. As p_k x <= 1, by log y <= y - 1, the bounds follow that are used here:
    ``A <= (1 + gamma) q^gamma`` and ``B q^2 <= gamma max(2, gamma + 1) p_k q^(gamma + 1)``.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(4, 4, n=10, loss=uf.Focal(gamma=2), lambda_W=1e-3, lambda_H=1e-4)
    >>> ufm.loss(ufm.random_point(0)) > 0
    True
    """

    gamma: float
    name: ClassVar[str] = "focal"
    title: ClassVar[str] = "focal loss"
    has_logsumexp: ClassVar[bool] = True
    convex: ClassVar[bool] = False
    gradient_tells_state: ClassVar[bool] = False
    saturates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", real_number(self.gamma, "gamma", least=0))

    @property
    def parameters(self) -> Parameters:
        """The exponent gamma."""
        return {"gamma": self.gamma}

    def describe(self) -> str:
        """Return a name with gamma."""
        return f"{self.title} with gamma {self.gamma:g}"

    @property
    def _largest_B(self) -> float:
        """A bound on B q^2, see Notes: p q^(gamma + 1) is largest at p = 1 / (gamma + 2)."""
        gamma = self.gamma
        largest: float = ((gamma + 1) / (gamma + 2)) ** (gamma + 1) / (gamma + 2)
        return gamma * max(2.0, gamma + 1) * largest

    @property
    def curvature(self) -> float:
        """A bound: A (diag(p) - p p^T) has at most (1 + gamma) / 2, and B v v^T at most 2 B q^2, as |v|^2 <= 2 q^2."""
        return (1 + self.gamma) / 2 + 2 * self._largest_B

    @property
    def least_curvature(self) -> float:
        """A bound.

        Where B q^2 is negative it is at least gamma p_k (u + s) with s = 2 - max(0, 1 - gamma), and p (log p + s) has
        the least value -exp(-1 - s).
        """
        return -2 * self.gamma * math.exp(-3 + max(0.0, 1 - self.gamma))

    def invariant_direction(self, K: int) -> Array:
        """Return ones."""
        return np.ones(K)

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        A sample's gradient has absolute entries that add up to 2 A q <= 2 (1 + gamma) q^(gamma + 1), which is at most
        2 (1 + gamma) times its loss, as -log p_k >= q, and at most 2 (1 + gamma). For a move of this size the
        inner product with v is at most 2 q error and the variance under p at most error^2. So its second derivative is
        at most A + 4 B q^2 times error^2, and at least -4 gamma exp(-2) error^2 (see `least_curvature`), which is less.
        """
        second = 1 + self.gamma + 4 * self._largest_B
        slope = 2 * (1 + self.gamma) * value + weight * second * error / 2
        return min(slope, 2 * (1 + self.gamma) * weight) * error


LOSSES: dict[str, type[Loss]] = {cls.name: cls for cls in (CrossEntropy, MSE, BinaryCrossEntropy, Focal, Ordinal)}


def parameters_of(cls: type[Loss]) -> dict[str, Any]:
    """Return the parameters of a class of losses by name, with their defaults; `MISSING` where there is none."""
    return {field.name: field.default for field in fields(cls)}  # type: ignore[arg-type]  # all are dataclasses


def names_alone() -> list[str]:
    """Return the names of the losses that need no parameter."""
    return [name for name, cls in LOSSES.items() if MISSING not in parameters_of(cls).values()]


def as_loss(loss: str | Loss) -> Loss:
    """Return the loss object that a name or an object stands for; what is derived from a loss is another loss."""
    if isinstance(loss, str):
        if loss in LOSSES and loss not in names_alone():
            raise ValueError(f"loss {loss!r} needs parameters: give {_call(LOSSES[loss])} in place of its name")
        return LOSSES[choice(loss, "loss", names_alone())]()
    if type(loss) not in (*LOSSES.values(), GroupedCrossEntropy):
        names = " or ".join(cls.__name__ for cls in LOSSES.values())
        raise TypeError(f"loss must be a name, or of the class {names}, not of the class {type(loss).__name__}")
    return loss


def _call(cls: type[Loss]) -> str:
    return f"{cls.__name__}({', '.join(parameters_of(cls))})"


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Give a loss in JSON's types: its name under "loss", and its parameters."""
    return {"loss": loss.name, **loss.parameters}


def described_loss(description: Mapping[str, Any]) -> Loss:
    """Make the loss that `describe_loss` described; other keys are ignored.

    Raises
    ------
    TypeError, ValueError
        If there is no such loss, or a parameter is missing or refused.
    """
    cls = LOSSES[choice(description["loss"], "loss", list(LOSSES))]
    parameters = parameters_of(cls)
    missing = [name for name, default in parameters.items() if default is not None and name not in description]
    if missing:
        raise ValueError(f"the description of the loss lacks {', '.join(missing)}")
    return cls(**{name: description[name] for name in parameters if name in description})
