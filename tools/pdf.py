"""Print the built book to _build/revlearn.pdf, through Chromium: `make pdf`.

Every page is printed as it is shown, controls in their first setting and solutions unfolded, then
all are joined: links between the chapters lead within the file, and pages are numbered through.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from urllib.parse import urldefrag

from playwright.sync_api import Page
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject, NumberObject, TextStringObject
from tqdm import tqdm

from chromium import NoChromiumError, open_browser, served
from notebooks import toc_names

ROOT = Path(__file__).parents[1]
PAPER = {"format": "A4", "margin": dict.fromkeys(("top", "bottom", "left", "right"), "16mm")}
NUMBER = (
    '<div style="width: 100%; font: 8px sans-serif; text-align: center">'
    '<span class="pageNumber"></span></div>'
)


def print_page(page: Page, address: str) -> PdfReader:
    page.goto(address, wait_until="networkidle")
    page.evaluate("window.MathJax?.startup?.promise")
    if page.locator('script[type$="widget-view+json"]').count():
        page.wait_for_selector("html[data-widgets=ready]")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    return PdfReader(
        io.BytesIO(page.pdf(**PAPER, scale=0.7, print_background=True, outline=True, tagged=True))
    )


def page_numbers(page: Page, count: int) -> PdfReader:
    """Print so many empty pages with their numbers."""
    page.set_content('<p style="break-after: page; margin: 0">&nbsp;</p>' * count)
    options = {"display_header_footer": True, "header_template": "<p>", "footer_template": NUMBER}
    return PdfReader(io.BytesIO(page.pdf(**PAPER, **options)))


def link_within(book: PdfWriter, starts: dict[str, int], site: str) -> None:
    """Turn links to the address of a chapter into links to its first page in the file.

    Other links into the site, such as that of a picture to itself, lead nowhere later and are cut.
    """
    for page in book.pages:
        for annotation in page.get("/Annots", ArrayObject()):
            link = annotation.get_object()
            target = urldefrag(str(link.get("/A", {}).get("/URI", "")))[0]
            if target.startswith(site):
                del link["/A"]
            if target in starts:
                first = book.pages[starts[target]].indirect_reference
                link[NameObject("/Dest")] = ArrayObject(
                    [first, NameObject("/XYZ"), NumberObject(0), NumberObject(842), NumberObject(0)]
                )


def mend_titles(book: PdfWriter) -> None:
    """Write a title of the outline once: Chromium doubles those that it moved to a new page."""
    entries = [book.root_object["/Outlines"]]
    for entry in entries:
        entries += [entry[key].get_object() for key in ("/First", "/Next") if key in entry]
        if "/Title" in entry:
            title = re.sub(r"^((?:\d+\.)+ )\1(.+)\2$|^(.+)\3$", r"\1\2\3", entry["/Title"])
            entry[NameObject("/Title")] = TextStringObject(title)


def main() -> int:
    built, target = ROOT / "_build/html", ROOT / "_build/revlearn.pdf"
    if not (built / "index.html").exists():
        print("the book is not built: make book", file=sys.stderr)
        return 1
    book, starts = PdfWriter(), {}
    try:
        with served(built) as site, open_browser() as browser:
            page = browser.new_page()
            for name in tqdm(toc_names(), unit="page"):
                address = f"{site}{name}.html"
                printed = print_page(page, address)
                starts[address] = len(book.pages)
                book.append(printed)
            numbers = page_numbers(page, len(book.pages))
    except NoChromiumError as error:
        print(error, file=sys.stderr)
        return 1
    link_within(book, starts, site)
    mend_titles(book)
    for sheet, number in zip(book.pages, numbers.pages, strict=False):
        sheet.merge_page(number)
    book.add_metadata({"/Title": "Learning, run backwards", "/Author": "The revlearn authors"})
    book.compress_identical_objects()
    partial = target.with_suffix(".partial")
    book.write(partial)
    partial.replace(target)
    size = target.stat().st_size / 1e6
    print(f"{target.relative_to(ROOT)}: {len(book.pages)} pages, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
