"""A chapter that runs in the reader's browser, as it is published."""

import io
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import needs

LITE = Path(__file__).parents[2] / "_build/html/lite"
PYODIDE = LITE / "static/pyodide"
CHAPTER = "foundations/momentum_dynamics"
READY = "#revlearn-start[data-state=ready]"
SECONDS = 1000

pytestmark = [
    pytest.mark.xdist_group("live"),
    pytest.mark.skipif(
        not (PYODIDE / "pyodide.js").exists(),
        reason=needs.reason("pyodide"),
    ),
]


@pytest.fixture
def visitor(browser):
    """Return a page that has seen nothing of the site. JupyterLite writes to its console."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def live(browser, site):
    """Return the live page of a chapter, reached from the book, in which all cells have run."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    page = context.new_page()
    page.goto(f"{site}book/{CHAPTER}.html")
    asked = "performance.getEntriesByType('resource').map(entry => entry.name)"
    assert not any("/lite/" in name for name in page.evaluate(asked))  # before the reader asks
    page.locator(".revlearn-run").get_by_role("link", name="Run this page live").press("Enter")
    page.wait_for_selector(READY, timeout=180 * SECONDS)
    page.evaluate(
        "jupyterapp.commands.commandExecuted.connect((_, { id, result }) => {"
        " if (id === 'notebook:run-all-cells') result.then(() => { window.allRun = true }) })"
    )
    page.get_by_role("button", name="Run all cells", exact=True).click()
    page.wait_for_function("window.allRun", timeout=300 * SECONDS)
    yield page
    context.close()


def test_cells_run_and_show_figures(live):
    cells = live.evaluate(
        "jupyterapp.shell.currentWidget.content.widgets.map(w => w.model)"
        ".filter(m => m.type === 'code').map(m => [m.executionCount, m.outputs.toJSON()])"
    )
    assert all(count for count, _ in cells)
    outputs = [output for _, outputs in cells for output in outputs]
    assert [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_a_slider_redraws_its_figure(live):
    explorer = live.locator(".widget-vbox", has=live.locator("p[aria-live]")).last
    explorer.scroll_into_view_if_needed()
    sentence, picture = explorer.locator("p[aria-live]"), explorer.locator("img")
    assert picture.evaluate("image => image.naturalWidth") > 100
    before = sentence.inner_text()
    explorer.locator(".noUi-handle").first.press("ArrowRight")
    live.wait_for_function(
        "([p, before]) => !p.isConnected", arg=[sentence.element_handle(), before]
    )
    assert sentence.inner_text() != before
    assert picture.evaluate("image => image.naturalWidth") > 100


def test_an_explorable_has_python_behind_it(live):
    said = live.locator(".revlearn-sentence").first
    said.scroll_into_view_if_needed()
    before = said.inner_text()
    live.get_by_label("momentum γ").press("ArrowLeft")
    live.wait_for_function(
        "([p, before]) => p.innerText !== before", arg=[said.element_handle(), before]
    )


@pytest.fixture
def altered():
    """Return a function that serves a folder with some files replaced, or missing if None."""
    servers = []

    def serve(folder, replaced=(), headers=()):
        class Altered(SimpleHTTPRequestHandler):
            def send_head(self):
                if self.path not in dict(replaced):
                    return super().send_head()
                text = dict(replaced)[self.path]
                self.send_response(404 if text is None else 200)
                self.end_headers()
                return io.BytesIO((text or "").encode())

            def end_headers(self):
                for header in headers:
                    self.send_header(*header)
                super().end_headers()

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Altered, directory=folder))
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_without_python_it_says_what_to_do(visitor, altered):
    site = altered(LITE.parent, {"/lite/static/pyodide/pyodide.asm.wasm": None})
    visitor.goto(f"{site}lite/notebooks/index.html?path={CHAPTER}.ipynb")
    start = visitor.get_by_role("status", name="Python in this page")
    start.get_by_text("Python cannot be loaded").wait_for()
    for name in ("read the chapter", "run it on your own machine"):
        address = start.get_by_role("link", name=re.compile(name)).evaluate("link => link.href")
        page, _, place = address.partition("#")
        visitor.goto(page)
        assert visitor.locator("article h1").count()
        assert not place or visitor.locator(f"#{place}").count()
        visitor.go_back()


def test_a_start_that_breaks_off_says_what_to_do(visitor, altered):
    numpy = next(PYODIDE.glob("numpy-*")).relative_to(LITE.parent)
    site = altered(LITE.parent, {f"/{numpy}": None})
    visitor.goto(f"{site}lite/notebooks/index.html?path={CHAPTER}.ipynb")
    start = visitor.get_by_role("status", name="Python in this page")
    start.get_by_text("Python did not start").wait_for(timeout=180 * SECONDS)


def test_pyodide_may_come_from_elsewhere(visitor, altered):
    """Pyodide's official CDN is played by a second server, with what a site of its own has."""
    cdn = altered(PYODIDE, headers=[("Access-Control-Allow-Origin", "*")])
    settings = (LITE / "jupyter-lite.json").read_text(encoding="utf-8")
    settings = settings.replace("./static/pyodide/", cdn)
    site = altered(LITE.parent, {"/lite/jupyter-lite.json": settings})
    asked = []
    visitor.on("request", lambda request: asked.append(request.url))
    visitor.goto(f"{site}lite/notebooks/index.html?path={CHAPTER}.ipynb")
    visitor.wait_for_selector(READY, timeout=180 * SECONDS)
    assert not any("/static/pyodide/" in address for address in asked)


def test_a_link_leads_to_the_live_page_of_the_other_chapter(live):
    """Last, because it leaves the chapter."""
    live.locator(".jp-RenderedMarkdown a[href$='.ipynb']").first.click()
    live.wait_for_url(re.compile(r"lite/notebooks/index\.html\?path=\w+/\w+\.ipynb$"))
    assert CHAPTER not in live.url
