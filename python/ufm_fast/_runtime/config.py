"""What runs here and why."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any, Literal, overload

from .arguments import choice


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show which compiled module runs and why, the versions, the BLAS and the number of threads.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print the configuration, or return it as a dict that JSON can hold.

    Returns
    -------
    dict or None
        None if ``mode`` is "stdout". The instruction set is one of "baseline", "v3" (AVX2 and FMA), "v4" (AVX-512) and
        "native" (a developer's build).

    Raises
    ------
    ValueError
        If ``mode`` is neither "stdout" nor "dicts".

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.show_config(mode="dicts")["instruction_set"] in ("baseline", "v3", "v4", "native")
    True
    """
    choice(mode, "mode", ("stdout", "dicts"))
    from . import core
    from .threads import get_num_threads

    config = {
        "ufm_fast": version("ufm-fast"),
        "instruction_set": core.isa,
        "instruction_sets_available": list(core.available),
        "instruction_set_reason": core.reason,
        "threads": get_num_threads(),
        "blas": _blas(),
        "eigen": core.eigen_version,
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{name.replace('_', ' '):{width}}  {text}")
    return None


def _blas() -> str:
    """Name the BLAS library that SciPy calls, and through it the compiled core, unless its own products are faster."""
    from scipy import show_config as scipy_config
    from scipy.linalg import cython_blas  # noqa: F401 - loads the library
    from threadpoolctl import threadpool_info

    from .blas import is_outdone, scipys_own

    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    for library in scipys_own(libraries):
        details = " ".join(filter(None, (library["version"], library.get("architecture"))))
        unused = "; the core's own products, with AVX-512, replace it" if is_outdone(libraries) else ""
        return f"{library['internal_api']} {details} ({library['filepath']}{unused})"
    built_with = scipy_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{built_with['name']} {built_with['version']}"
