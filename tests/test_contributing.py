"""CONTRIBUTING.md and the pages of docs say nothing that does not run, and the developers' tools are pinned once."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def requirements(name):
    """The strings of a list in pyproject.toml: not with tomllib, which Python 3.10 lacks."""
    return set(re.findall(r'"(.+?)"', re.search(rf"^{name} = \[(.*?)\]$", PROJECT, re.DOTALL | re.MULTILINE)[1]))


def pages_with(language):
    return [pytest.param(page, id=page.name) for page in PAGES if blocks(page, language)]


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_print_what_their_comments_say(page, tmp_path):
    script = "".join(blocks(page, "python"))
    for name in re.findall(r"^(?:import|from) (\w+)", script, re.MULTILINE):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", script, re.MULTILINE)
    assert len(expected) == script.count("print(")
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


COMMANDS = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]


def check_pip(words):
    """Groups, extras and CMake's variables exist; that the installation works is the work of .ci/run."""
    for option, value in itertools.pairwise(words):
        if option == "--group":
            assert re.search(rf"^{value} = \[", PROJECT, re.MULTILINE)
        if option == "-C" and (variable := re.match(r"cmake\.define\.(\w+)=", value)):
            assert any(variable[1] in path.read_text(encoding="utf-8") for path in ROOT.glob("cpp/cmake/*.cmake"))


def check_pytest(words):
    for word in words:
        if word.startswith("tests/"):
            path, _, name = word.partition("::")
            assert (ROOT / path).exists()
            assert not name or f"def {name}" in (ROOT / path).read_text(encoding="utf-8")


def check_cmake(words):
    presets = json.loads((ROOT / "cpp" / "CMakePresets.json").read_text(encoding="utf-8"))
    kind = "testPresets" if words[0] == "ctest" else "buildPresets" if "--build" in words else "configurePresets"
    assert words[words.index("--preset") + 1] in {preset["name"] for preset in presets[kind]}


def check_tool(words):
    assert any(requirement.startswith(f"{words[0]}==") for requirement in requirements("lint"))


CHECKS = {"pip": check_pip, "pytest": check_pytest, "cmake": check_cmake, "ctest": check_cmake}


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command):
    """By their names and options: they build, or run all tests."""
    words = list(itertools.dropwhile(re.compile(r"[A-Z_]+=").match, shlex.split(command, comments=True)))
    if words[0].startswith(".ci/"):
        if not (ROOT / ".ci").exists():
            pytest.skip("source distributions lack .ci")
        assert (ROOT / words[0]).is_file()
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
    elif words[:3] == ["python", "-m", "build"]:
        assert any(requirement.startswith("build>=") for requirement in requirements("dev"))
    else:
        words = words[2:] if words[:2] == ["python", "-m"] else words
        CHECKS.get(words[0], check_tool)(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page):
    for file, name in re.findall(r"`(?:tests/)?(test_\w+)(?:\.py)?::(\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"), f"{file}::{name}"


def test_hooks_have_the_versions_of_the_lint_group():
    config = ROOT / ".pre-commit-config.yaml"
    if not config.exists():
        pytest.skip("source distributions lack it")
    text = config.read_text(encoding="utf-8")
    revisions = dict(re.findall(r"repo: https://github.com/\S+?/(?:mirrors-)?([\w-]+)\n +rev: v(\S+)", text))
    revisions["ruff"] = revisions.pop("ruff-pre-commit")
    assert {f"{tool}=={version}" for tool, version in revisions.items()} == requirements("lint")


def test_group_for_developers_has_all_that_is_needed():
    dev = requirements("dev")
    for name in ("requires", "cli", "test"):
        assert requirements(name) <= dev, name
    assert '{ include-group = "lint" }' in PROJECT


def test_versions_agree():
    header = (ROOT / "cpp" / "include" / "ufm_fast" / "version.hpp").read_text(encoding="utf-8")
    assert re.search(r'UFM_FAST_VERSION "(.*)"', header)[1] == re.search(r'^version = "(.*)"', PROJECT, re.MULTILINE)[1]


def test_scripts_of_ci():
    """What the workflows run can be run in a checkout, and all that can be run is described."""
    if not (ROOT / ".ci").exists():
        pytest.skip("source distributions lack .ci")
    scripts = {path.name for path in (ROOT / ".ci").iterdir() if os.access(path, os.X_OK)}
    assert set(re.findall(r"\.ci/(\w+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))) == scripts
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        assert set(re.findall(r"\.ci/(\w+)", workflow.read_text(encoding="utf-8"))) <= scripts
