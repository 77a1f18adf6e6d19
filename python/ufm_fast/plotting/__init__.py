"""Pictures of results, by matplotlib."""

from .inspection import plot_inspection
from .models import plot_census, plot_solution, plot_spectrum
from .paths import plot_path

__all__ = ["plot_census", "plot_inspection", "plot_path", "plot_solution", "plot_spectrum"]
