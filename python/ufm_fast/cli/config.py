"""``ufm-fast config``: what compilers need to know of the installed headers and the C library."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

import ufm_fast as uf


def config(
    cflags: Annotated[bool, typer.Option("--cflags", help="Print the compiler's options for <ufm_fast.h>.")] = False,
    cxxflags: Annotated[
        bool, typer.Option("--cxxflags", help="Print those for <ufm_fast/ufm_fast.hpp>, Eigen's headers included.")
    ] = False,
    libs: Annotated[
        bool, typer.Option("--libs", help="Print the linker's options for libufm_fast, found at run time too.")
    ] = False,
    cmakedir: Annotated[
        bool, typer.Option("--cmakedir", help="Print the folder to pass to CMake as -Dufm_fast_DIR=.")
    ] = False,
) -> None:
    """Print what C and C++ compilers need, as in cc solve.c $(ufm-fast config --cflags --libs)."""
    include, library = uf.get_include(), uf.get_library_dir()
    words = []
    if cflags or cxxflags:
        words.append(f"-I{include}")
    if cxxflags:
        words += [f"-I{include}/eigen3", "-std=c++17"]
    if libs:
        words += [f"-L{library}", "-lufm_fast"]
        if sys.platform != "win32":  # where the folder is to be in PATH
            words.append(f"-Wl,-rpath,{library}")
    if cmakedir:
        words.append(uf.get_cmake_dir())
    if not words:
        raise typer.BadParameter("config needs at least one of --cflags, --cxxflags, --libs and --cmakedir")
    print(shlex.join(words))
