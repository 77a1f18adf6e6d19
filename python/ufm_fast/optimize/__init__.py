"""Certified global minimisation."""

from .._warnings import ConvergenceWarning
from ._global_minimum import Solution, global_minimum
from ._minimize import minimize, smallest_tolerance

__all__ = ["ConvergenceWarning", "Solution", "global_minimum", "minimize", "smallest_tolerance"]
