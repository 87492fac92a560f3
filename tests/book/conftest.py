"""A real browser for the tests of this folder."""

import gzip
import io
import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Handler(SimpleHTTPRequestHandler):
    """Serve files as hosts of static pages do: texts are compressed."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        kind = self.guess_type(str(path))
        if not path.is_file() or not kind.startswith(("text/", "application/j", "image/svg")):
            return super().send_head()
        packed = gzip.compress(path.read_bytes(), compresslevel=6)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        return io.BytesIO(packed)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def site():
    """Serve the built book; return its address, which ends in a slash."""
    built = ROOT / "_build/html"
    if not (built / "index.html").exists():
        pytest.skip("the book is not built: make book")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=built))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def browser():
    """Return Chromium: the one that REVLEARN_CHROMIUM names, or one on the path."""
    chromium = os.environ.get("REVLEARN_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium: install Debian's chromium, or name one in REVLEARN_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


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
    """Return a function that shows a widget as a published page does, without Python behind it.

    It returns the page. ``page.get_by_label("momentum")`` finds a control by its label, as a
    reader does, and ``page.locator(".revlearn-sentence")`` what the widget says.
    """

    def show(widget):
        from ipywidgets.embed import embed_data

        data = embed_data([widget], drop_defaults=False)
        parts = [
            ("widget-state", data["manager_state"]),
            ("widget-view", data["view_specs"][0]),
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
        return page

    return show
