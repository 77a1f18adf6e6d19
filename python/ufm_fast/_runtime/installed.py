"""Where the headers, the C library and the CMake package are."""

from __future__ import annotations

from pathlib import Path


def _installed(directory: str) -> str:
    # An editable install keeps the Python files in the checkout; what CMake installed lies beside the compiled module.
    from . import _core

    return str(Path(_core.__file__).parent.parent / directory)


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
