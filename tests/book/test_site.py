"""The built book in a real browser: every page of it."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from bs4 import BeautifulSoup

import web_assets
from notebooks import ROOT, toc_names

BUILT = ROOT / "_build/html"
PAGES = [f"{name}.html" for name in toc_names()]
each_page = pytest.mark.parametrize("name", [*PAGES, "404.html", "search.html", "genindex.html"])
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
KEY_PAGES = [
    "book/intro",
    "book/foundations/momentum_dynamics",
    "book/foundations/information_buffer",
    "book/foundations/hypergradients",
    "book/foundations/chaos",
    "book/paper/training_set",
    "book/paper/ledger",
    "404",
]
COLOURS = "color-contrast"
SCROLLS_BY_KEYBOARD = """[...document.querySelectorAll('pre, .pst-scrollable-table-container')]
    .every((block) => block.scrollWidth <= block.clientWidth || block.tabIndex === 0)"""
# One style sheet colours all code, letter by letter: three blocks stand for the others.
MARK_MORE_CODE = """[...document.querySelectorAll('pre')].slice(3).forEach(
    (block) => block.classList.add('more'))"""


@each_page
def test_it_loads_light_and_asks_no_other_site(page, site, name):
    done = []
    page.on("requestfinished", lambda request: done.append(request))
    page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
    page.goto(site + name)
    page.wait_for_load_state("networkidle")
    addresses = [request.url for request in done]
    assert [url for url in addresses if not url.startswith((site, "data:", "blob:"))] == []
    weight = sum(request.sizes()["responseBodySize"] for request in done if "http" in request.url)
    assert weight < 1.5e6
    assert page.locator("mjx-merror").count() == 0
    if page.locator('script[type$="widget-view+json"]').count():
        page.wait_for_selector("html[data-widgets=ready]")
        assert page.locator("[role=alert]:visible").count() == 0


@pytest.fixture(scope="session")
def axe():
    """Return the text of axe-core, which finds what hinders readers with disabilities."""
    return (web_assets.fetch("axe-core", ROOT / "_build/assets") / "axe.min.js").read_text("utf-8")


@each_page
def test_it_hinders_nobody(page, site, axe, name):
    page.goto(site + name)
    page.wait_for_load_state("networkidle")
    page.evaluate(axe)
    page.evaluate(MARK_MORE_CODE)
    found = []
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        # The theme lets the keyboard scroll what is too wide, 300 ms after a change of size.
        page.wait_for_timeout(400)
        page.wait_for_function(SCROLLS_BY_KEYBOARD)
        found += violations(page, f"{size['width']}", {"rules": {COLOURS: {"enabled": False}}})
        for theme in ("light", "dark"):  # a theme changes colours and nothing else
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            only = {"runOnly": {"type": "rule", "values": [COLOURS]}}
            found += violations(page, f"{size['width']}, {theme}", only, [".more"])
    assert found == []


def violations(page, where, options, left_out=()):
    """Return what axe finds, as text. Formulas are MathJax's, which speaks for them itself."""
    result = page.evaluate(
        "([context, options]) => axe.run(context, options)",
        [
            {"exclude": [["mjx-container"], *([part] for part in left_out)]},
            {"resultTypes": ["violations"], "preload": False} | options,
        ],
    )
    return [
        f"{where}: {violation['id']}: {node['html'][:200]}: "
        f"{[check['message'][:160] for check in node['any'][:1]]}"
        for violation in result["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_shows_it_without_scrolling_sideways(page, site, name):
    page.set_viewport_size(PHONE)
    page.goto(site + name)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.fixture(scope="session")
def parsed(site):
    """Return every page of the book, parsed, by its name."""
    return {
        str(path.relative_to(BUILT)): BeautifulSoup(
            re.sub(r"<script.*?</script>", "", path.read_text("utf-8"), flags=re.S), "html.parser"
        )
        for path in BUILT.rglob("*.html")
        if not str(path.relative_to(BUILT)).startswith(("_", "lite/"))
    }


def test_every_link_inside_the_book_resolves(parsed):
    anchors = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in parsed.items()}
    broken = []
    for name, page in parsed.items():
        for link in page.find_all("a", href=True):
            target = urljoin(f"http://book/{name}", link["href"])
            if not target.startswith("http://book/"):
                continue
            address, anchor = urldefrag(unquote(target))
            file = address.removeprefix("http://book/").partition("?")[0]
            exists = (BUILT / file).exists()
            if not exists or (anchor and file in anchors and anchor not in anchors[file]):
                broken.append(f"{name}: {link['href']}")
    assert broken == []


def test_every_figure_says_what_it_shows(parsed):
    silent = [
        f"{name}: {image.get('src', '')[:80]}"
        for name, page in parsed.items()
        for image in page.select("article img")
        if len(image.get("alt", "")) < 40
    ]
    assert silent == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", KEY_PAGES)
def test_key_pages_have_their_picture_taken(page, site, name, width, theme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.goto(f"{site}{name}.html")
    page.wait_for_load_state("networkidle")
    assert page.locator("html").get_attribute("data-theme") == theme
    page.screenshot(
        path=ROOT / f"_build/screenshots/{Path(name).name}-{width}-{theme}.png", full_page=True
    )


def test_a_missing_page_is_answered_with_a_way_on(page, site):
    page.set_viewport_size(DESKTOP)
    page.goto(site + "404.html")
    assert page.get_by_role("heading", name="This page does not exist").count() == 1
    assert page.get_by_role("link", name="Chaos").count() == 1


def test_search_finds_a_word(page, site):
    page.goto(site + "search.html?q=leapfrog")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li").count() >= 2


def test_dark_mode_is_switched_by_its_button(page, site):
    page.goto(site + "book/intro.html")
    seen = set()
    for _ in range(3):
        page.get_by_role("button", name="Color mode").first.click()
        seen.add(page.locator("html").get_attribute("data-theme"))
    assert seen == {"light", "dark"}


def test_a_chapter_downloads_as_a_notebook(parsed):
    link = parsed["book/foundations/chaos.html"].select_one("a[href$='.ipynb'].btn")
    assert (BUILT / "book/foundations" / link["href"]).resolve().exists()
