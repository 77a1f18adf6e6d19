"""What runs here and why, and where the C++ headers are."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, overload

from .arguments import choice


def _installed(directory: str) -> str:
    # An editable install keeps the Python files in the checkout; what CMake installed lies beside the compiled modules.
    from . import _cpu

    return str(Path(_cpu.__file__).parent.parent / directory)


def get_include() -> str:
    """Return the directory of the headers, for ``#include <ufm_fast/ufm_fast.hpp>`` in C++ and ``<ufm_fast.h>`` in C.

    Its subdirectory ``eigen3`` holds the headers of ``<Eigen/Dense>`` for this kind of processor, which those of C++
    need: add it to the include path too, unless the project brings its own Eigen, as one must that includes other
    modules of Eigen or lets it call BLAS, LAPACK or a GPU.

    Examples
    --------
    >>> from pathlib import Path
    >>> import ufm_fast as uf
    >>> Path(uf.get_include()).name
    'include'
    """
    return _installed("include")


def get_library_dir() -> str:
    """Return the directory of ``libufm_fast``, the shared library of the C functions in ``ufm_fast.h``.

    Beside it are its parts, one for each instruction-set level; it loads the one that suits the machine.

    Examples
    --------
    >>> from pathlib import Path
    >>> import ufm_fast as uf
    >>> Path(uf.get_library_dir()).name
    'lib'
    """
    return _installed("lib")


def get_cmake_dir() -> str:
    """Return the directory of the CMake configuration: pass it as ``-Dufm_fast_DIR=`` for ``find_package(ufm_fast)``.

    The package defines the target ``ufm_fast::ufm_fast``, which is the C++ headers, ``ufm_fast::native``, the same with
    the flags that make them fast on the machine that compiles, and ``ufm_fast::c``, the shared library.

    Examples
    --------
    >>> from pathlib import Path
    >>> import ufm_fast as uf
    >>> Path(uf.get_cmake_dir()).name
    'cmake'
    """
    return _installed("cmake")


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
