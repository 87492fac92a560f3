"""What a live page shows of a chapter: plain Markdown, with its figures and without widgets."""

import json
import re

import pytest

from live_copy import is_widget, live_copy
from notebooks import ROOT, listed

MYST = re.compile(
    r"^\([\w-]+\)=$|^:::|^```\{|\{(?:cite|cite:t|doc|eq|ref|prf:ref)\}`|\$\$ \([\w-]+\)", re.M
)


@pytest.mark.parametrize("path", listed(), ids=lambda path: path.stem)
def test_no_myst_is_left_and_the_code_is_the_same(path):
    before = json.loads(path.read_text(encoding="utf-8"))["cells"]
    after = json.loads(live_copy(path))["cells"]
    for old, new in zip(before, after, strict=True):
        if new["cell_type"] == "markdown":
            assert MYST.findall("".join(new["source"])) == []
        else:
            assert new["source"] == old["source"]
            assert new["outputs"] == [part for part in old["outputs"] if not is_widget(part)]


def test_references_and_boxes_are_written_out():
    text = json.loads(live_copy(ROOT / "book/foundations/information_buffer.ipynb"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in text if cell["cell_type"] == "markdown")
    assert "Griewank and Walther, 2000" in text
    assert "[Forward and reverse mode](forward_and_reverse.ipynb)" in text
    assert re.search(r"\*\*Exercise: .*\*\*", text)
    assert re.search(r"<details><summary>Solution: .*</summary>", text)
    assert r"\tag{1}$$" in text
