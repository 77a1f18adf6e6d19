"""Imports and includes go one way: no package needs one above or beside it, and none uses another's private names."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import ufm_fast

# From the lowest floor to the highest. What shares a floor is independent of each other.
PYTHON_FLOORS = (
    ("_runtime",),
    ("_io",),
    ("_numerics",),
    ("_model",),
    ("_certify",),
    ("_exact",),
    ("_curvature",),
    ("_optimize",),
    ("_landscape", "_networks"),
)
TOP = len(PYTHON_FLOORS)  # plotting and the adapters, which may use the public names; the program stands above them
CPP_FLOORS = (("base",), ("simd",), ("blas",), ("losses",), ("model", "statistics"), ("spectral",))
DOCUMENTED = {"_asdict", "_replace", "_make", "_fields", "_field_defaults", "_exit"}  # of named tuples, and of os

PYTHON = Path(ufm_fast.__file__).parent
CPP = Path(__file__).parents[1] / "cpp" / "include" / "ufm_fast"


class Import(NamedTuple):
    """A line of ``source`` that needs ``target``, and the names that it takes from it; both are paths of names."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    names: tuple[str, ...]
    place: str


def floor_of(module: tuple[str, ...]) -> int:
    if not module:  # the package itself, whose lazy names lead anywhere
        return TOP
    for floor, packages in enumerate(PYTHON_FLOORS):
        if module[0] in packages:
            return floor
    return TOP + {"cli": 1, "__main__": 2}.get(module[0], 0)


def modules_of(package: Path) -> dict[tuple[str, ...], Path]:
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


def imports_of(package: Path) -> list[Import]:
    """Find all imports of a package's own modules, those inside functions and for type checkers included."""
    modules = modules_of(package)
    found = []
    for source, path in modules.items():
        home = source if path.name == "__init__.py" else source[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(package.parent)}:{getattr(node, 'lineno', 0)}"
            for target, names in targets_of(node, home, package.name):
                inner = [name for name in names if (*target, name) in modules]  # modules, taken from their package
                found += [Import(source, (*target, name), (), place) for name in inner]
                others = tuple(name for name in names if name not in inner)
                if others or not names:
                    found.append(Import(source, target, others, place))
    return found


def targets_of(node: ast.AST, home: tuple[str, ...], package: str) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the modules of the package that an import statement names, and what it takes from each."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            root, *rest = alias.name.split(".")
            if root == package:
                yield tuple(rest), ()
    elif isinstance(node, ast.ImportFrom):
        words = tuple(node.module.split(".")) if node.module else ()
        names = tuple(alias.name for alias in node.names)
        if node.level:
            yield (*home[: len(home) - node.level + 1], *words), names
        elif words[:1] == (package,):
            yield words[1:], names


def climbs(package: Path) -> list[str]:
    """Imports of a module on a higher floor, or beside one's own package."""
    found = []
    for line in imports_of(package):
        if not line.source or line.source[:1] == line.target[:1]:
            continue
        here, there = floor_of(line.source), floor_of(line.target)
        allowed = here >= TOP if not line.target else there < here
        if not allowed:
            found.append(f"{line.place}: {dotted(line.source)} must not import {dotted(line.target)}")
    return found


def private_imports(package: Path) -> list[str]:
    """Names with a leading underscore that a module takes from another package."""
    found = []
    for line in imports_of(package):
        if line.source[:1] == line.target[:1] or not line.source:
            continue
        for name in (*line.target[1:], *line.names):
            if is_private(name):
                found.append(f"{line.place}: {name} is private to {line.target[0] if line.target else 'the package'}")
    return found


def private_attributes(package: Path) -> list[str]:
    """Attributes with a leading underscore of what another module defines."""
    found = []
    for path in modules_of(package).values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = names_defined_in(tree) | DOCUMENTED
        foreign = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_self(node.value)
        ]
        place = path.relative_to(package.parent)
        found += [
            f"{place}:{x.lineno}: {ast.unparse(x)} is private to another module" for x in foreign if x.attr not in own
        ]
    return found


def names_defined_in(tree: ast.Module) -> set[str]:
    """Names of functions, classes, variables, fields and attributes of ``self`` that a module defines."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def dotted(module: tuple[str, ...]) -> str:
    return ".".join(module) or "the package itself"


def cycle_among(edges: list[tuple[str, str]]) -> str:
    """Say which names lead in a circle, or return nothing."""
    needed: dict[str, set[str]] = {}
    for source, target in edges:
        needed.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        return " needs ".join(reversed(error.args[1]))
    return ""


def cycle_of(package: Path) -> str:
    return cycle_among([(dotted(line.source), dotted(line.target)) for line in imports_of(package) if line.source])


def includes_of(headers: Path) -> list[tuple[str, str, str]]:
    """Find the headers' own include lines: the header, what it includes, and where."""
    found = []
    for path in sorted(headers.rglob("*.hpp")):
        name = path.relative_to(headers).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*(?:"(.*)"|<(ufm_fast/.*)>)', line)
            if match:
                found.append((name, match[1] or match[2], f"{name}:{number}"))
    return found


def include_climbs(headers: Path) -> list[str]:
    """Include lines that name a higher folder or one on the same floor, or are not spelled from the include root."""
    floors = {folder: floor for floor, folders in enumerate(CPP_FLOORS) for folder in folders}
    found = []
    for source, target, place in includes_of(headers):
        if not (headers.parent / target).is_file():
            found.append(f"{place}: {target} must be a header's path from the include directory: ufm_fast/...")
            continue
        here, there = source.rpartition("/")[0], target.removeprefix("ufm_fast/").rpartition("/")[0]
        if source == "ufm_fast.hpp" or here == there or target == "ufm_fast/version.hpp":
            continue
        if here not in floors or there not in floors or floors[there] >= floors[here]:
            found.append(f"{place}: {here or source} must not include {target}")
    return found


def include_cycle(headers: Path) -> str:
    return cycle_among([(source, target.removeprefix("ufm_fast/")) for source, target, _ in includes_of(headers)])


def lines(found: list[str]) -> str:
    return "\n".join(["", *found])


def test_every_package_has_a_floor():
    known = {package for floor in PYTHON_FLOORS for package in floor}
    private = {path.name for path in PYTHON.iterdir() if path.is_dir() and path.name.startswith("_")} - {"__pycache__"}
    assert private == known
    assert {path.name for path in CPP.iterdir() if path.is_dir()} == {name for floor in CPP_FLOORS for name in floor}


def test_no_import_goes_up():
    found = climbs(PYTHON)
    assert not found, lines(found)


def test_no_import_goes_in_a_circle():
    assert not cycle_of(PYTHON)


def test_no_private_name_is_imported_from_another_package():
    found = private_imports(PYTHON)
    assert not found, lines(found)


def test_no_private_attribute_is_used_outside_of_its_module():
    found = private_attributes(PYTHON)
    assert not found, lines(found)


def test_no_include_goes_up():
    found = include_climbs(CPP)
    assert not found, lines(found)


def test_no_include_goes_in_a_circle():
    assert not include_cycle(CPP)


SAMPLES = {
    "up": (
        "_model/a.py",
        "def f():\n    from .._optimize.b import g\n",
        climbs,
        "_model.a must not import _optimize.b",
    ),
    "beside": ("_networks/a.py", "import toy._landscape.b\n", climbs, "must not import _landscape.b"),
    "root": ("_model/a.py", "import toy\n", climbs, "must not import the package itself"),
    "private name": (
        "_model/a.py",
        "\n\nfrom .._io.b import _g\n",
        private_imports,
        "toy/_model/a.py:3: _g is private",
    ),
    "private module": ("_model/a.py", "from .._io import _b\n", private_imports, "_b is private to _io"),
    "attribute": ("_model/a.py", "def f(x):\n    return x._y\n", private_attributes, "a.py:2: x._y is private"),
}


@pytest.mark.parametrize(("file", "code", "check", "message"), SAMPLES.values(), ids=SAMPLES)
def test_what_is_forbidden_is_found(tmp_path, file, code, check, message):
    package = tmp_path / "toy"
    for name, text in {"_optimize/b.py": "", "_landscape/b.py": "", "_io/_b.py": "", file: code}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    (found,) = check(package)
    assert message in found


def test_circles_for_type_checkers_are_found(tmp_path):
    package = tmp_path / "toy" / "_model"
    package.mkdir(parents=True)
    (package / "a.py").write_text("from .b import x\n")
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a\n")
    assert cycle_of(package.parent) in (
        "_model.a needs _model.b needs _model.a",
        "_model.b needs _model.a needs _model.b",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('#include "ufm_fast/model/b.hpp"', "blas/a.hpp:1: blas must not include ufm_fast/model/b.hpp"),
        ('#include "b.hpp"', "must be a header's path from the include directory"),
        ("#include <ufm_fast/ufm_fast.hpp>", "blas must not include ufm_fast/ufm_fast.hpp"),
    ],
)
def test_forbidden_includes_are_found(tmp_path, line, message):
    headers = tmp_path / "ufm_fast"
    for name, text in {"model/b.hpp": "", "ufm_fast.hpp": "", "blas/a.hpp": f"{line}\n#include <vector>\n"}.items():
        (headers / name).parent.mkdir(parents=True, exist_ok=True)
        (headers / name).write_text(text)
    (found,) = include_climbs(headers)
    assert message in found
