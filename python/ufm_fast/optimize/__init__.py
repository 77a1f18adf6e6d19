"""Certified global minimisation."""

from ._global_minimum import Solution, global_minimum
from ._minimize import ConvergenceWarning, minimize

__all__ = ["ConvergenceWarning", "Solution", "global_minimum", "minimize"]
