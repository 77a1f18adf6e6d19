"""Warnings of the package."""


class ConvergenceWarning(UserWarning):
    """A solver stopped before its result was certified to, or had, the tolerance."""
