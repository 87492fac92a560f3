"""A real browser for the tests of this folder."""

import json
from pathlib import Path

import pytest

import needs

chromium = needs.module("chromium")

ROOT = Path(__file__).parents[2]
DRAWN = """[...document.querySelectorAll('.revlearn')].every((widget) =>
    widget.querySelector('.revlearn-sentence').textContent ||
    !widget.querySelector('.revlearn-alert').hidden)"""


@pytest.fixture(scope="session")
def site():
    """Serve the built book; return its address, which ends in a slash."""
    built = ROOT / "_build/html"
    if not (built / "index.html").exists():
        needs.skip("book")
    with chromium.served(built) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """Return Chromium, or skip: there are machines without."""
    try:
        chromium.find()
    except chromium.NoChromiumError:
        needs.skip("chromium")
    with chromium.open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """Return an empty page; what it complains of fails the test."""
    context = browser.new_context(viewport={"width": 900, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.complaints = complaints
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def bench(page):
    """Return a function that shows widgets as a published page does, without Python behind them.

    It returns the page. ``page.get_by_label("momentum")`` finds a control by its label, as a
    reader does, and ``page.locator(".revlearn-sentence")`` what the widget says.
    """

    def show(*widgets):
        from ipywidgets.embed import embed_data

        data = embed_data(widgets, drop_defaults=False)
        parts = [
            ("widget-state", data["manager_state"]),
            *(("widget-view", view) for view in data["view_specs"]),
        ]
        scripts = ""
        for kind, part in parts:
            text = json.dumps(part).replace("</", r"<\/")
            scripts += f'<script type="application/vnd.jupyter.{kind}+json">{text}</script>'
        loader = (ROOT / "book/_static/widgets.js").read_text(encoding="utf-8")
        page.set_content(
            f'<!doctype html><html lang="en"><title>A widget</title><body><main>{scripts}</main>'
            f'<script type="module">{loader}</script></body></html>'
        )
        page.wait_for_selector("html[data-widgets=ready]")
        page.wait_for_function(DRAWN)
        return page

    return show
