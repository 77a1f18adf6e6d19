"""Checks of the tensors that users give."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_FLOATS = (torch.float64, torch.float32)


def check_parts(names: tuple[str, str, str], parts: tuple[Any, Any, Any]) -> None:
    """Refuse what is not on the CPU, or not of float32 or float64, all of one of them; the last part may be None."""
    dtype = getattr(parts[0], "dtype", None)
    for name, part in zip(names, parts, strict=True):
        if part is None and name == names[2]:
            continue
        if not (isinstance(part, Tensor) and part.dtype in _FLOATS and part.dtype == dtype and part.is_cpu):
            _refuse_part(name, part, names[0], dtype)
        if part.layout != torch.strided:
            raise TypeError(f"{name} must be dense, not {part.layout}: {name}.to_dense() converts it")


def _refuse_part(name: str, part: Any, first: str, dtype: Any) -> None:
    _check_place(part, name)
    if part.dtype not in _FLOATS:
        raise TypeError(f"{name} must be float32 or float64, not {part.dtype}: {name}.float() converts it")
    raise TypeError(f"{name} must be {dtype}, as {first} is, not {part.dtype}: {name}.to({dtype}) converts it")


def check_head(H: Tensor, W: Tensor, bias: Tensor | None) -> None:
    """Refuse shapes that do not fit."""
    if W.ndim != 2:
        raise ValueError(f"W must have shape (K, d), not {tuple(W.shape)}")
    if H.ndim == 0 or H.shape[-1] != W.shape[1]:
        raise ValueError(f"H must have shape (..., {W.shape[1]}), as W has, not {tuple(H.shape)}")
    if bias is not None and bias.shape != W.shape[:1]:
        raise ValueError(f"bias must have shape ({W.shape[0]},), not {tuple(bias.shape)}")


def check_labels(labels: Tensor, H: Tensor, W: Tensor) -> bool:
    """Return whether they are numbers for each class, or refuse what is neither that nor labels."""
    _check_constant(labels, "labels")
    soft = labels.dtype in _FLOATS
    if not soft and labels.dtype not in _INTEGERS:
        raise TypeError(f"labels must be integers, or float32 or float64 for targets, not {labels.dtype}")
    wanted = H.shape[:-1] + W.shape[:1] if soft else H.shape[:-1]
    if labels.shape != wanted:
        kind = "targets" if soft else "labels"
        raise ValueError(f"labels must have shape {tuple(wanted)} where they are {kind}, not {tuple(labels.shape)}")
    return soft


def check_weight(weight: Tensor, W: Tensor, refused: bool) -> None:
    """Refuse what is no weight for each class, or any where there are targets or smoothing."""
    _check_constant(weight, "weight")
    if weight.shape != W.shape[:1] or weight.dtype not in _FLOATS:
        wanted = f"({W.shape[0]},) and of float32 or float64"
        raise ValueError(f"weight must be of shape {wanted}, not of {tuple(weight.shape)} and {weight.dtype}")
    if refused:
        raise ValueError("weight must be None for targets and with label_smoothing: it belongs to labels")


def _check_constant(tensor: Tensor, name: str) -> None:
    _check_place(tensor, name)
    if tensor.requires_grad:
        raise ValueError(f"{name} must not require a gradient, which they have none of: {name}.detach() does not")


def _check_place(tensor: Any, name: str) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
    if not tensor.is_cpu:
        raise ValueError(f"{name} must be in main memory, not on {tensor.device}: {name}.cpu() copies it there")
