"""Configure Sphinx: pages in Markdown, tutorials that run when the site is built, a reference from docstrings."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

project = "ufm-fast"
copyright = "ufm-fast developers"
release = metadata.version("ufm-fast")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "tutorials", "tutorials_run/*.md5", "_templates"]
suppress_warnings = ["config.cache"]  # functions in this file
html_theme = "furo"
html_title = "ufm-fast"
html_static_path = ["_static"]
html_css_files = ["wide.css"]

myst_heading_anchors = 3
default_role = "autolink"
templates_path = ["_templates"]
_ALL = [
    "UFM", "Certificate", "SymmetricPoint", "InterpolatedPoint", "Census", "Spectrum", "NCAccumulator", "NCMetrics",
]  # fmt: skip
autosummary_context = {  # classes whose methods users call, and which; methods of losses are called by the library
    "with_members": dict.fromkeys(_ALL, "")
    | {
        "Shard": "fun, fun_and_grad, hvp, hessian, scatter, gather, local, vector, metric",
        "ClassParallel": "part, loss, loss_and_grad, hvp",
    }
}
autodoc_mock_imports = ["mpi4py", "petsc4py", "slepc4py"]
autodoc_typehints = "none"
numpydoc_show_class_members = False


def drawn_figures(block: tuple[Any, ...], variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Save the figures that a block of a tutorial made, which pyplot does not know of."""
    pictures = []
    for value in variables["example_globals"].values():
        if isinstance(value, Figure) and not hasattr(value, "is_in_the_page"):
            value.is_in_the_page = True  # type: ignore[attr-defined]
            name = next(variables["image_path_iterator"])
            value.savefig(name)
            panels = [axes.get_title() or axes.get_ylabel() for axes in value.axes]
            pictures.append(figure_rst([name], settings["src_dir"], "Panels: " + "; ".join(filter(None, panels))))
    return "".join(pictures)


sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "tutorials_run",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (drawn_figures,),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1,
    "default_thumb_file": str(Path(__file__).parent / "solve.png"),
}


def escape_bars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep norms like |W|_2 in docstrings, where these are no code, from being read as substitutions."""
    literal = None  # while in a literal block, the indentation of the text before it
    for index, line in enumerate(lines):
        indentation = len(line) - len(line.lstrip())
        if line.strip() and literal is not None and indentation <= literal:
            literal = None
        if literal is not None or line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(``.*?``)", line)
        lines[index] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)
        if line.rstrip().endswith("::"):
            literal = indentation


def link_to_pages(app: Any, path: Any, page: str, text: list[str]) -> None:
    """Make links to files that a page includes links to the page."""
    for file, its_page in {"bench/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}.items():
        text[0] = text[0].replace(f"]({file})", f"](docs/{its_page})")


def setup(app: Any) -> None:
    app.connect("include-read", link_to_pages)
    app.connect("autodoc-process-docstring", escape_bars, priority=400)
