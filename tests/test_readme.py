"""README.md says nothing that does not run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
INSTALL, TEST, *OTHERS = COMMANDS


def run(words, folder):
    program = {"python": [sys.executable], "ufm-fast": [sys.executable, "-m", "ufm_fast"]}[words[0]]
    done = subprocess.run([*program, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_block_is_of_a_kind_tested_here():
    assert {language for language, _ in BLOCKS} == {"bash", "python", "cmake"}


def test_the_two_commands():
    install, main_job = INSTALL.split(" && ")
    installed, extras = re.fullmatch(r'python -m pip install "(\.)\[([\w,]+)\]"', install).groups()
    assert (ROOT / installed / "pyproject.toml").is_file()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert main_job == "ufm-fast solve"
    assert TEST == "python -m pytest"


def test_continuous_integration_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("source distributions lack .ci")
    assert re.search(r"grep .*'\^python -m pytest' README\.md", script.read_text(encoding="utf-8"))
    assert [line for line in README.splitlines() if line.startswith("python -m pytest")] == [TEST]


def test_commands(tmp_path):
    """In the order of the README, in one folder and one test: later commands use files of earlier ones."""
    for command in (INSTALL.split(" && ")[1], *OTHERS):
        assert run(shlex.split(command), tmp_path), command


def test_python_blocks_print_what_their_comments_say(tmp_path):
    script = "".join(block for language, block in BLOCKS if language == "python")
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", script, re.MULTILINE)
    assert len(expected) == script.count("print(")
    assert run(["python", "-W", "error", "-c", script], tmp_path).splitlines() == expected


def test_first_example_has_five_lines():
    first = next(block for language, block in BLOCKS if language == "python")
    assert len(first.splitlines()) == 5


def test_cmake_lines_are_those_of_the_tested_project():
    tested = (ROOT / "examples" / "cpp" / "CMakeLists.txt").read_text(encoding="utf-8")
    for language, block in BLOCKS:
        if language == "cmake":
            assert set(block.splitlines()) <= set(tested.splitlines())


def pages():
    return [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_pictures_say_how_they_were_made(page):
    text = page.read_text(encoding="utf-8")
    for picture in re.findall(r"!\[.+?\]\((.*?)\)", text):
        file = (page.parent / picture).relative_to(ROOT).as_posix()
        assert re.search(rf"`(ufm-fast |python examples/)[^`]* --plot {file}`", text), picture


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_exist(page):
    for target in re.findall(r"\]\((?!https?:)(.*?)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target
