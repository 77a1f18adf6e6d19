"""The package as installed: lazy import, choice of the instruction set, configuration, and the headers."""

import ast
import dataclasses
import inspect
import json
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

import ufm_fast as uf
from ufm_fast._runtime import _core, core

REPORT = """
import json
from pathlib import Path
from ufm_fast._runtime import core
maps = Path("/proc/self/maps")
text = maps.read_text() if maps.exists() else core.level_file(core.isa)
loaded = [level for level in ("baseline", "v3", "v4", "native") if core.level_file(level) in text]
print(json.dumps([core.isa, core.reason, loaded]))
"""


def test_import_is_lazy(run_python):
    loaded = run_python("import sys, ufm_fast; print(*sys.modules)").split()
    assert "ufm_fast" in loaded
    assert not {"numpy", "scipy", "matplotlib", "typer", "rich", "threadpoolctl"} & set(loaded)
    assert not [name for name in loaded if name.startswith("ufm_fast.")]


def test_every_public_name_is_found_and_documented():
    for name in uf.__all__:
        value = getattr(uf, name)
        home = value.__name__ if inspect.ismodule(value) else value.__module__
        assert home.startswith("ufm_fast."), name
        assert value.__doc__, name
        members = vars(value) if isinstance(value, type) else {}
        defaults = value.__dataclass_fields__ if dataclasses.is_dataclass(value) else {}
        named = [key for key in members if not key.startswith("_") and key not in defaults]
        undocumented = [key for key in named if not inspect.getdoc(members[key])]
        assert not undocumented, name
    assert uf.__version__ == metadata.version("ufm-fast")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="/proc/cpuinfo is Linux's")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels exist on x86-64 only")
def test_levels_agree_with_the_kernel():
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
            break
    v3 = {"avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt"}
    v4 = v3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    expected = ["baseline"] + ["v3"] * (v3 <= flags) + ["v4"] * (v4 <= flags)
    assert _core.levels() == expected


@pytest.mark.parametrize("isa", core.available)
def test_forced_instruction_set(run_python, isa):
    chosen, reason, loaded = json.loads(run_python(REPORT, UFM_FAST_ISA=isa))
    assert chosen == isa
    assert "UFM_FAST_ISA" in reason
    assert loaded == [isa]


def test_best_instruction_set_by_default(run_python):
    chosen, reason, loaded = json.loads(run_python(REPORT, UFM_FAST_ISA=""))
    assert chosen == core.available[-1]
    assert "UFM_FAST_ISA" not in reason
    assert loaded == [chosen]


def test_unknown_instruction_set_is_refused(run_python):
    script = "import ufm_fast\ntry: ufm_fast.UFM\nexcept ValueError as error: print(error)"
    message = run_python(script, UFM_FAST_ISA="v9")
    assert "UFM_FAST_ISA" in message
    assert "'v9'" in message
    assert ", ".join(core.available) in message


def test_levels_that_cannot_be_loaded(tmp_path):
    file = _core.level_file("baseline")
    with pytest.raises(RuntimeError, match=re.escape(file)):
        _core.load_level(str(tmp_path), "baseline")
    shutil.copy(_core.__file__, tmp_path / file)
    with pytest.raises(RuntimeError, match="ufm_fast_level"):
        _core.load_level(str(tmp_path), "baseline")
    assert uf.show_config(mode="dicts")["instruction_set"] == core.isa


def test_show_config(capsys):
    import numpy
    import scipy

    config = uf.show_config(mode="dicts")
    assert config["instruction_set"] == core.isa
    assert config["numpy"] == numpy.__version__
    assert config["scipy"] == scipy.__version__
    assert config["threads"] == uf.get_num_threads()
    assert "numpy.libs" not in config["blas"]  # SciPy's BLAS serves the core, not NumPy's
    assert json.loads(json.dumps(config)) == config
    uf.show_config()
    printed = capsys.readouterr().out
    for value in config.values():
        assert (", ".join(value) if isinstance(value, list) else str(value)) in printed
    with pytest.raises(ValueError, match="mode must be 'stdout' or 'dicts', not 'dict'"):
        uf.show_config(mode="dict")


def test_typing_files_are_there():
    package = Path(uf.__file__).parent
    assert (package / "py.typed").is_file()
    assert (package / "_runtime" / "_core.pyi").is_file()


def names_of_arguments(function):
    return [argument.arg for argument in function.args.args]


def test_stub_describes_the_compiled_module():
    stub = {}
    for node in ast.parse((Path(uf.__file__).parent / "_runtime" / "_core.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            stub[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            stub[node.target.id] = node
    public = {name for name in vars(_core) if not name.startswith("_")}
    assert {name for name in stub if not name.startswith("_")} == public

    stub_methods = {node.name: names_of_arguments(node) for node in stub["_Problem"].body}
    for problem in (_core.Problem64, _core.Problem32):
        methods = {name: method for name, method in vars(problem).items() if callable(method)}
        signatures = {
            name: ast.parse(f"def {method.__doc__.splitlines()[0]}: ...").body[0]
            for name, method in methods.items()
            if not name.startswith("_") or name == "__init__"
        }
        assert {name: names_of_arguments(node) for name, node in signatures.items()} == stub_methods


def test_runtime_dependencies():
    required = [line for line in metadata.requires("ufm-fast") if "extra ==" not in line]
    assert {line.split(">")[0] for line in required} == {"numpy", "scipy", "threadpoolctl"}


EIGEN = Path(uf.get_include()) / "eigen3" / "Eigen"
# How a file says that it, or a part of it, has a licence other than Eigen's.
OTHER_LICENCE = re.compile(r"Redistribution and use|Permi\w+ is (hereby )?granted|Apache License|\bL?GPL\b")


def licences():
    return {path.name: path.read_text() for path in metadata.files("ufm-fast") if "licenses" in path.parts}


def test_licences_are_in_the_distribution():
    found = licences()
    assert set(found) == {"LICENSE", "NOTICE", "MPL-2.0.txt", "Apache-2.0.txt", "pybind11.txt"}
    assert set(re.findall(r"licenses/([\w.-]+\.txt)", found["NOTICE"])) == set(found) - {"LICENSE", "NOTICE"}
    expression = metadata.metadata("ufm-fast")["License-Expression"]
    assert set(expression.split(" AND ")) == {"BSD-3-Clause", "MPL-2.0", "Apache-2.0"}


def test_notice_names_every_header_of_eigen_with_another_licence():
    files = [path for path in EIGEN.rglob("*") if path.is_file()]
    texts = {path.relative_to(EIGEN).as_posix(): path.read_text(encoding="utf-8") for path in files}
    found = {name for name, text in texts.items() if OTHER_LICENCE.search(text)}
    named = re.findall(r"^ +(src/\S+) +(.+)$", licences()["NOTICE"], re.MULTILINE)
    assert found == {name for name, _ in named}
    for name, terms in named:
        assert ("Apache License" in texts[name]) == ("licenses/Apache-2.0.txt" in terms)
    stated = {name for name, text in texts.items() if re.search(r"Mozilla\s+(?://\s*)?Public License", text)}
    assert len(stated) > 0.9 * len(texts)  # those that state none are Eigen's too


def test_headers_include_all_of_ours_and_eigen():
    include = Path(uf.get_include())
    installed = {path.relative_to(include / "ufm_fast") for path in (include / "ufm_fast").rglob("*.hpp")}
    source = Path(__file__).parents[1] / "cpp" / "include" / "ufm_fast"
    assert installed == {path.relative_to(source) for path in source.rglob("*.hpp")}
    assert {path.name for path in (include / "eigen3").iterdir()} == {"Eigen"}
    modules = {path.name for path in EIGEN.iterdir() if path.is_file()}
    assert modules == {
        "Dense", "Core", "LU", "Cholesky", "QR", "SVD", "Geometry", "Eigenvalues", "Householder", "Jacobi",
    }  # fmt: skip
