"""Configure Sphinx: pages in Markdown, tutorials that run when the site is built, a reference from docstrings."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

project = "ufm-fast"
copyright = "ufm-fast developers"
release = metadata.version("ufm-fast")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "tutorials", "tutorials_run/*.md5", "_templates"]
# Functions in this file; links from CONTRIBUTING.md to files that are no pages (a test checks that they exist).
suppress_warnings = ["config.cache", "myst.xref_missing"]
html_theme = "furo"
html_title = "ufm-fast"

myst_heading_anchors = 3
default_role = "autolink"
templates_path = ["_templates"]
autosummary_context = {  # classes whose methods users call; those of losses are called by the library
    "with_members": [
        "UFM", "Certificate", "SymmetricPoint", "InterpolatedPoint", "Census", "Spectrum", "NCAccumulator", "NCMetrics",
    ]
}  # fmt: skip
autodoc_typehints = "none"
numpydoc_show_class_members = False


def drawn_figures(block: tuple[Any, ...], variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Save the figures that a block of a tutorial made, which pyplot does not know of."""
    names = []
    for value in variables["example_globals"].values():
        if isinstance(value, Figure) and not hasattr(value, "is_in_the_page"):
            value.is_in_the_page = True  # type: ignore[attr-defined]
            names.append(next(variables["image_path_iterator"]))
            value.savefig(names[-1])
    return figure_rst(names, settings["src_dir"])


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
}


def escape_bars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep norms like |W|_2 in docstrings from being read as substitutions."""
    for index, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        if not line.lstrip().startswith((">>>", "...")):
            lines[index] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", escape_bars, priority=400)
