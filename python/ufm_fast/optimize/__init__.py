"""Certified global minimisation."""

from .global_minimum import Solution, global_minimum
from .minimize import ConvergenceWarning, minimize

__all__ = ["ConvergenceWarning", "Solution", "global_minimum", "minimize"]
