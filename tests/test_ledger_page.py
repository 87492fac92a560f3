"""The ledger page says what the results say, and so do the chapters."""

import json

import pytest

import ledger as tool
from revlearn import results


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["ledger.py", *arguments])
    return tool.main()


def test_page_and_chapters_agree_with_the_results(monkeypatch, capsys):
    assert run(monkeypatch, "--check") == 0, capsys.readouterr().err


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of one chapter that prints a table."""
    folder = tmp_path / "book/results"
    numbers = {"loss": 0.5312}
    results.save(folder / "x", settings={}, seconds=61.0, numbers=numbers, arrays={})
    (folder / "x.toml").write_text(
        'chapter = "book/paper/x"\n[[number]]\nwhat = "loss"\nsource = "Figure 1"\n'
        'published = "0.53"\ntolerance = 0.005\nours = "loss"\n'
    )
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "RESULTS", folder)
    monkeypatch.setattr(tool, "PAGE", tmp_path / "book/paper/ledger.md")
    monkeypatch.setattr(tool, "toc_names", lambda: ["book/paper/x"])
    (tmp_path / "book/paper").mkdir()

    def print_in_chapter(text):
        output = {"output_type": "stream", "name": "stdout", "text": [text]}
        heading = {"cell_type": "markdown", "source": ["# A figure\n", "\n", "Text"]}
        cells = [heading, {"cell_type": "code", "outputs": [output]}]
        (tmp_path / "book/paper/x.ipynb").write_text(json.dumps({"cells": cells}))

    print_in_chapter(tool.ledger.table(tool.ledger.compare(folder / "x")) + "\n")
    assert run(monkeypatch) == 0
    return print_in_chapter


def test_the_page_holds_ours_theirs_and_how_it_was_made(book, monkeypatch):
    text = tool.PAGE.read_text()
    assert "**1 of 1 numbers and claims hold.**" in text
    assert "## A figure\n\nChapter {doc}`../paper/x`. Run `x`" in text
    assert "| loss | Figure 1 | 0.53 ± 0.005 | 0.531 | +1.2e-03 | holds |" in text
    assert "61 seconds of computing" in text
    assert "numpy" in text
    assert run(monkeypatch, "--check") == 0


def test_a_chapter_that_prints_another_number_fails_the_check(book, monkeypatch, capsys):
    table = tool.ledger.table(tool.ledger.compare(tool.RESULTS / "x"))
    book(table.replace("0.531", "0.532"))
    assert run(monkeypatch, "--check") == 1
    assert "book/paper/x.ipynb does not print: loss" in capsys.readouterr().err


def test_a_page_of_older_results_fails_the_check(book, monkeypatch, capsys):
    numbers = {"loss": 0.5291}
    results.save(tool.RESULTS / "x", settings={}, seconds=61.0, numbers=numbers, arrays={})
    assert run(monkeypatch, "--check") == 1
    assert "is not what the results say: make ledger" in capsys.readouterr().err
