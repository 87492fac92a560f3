"""A Sphinx extension: the link from a chapter to its live page, where there is one.

The live pages are built before the book, by tools/lite.py; a chapter without one gets no link.
Nothing of them is loaded before the reader follows the link.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

NOTEBOOK_VIEW = "lite/notebooks/index.html"
LINK = (
    '<p class="revlearn-run"><a class="revlearn-live" href="{address}">Run this page live</a> '
    "with Python in your browser: nothing to install, about 35 MB to load the first time.</p>"
)


def add_link(app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """Put the link below the title."""
    chapter = page.removeprefix("book/") + ".ipynb"
    site = Path(app.outdir)
    if (site / "lite/files" / chapter).exists() and (site / NOTEBOOK_VIEW).exists():
        address = f"{context['pathto'](NOTEBOOK_VIEW, 1)}?path={chapter}"
        title, end, rest = context["body"].partition("</h1>")
        context["body"] = title + end + LINK.format(address=address) + rest


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", add_link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
