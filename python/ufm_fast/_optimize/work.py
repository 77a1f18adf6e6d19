"""How much work a run has done."""

from __future__ import annotations


class Work:
    """Counts evaluations, escapes from saddles, and matrix products in units of one K x d x K product.

    Attributes
    ----------
    evaluations, escapes : int
    products : float
    """

    def __init__(self, K: int, d: int, max_evaluations: int) -> None:
        self.K, self.d, self.max_evaluations = K, d, max_evaluations
        self.evaluations = self.escapes = 0
        self.products = 0.0

    @property
    def exhausted(self) -> bool:
        """Whether no evaluation is left."""
        return self.evaluations >= self.max_evaluations

    def charge(self, products: float, columns: int, K: int | None = None) -> None:
        """Add this many K x columns x K products, K being that of the model if none is given."""
        share = 1.0 if K is None else (K / self.K) ** 2
        self.products += share * products * columns / self.d
