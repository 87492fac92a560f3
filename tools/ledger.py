"""Write the reproduction ledger, book/paper/ledger.md, from the stored results.

    python tools/ledger.py            # write it
    python tools/ledger.py --check    # fail if it is not what the results say, or if a chapter
                                      # prints other numbers than the ledger

Published numbers stand in book/results/NAME.toml, ours in NAME.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib

from notebooks import ROOT, in_words, toc_names
from revlearn import ledger, results

RESULTS, PAGE = ROOT / "book/results", ROOT / "book/paper/ledger.md"
HEAD = """\
# The reproduction ledger

<!-- Written by tools/ledger.py from book/results: change those, then run make ledger. -->

Every number that the paper, its code or its authors' log gives, beside ours. Each is compared
within a tolerance that follows from the digits published, or from how well a plot can be read.
Where ours lies outside it, the reason stands below the table. The same tables are printed in the
chapters, and the book is not built if a chapter and this page disagree.

Seconds are processor time, summed over processes. Those of the runs up to 2026-11-24 were taken in
part on the clock of a busy machine: an idle core takes a quarter to a half of them.

{summary}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    names = ordered()
    text = page(names)
    if not check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    faults = [f"{name}: {fault}" for name in names for fault in faults_of_chapter(name)]
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        faults.append(f"{PAGE.relative_to(ROOT)} is not what the results say: make ledger")
    print(*faults, sep="\n", end="\n" * bool(faults), file=sys.stderr)
    return 1 if faults else 0


def ordered() -> list[str]:
    """Return the names of the results with published numbers, in the order of their chapters."""
    places = {page: place for place, page in enumerate(toc_names())}
    return sorted(
        (path.stem for path in RESULTS.glob("*.toml")), key=lambda name: places[chapter(name)]
    )


def chapter(name: str) -> str:
    toml = (RESULTS / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(toml)["chapter"]


def page(names: list[str]) -> str:
    rows = {name: ledger.compare(RESULTS / name) for name in names}
    every = [row for own in rows.values() for row in own]
    held = sum(row.holds for row in every)
    summary = f"**{held} of {len(every)} numbers and claims hold.**"
    return "\n".join([HEAD.format(summary=summary), *(section(name, rows[name]) for name in names)])


def section(name: str, rows: list[ledger.Row]) -> str:
    result = results.load(RESULTS / name)
    versions = ", ".join(f"{package} {number}" for package, number in result.versions.items())
    memory = f", {in_words(result.memory)}" if result.memory else ""
    reference = f"../{chapter(name).removeprefix('book/')}"
    commit, _, dirty = (result.commit or "unknown").partition("-")
    lines = [
        f"## {title(name)}",
        "",
        f"Chapter {{doc}}`{reference}`. Run `{name}` of {result.date}: {result.seconds:,.0f} "
        f"seconds of computing{memory}; {versions}; "
        f"commit `{commit[:10]}{'-' * bool(dirty)}{dirty}`.",
        "",
        "| what | source | published | ours | deviation | |",
        "|---|---|--:|--:|--:|---|",
    ]
    for row in rows:
        published, ours, tolerance = ledger.numbers(row)
        deviation = "" if isinstance(row.published, bool) else f"{row.deviation:+.1e}"
        verdict = "holds" if row.holds else "**missed**"
        within = f"{published} ± {tolerance}" if tolerance else published
        cells = [row.what, row.source, within, ours, deviation, verdict]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n*{row.what}*: {row.reason}" for row in rows if row.reason]
    return "\n".join(lines) + "\n"


def notebook_of(name: str) -> dict:
    return json.loads((ROOT / f"{chapter(name)}.ipynb").read_text(encoding="utf-8"))


def title(name: str) -> str:
    """Return the title of a chapter: the first line of its first cell."""
    first = "".join(notebook_of(name)["cells"][0]["source"])
    return first.splitlines()[0].removeprefix("# ")


def faults_of_chapter(name: str) -> list[str]:
    """Say where the stored outputs of a chapter lack the table that the ledger shows."""
    notebook = notebook_of(name)
    printed = "".join(
        "".join(output["text"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )
    lines = ledger.table(ledger.compare(RESULTS / name)).splitlines()
    missing = [line for line in lines if line not in printed.splitlines()]
    return [f"{chapter(name)}.ipynb does not print: {line}" for line in missing]


if __name__ == "__main__":
    sys.exit(main())
