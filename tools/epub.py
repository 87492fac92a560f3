"""Turn the EPUB that Sphinx wrote into _build/revlearn.epub, with formulas as MathML: `make epub`.

Readers of EPUB know MathML and do not run MathJax, so that MathJax translates beforehand, here.
"""

from __future__ import annotations

import re
import sys
import zipfile
from html import unescape
from pathlib import Path

from playwright.sync_api import Page
from tqdm import tqdm

import web_assets
from chromium import NoChromiumError, open_browser, served

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "_build/assets"
INLINE = re.compile(r'<span class="math[^"]*">\\\((.*?)\\\)</span>', re.S)
DISPLAY = re.compile(r'(<div class="math[^"]*"[^>]*>.*?)\\\[(.*?)\\\](.*?</div>)', re.S)
SHEET = re.compile(r'\s*<link rel="stylesheet"[^>]*href="(?:\.\./)*([^"?]+)[^>]*/>')
# What is fit for a browser and not for the stricter standard of EPUB.
REPAIRS = [
    (
        re.compile(r'<script type="application/vnd.jupyter.widget-view\+json">.*?</script>', re.S),
        "<p><em>In the online book a control stands here.</em></p>",
    ),
    (re.compile(r"<script.*?</script>|<script[^>]*/>", re.S), ""),
    (re.compile(r' id="(?:exercise|solution)-content"'), ""),
    (re.compile(r'<p class="collapsed admonition-title">(.*?)</p>'), r"\1"),
    (re.compile(r'<p class="expanded admonition-title">.*?</p>'), ""),
]
TRANSLATE = """([texts, display]) => texts.map(
    (text) => MathJax.tex2mml(text, { display }).replace(/\\n\\s*/g, ""))"""


class Translator:
    """Translates formulas to MathML in a browser, all of a page at once."""

    def __init__(self, page: Page):
        self.page = page

    def formulas(self, texts: list[str], display: bool) -> list[str]:
        """Return MathML for TeX; an error in the TeX raises."""
        made = self.page.evaluate(TRANSLATE, [[unescape(text) for text in texts], display])
        for text, formula in zip(texts, made, strict=True):
            if "<merror" in formula:
                raise ValueError(f"MathJax cannot read {text!r}")
        return made

    def chapter(self, text: str) -> str:
        """Return a page of the EPUB with its formulas in MathML."""
        inline = iter(self.formulas(INLINE.findall(text), display=False))
        text = INLINE.sub(lambda _: next(inline), text)
        display = iter(self.formulas([match[1] for match in DISPLAY.findall(text)], display=True))
        return DISPLAY.sub(lambda match: match[1] + next(display) + match[3], text)


def convert(source: Path, target: Path) -> int:
    """Copy an EPUB, translating its formulas; return how many pages had some."""
    web_assets.fetch("mathjax", ASSETS)
    with zipfile.ZipFile(source) as old:
        items = {item: old.read(item) for item in old.infolist()}
    names = {item.filename for item in items}
    with_formulas = []
    with served(ASSETS) as address, open_browser() as browser:
        page = browser.new_page()
        page.goto(f"{address}mathjax/")
        page.add_script_tag(url="tex-mml-chtml.js")
        page.evaluate("MathJax.startup.promise")
        translator = Translator(page)
        for item, content in tqdm(items.items(), unit="file"):
            if item.filename.endswith(".xhtml"):
                text = content.decode("utf-8")
                for found, instead in REPAIRS:
                    text = found.sub(instead, text)
                # Some extensions name a style sheet that they bring for html only.
                text = SHEET.sub(lambda link: link[0] if link[1] in names else "", text)
                translated = translator.chapter(text)
                if translated != text:
                    with_formulas.append(item.filename)
                items[item] = translated.encode("utf-8")
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as new:
        for item, content in items.items():
            if item.filename == "content.opf":
                content = declare(content.decode("utf-8"), with_formulas).encode("utf-8")
            new.writestr(item, content)
    partial.replace(target)
    return len(with_formulas)


def declare(manifest: str, names: list[str]) -> str:
    """Say in the manifest which pages hold MathML, as the standard demands."""
    for name in names:
        manifest = manifest.replace(f'href="{name}"', f'href="{name}" properties="mathml"')
    return manifest


def main() -> int:
    source = ROOT / "_build/print/_build/epub/revlearn.epub"
    if not source.exists():
        print("Sphinx has not written it yet: make epub", file=sys.stderr)
        return 1
    target = ROOT / "_build/revlearn.epub"
    try:
        count = convert(source, target)
    except NoChromiumError as error:
        print(error, file=sys.stderr)
        return 1
    size = target.stat().st_size / 1e6
    print(f"{target.relative_to(ROOT)}: {count} pages with formulas, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
