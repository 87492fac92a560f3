"""The Sphinx extension of this book: what its pages are served with, and where they stand.

Two variables, both optional, tell what cannot be known from the repository:

- ``REVLEARN_SITE``: the address that the book is published at, for canonical links, previews in
  social media and the page that answers for missing ones.
- ``REVLEARN_REPOSITORY``: the address of the repository, for the buttons that open a chapter in
  Binder or Colab, and for the links to the source.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sphinx.application import Sphinx
from sphinx.config import Config

import web_assets

ROOT = Path(__file__).parents[1]


def configure(app: Sphinx, config: Config) -> None:
    assets = ROOT / "_build/assets"
    web_assets.fetch("mathjax", assets)
    config.html_static_path.append(str(assets))

    site = os.environ.get("REVLEARN_SITE", "").rstrip("/")
    config.notfound_urls_prefix = urlparse(site).path + "/"
    if site:
        config.html_baseurl = site + "/"
        config.ogp_site_url = site + "/"

    repository = os.environ.get("REVLEARN_REPOSITORY", "").rstrip("/")
    if repository:
        config.html_theme_options |= {
            "repository_url": repository,
            # Made for each release by tools/launch.py; it holds the notebooks with a first cell.
            "repository_branch": f"launch-v{version('revlearn')}",
            "use_repository_button": True,
            "use_issues_button": True,
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
                "notebook_interface": "jupyterlab",
            },
        }


def drop_unused(app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """Take out the scripts of Thebe, which would fetch code from another site."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in (str(getattr(script, "filename", "")) + str(script.attributes)).lower()
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    if os.environ.get("REVLEARN_SITE"):  # previews need absolute addresses
        app.setup_extension("sphinxext.opengraph")
    app.connect("config-inited", configure)
    app.connect("html-page-context", drop_unused, priority=900)
    return {"version": version("revlearn"), "parallel_read_safe": True, "parallel_write_safe": True}
