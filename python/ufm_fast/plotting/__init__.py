"""Pictures of results, by matplotlib."""

from .inspection import plot_inspection
from .models import plot_census, plot_solution, plot_spectrum

__all__ = ["plot_census", "plot_inspection", "plot_solution", "plot_spectrum"]
