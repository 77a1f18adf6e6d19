"""One measurement of ``ufm-fast inspect``: from files to metrics, and to the comparison with a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ufm_fast as uf

from .._io.files import FileError
from .inspect_files import REFUSALS, Addresses, Chosen, chosen_arrays
from .messages import tell


@dataclass(frozen=True)
class Measurement:
    """Measure what is in files, as the options say.

    Parameters
    ----------
    files : tuple of Path
    addresses : Addresses
    metrics_only : bool
    settings : dict
        Arguments of both `ufm_fast.nc_metrics` and `ufm_fast.inspect`.
    model : dict
        Arguments of `ufm_fast.inspect` alone.
    """

    files: tuple[Path, ...]
    addresses: Addresses
    metrics_only: bool
    settings: dict[str, Any]
    model: dict[str, Any]

    def __call__(
        self, *more: Path, progress: Callable[[int, int], None] | None = None
    ) -> tuple[Chosen, uf.Inspection | uf.NCMetrics]:
        """Measure the arrays in these files and more; print warnings on standard error.

        Raises
        ------
        ValueError, ImportError, OSError
            If the files or the arrays in them are not as they are needed, or too large; names them.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            with chosen_arrays((*more, *self.files), self.addresses, W_needed=not self.metrics_only) as chosen:
                try:
                    found = self._measured(chosen, progress)
                except FileError:
                    raise
                except REFUSALS as error:
                    raise ValueError(chosen.located(str(error))) from error
        where = f"{more[0]}: " if more else ""
        for warning in caught:
            tell(f"{where}{warning.message}")
        return chosen, found

    def _measured(self, chosen: Chosen, progress: Callable[[int, int], None] | None) -> uf.Inspection | uf.NCMetrics:
        if self.metrics_only:
            return uf.nc_metrics(**chosen.arrays, **self.settings, progress=progress)
        return uf.inspect(**chosen.arrays, **self.settings, **self.model, progress=progress)
