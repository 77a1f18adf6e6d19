"""Options shared by the commands that take a problem: use these as annotations of a command's parameters."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._model.losses import MSE, CrossEntropy
from .._optimize.tolerance import smallest_tolerance
from .losses import CONSTRUCTORS

DEFAULT_COUNTS = "cifar100-lt"
DEFAULT_K = 100
DEFAULT_LAMBDA_W = 5e-4
DEFAULT_LAMBDA_B = 1e-2


if TYPE_CHECKING:

    class LossName(str, Enum):
        """The losses by name."""
else:
    LossName = Enum("LossName", [(name, name) for name in CONSTRUCTORS], type=str)
DEFAULT_LOSS = LossName(CrossEntropy.name)
DEFAULT_LOSSES = [DEFAULT_LOSS, LossName(MSE.name)]


class FloatType(str, Enum):
    """The floating-point types by name."""

    float64 = "float64"
    float32 = "float32"


_DATA = "Data"
_MODEL = "Model"
_COMPUTATION = "Computation"
SOLVER = "Solver"

K = Annotated[
    int | None,
    typer.Option(
        "--K",
        help="Number of classes.",
        show_default=f"that of --counts; {DEFAULT_K} with --n",
        rich_help_panel=_DATA,
    ),
]
FeatureDimension = Annotated[
    int | None,
    typer.Option("--d", help="Feature dimension.", show_default="K", rich_help_panel=_DATA),
]
SamplesPerClass = Annotated[
    int | None,
    typer.Option(
        "--n",
        help="Samples in each class; in the largest one with --imbalance.",
        show_default="1 with --K",
        rich_help_panel=_DATA,
    ),
]
Counts = Annotated[
    str | None,
    typer.Option(
        "--counts",
        metavar="NAME|FILE",
        help="Samples in each class: a data set (mnist, cifar10, cifar10-lt, cifar100-lt, places-lt, ...), a text, "
        ".json or .npy file of integers, or a .txt list of images, each with its label.",
        show_default=f"{DEFAULT_COUNTS} unless --K or --n is given",
        rich_help_panel=_DATA,
    ),
]
Imbalance = Annotated[
    float | None,
    typer.Option(
        "--imbalance",
        help="Largest class over smallest, falling exponentially in between.",
        show_default="100 with *-lt, 1 with --n",
        rich_help_panel=_DATA,
    ),
]
Targets = Annotated[
    Path | None,
    typer.Option(
        "--targets",
        metavar="FILE.npz",
        help="Rows with targets in place of classes: labels or a matrix named targets, or what scipy.sparse.save_npz "
        "wrote; if there, n, weights and ridges of the rows.",
        rich_help_panel=_DATA,
    ),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        "--class-weights",
        metavar="balanced|n^POWER|FILE",
        help="How often a sample of each class counts in the loss: as its count to a power, n^-0.5, say (balanced: "
        "n^-1), with mean 1 over all samples; or a file of numbers.",
        rich_help_panel=_DATA,
    ),
]
Loss = Annotated[
    LossName,
    typer.Option(
        "--loss",
        help="Loss of one sample; the last four are cross-entropies with affine logits that follow from the counts.",
        rich_help_panel=_MODEL,
    ),
]
LabelSmoothing = Annotated[
    float, typer.Option("--label-smoothing", help="In [0, 1), with cross_entropy and bce.", rich_help_panel=_MODEL)
]
LossParameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        metavar="KEY=VALUE",
        help="Parameter of the loss: gamma (focal, cdt, vector_scaling), strength (logit_adjusted, vector_scaling), "
        "largest_margin (ldam), scale, shift and margin (cross_entropy; numbers between commas). Repeat for more.",
        rich_help_panel=_MODEL,
    ),
]
LambdaW = Annotated[float, typer.Option("--lambda-W", help="Weight decay of W.", rich_help_panel=_MODEL)]
LambdaH = Annotated[
    float | None,
    typer.Option(
        "--lambda-H",
        help="Weight decay of each sample's feature.",
        show_default="lambda_W / mean samples a class",
        rich_help_panel=_MODEL,
    ),
]
LambdaB = Annotated[
    float | None,
    typer.Option(
        "--lambda-b",
        help="Weight decay of the bias; 0 leaves it free.",
        show_default=f"{DEFAULT_LAMBDA_B:g}",
        rich_help_panel=_MODEL,
    ),
]
NoBias = Annotated[bool, typer.Option("--no-bias", help="A model without a bias.", rich_help_panel=_MODEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Number of threads.",
        show_default="the processors this process may use",
        rich_help_panel=_COMPUTATION,
    ),
]
DType = Annotated[FloatType, typer.Option("--dtype", help="Floating-point type.", rich_help_panel=_COMPUTATION)]
PointFile = Annotated[
    Path,
    typer.Argument(metavar="POINT.npz", help="What ufm-fast solve --output or ufm_fast.save_point wrote."),
]
Tolerance = Annotated[float, typer.Option("--tol", help="Certified relative gap to reach.", rich_help_panel=SOLVER)]
MaxEvaluations = Annotated[
    int | None,
    typer.Option(
        "--max-evaluations", min=1, help="Stop after so many evaluations of the loss.", rich_help_panel=SOLVER
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Save the result as an .npz archive.")]


def check_tolerance(tol: float, K: int) -> None:
    """Refuse tolerances that `ufm_fast.minimize` refuses."""
    least = smallest_tolerance(K)
    if not least <= tol < 1:
        raise typer.BadParameter(f"it must lie between {least:.1e} and 1, not {tol:g}", param_hint="--tol")
