"""The Sphinx extension of this book: what its pages are served with, and where they stand.

Three variables, all optional, tell what cannot be known from the checkout:

- ``REVLEARN_SITE``: the address that the book is published at, for canonical links, previews in
  social media and the page that answers for missing ones.
- ``REVLEARN_REPOSITORY``: the address of the repository, for the buttons that lead there. Without
  it, it is the one that pyproject.toml names, if any.
- ``REVLEARN_LAUNCH``: the branch that tools/launch.py made for this release, for the buttons that
  open a chapter in Binder or Colab. Without it, there are none: they would lead nowhere.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sphinx.application import Sphinx
from sphinx.config import Config

import web_assets

ROOT = Path(__file__).parents[1]


def configure(app: Sphinx, config: Config) -> None:
    site = os.environ.get("REVLEARN_SITE", "").rstrip("/")
    config.notfound_urls_prefix = urlparse(site).path + "/"
    if site:
        config.html_baseurl = site + "/"
        config.ogp_site_url = site + "/"
        config.ogp_site_name = config.html_title
        config.ogp_image = "_images/opening.png"
        config.ogp_image_alt = "One run rewound in floating point misses, in integers it does not."
        config.ogp_social_cards = {"enable": False}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = project["tool"]["revlearn"]["repository"]
    repository = os.environ.get("REVLEARN_REPOSITORY", named).rstrip("/")
    launch = os.environ.get("REVLEARN_LAUNCH", "")
    if repository:
        config.html_theme_options |= {
            "repository_url": repository,
            "use_repository_button": True,
            "use_issues_button": True,
        }
    if repository and launch:
        config.html_theme_options |= {
            "repository_branch": launch,
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


def serve_mathjax(app: Sphinx) -> None:
    if app.builder.name == "html":
        assets = ROOT / "_build/assets"
        web_assets.fetch("mathjax", assets)
        app.config.html_static_path.append(str(assets))


def write_as_shown(app: Sphinx) -> None:
    """Let the epub builder write what the html builder can.

    Sphinx falls back on the handlers of html only as long as no extension has one for epub.
    """
    handlers = app.registry.translation_handlers
    handlers["epub"] = handlers["html"] | handlers.get("epub", {})


def mend_list(app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """Take the role of a list from the bibliography, whose entries are no items of a list."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation', '<div class="citation'
        )


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Leave out 0.7 MB of icons that no page shows.

    The theme brings Font Awesome twice, as a script and as a font, each with all its icons. The
    font and the style sheet suffice, and of the font the icons that some page or script names.
    """
    if error or app.builder.name != "html":
        return
    from fontTools import subset

    static = Path(app.outdir) / "_static"
    (static / "scripts/fontawesome.js").write_text("// The style sheet draws the icons.\n")
    (static / "scripts/fontawesome.js.map").unlink(missing_ok=True)
    sheet = (static / "styles/pydata-sphinx-theme.css").read_text(encoding="utf-8")
    codes = {
        icon: int(code, 16)
        for icons, code in re.findall(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\(\w+)"', sheet)
        for icon in re.findall(r"\.fa-([\w-]+)", icons)
    }
    pages = [*Path(app.outdir).rglob("*.html"), *(static / "scripts").glob("*.js")]
    used = set().union(*(re.findall(r"\bfa-([\w-]+)", page.read_text("utf-8")) for page in pages))
    options = subset.Options(flavor="woff2")
    font = static / "vendor/fontawesome/webfonts/fa-solid-900.woff2"
    opened = subset.load_font(str(font), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[codes[icon] for icon in used & codes.keys()])
    subsetter.subset(opened)
    partial = font.with_suffix(".partial")
    subset.save_font(opened, str(partial), options)
    partial.replace(font)


def setup(app: Sphinx) -> dict[str, Any]:
    if os.environ.get("REVLEARN_SITE"):  # previews need absolute addresses
        app.setup_extension("sphinxext.opengraph")
    app.connect("config-inited", configure)
    app.connect("builder-inited", serve_mathjax)
    app.connect("builder-inited", write_as_shown)
    app.connect("html-page-context", drop_unused, priority=900)
    app.connect("html-page-context", mend_list)
    app.connect("build-finished", lighten)
    return {"version": version("revlearn"), "parallel_read_safe": True, "parallel_write_safe": True}
