"""Turn a chapter into what JupyterLite shows well: it knows Markdown, but not MyST.

Figures and numbers stay, so that there is something to read before Python is ready; widgets, which
show nothing without it, are left out. Citations, references and boxes become plain Markdown.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from notebooks import ROOT

BOOK = ROOT / "book"
LABELLED = re.compile(r"\$\$((?:(?!\$\$).)*)\$\$ \(([\w-]+)\)", re.S)
BOX = re.compile(r"^:::\{(\w+)\} ?(.*)\n((?::\w+:.*\n)*)((?:.*\n)*?):::$", re.M)
TARGET = re.compile(r"^\([\w-]+\)=\n", re.M)
ROLE = re.compile(r"\{(cite|cite:t|doc|eq)\}`([^`]+)`")


def live_copy(path: Path) -> str:
    """Return the notebook as JSON."""
    notebook = read(path)
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python (Pyodide)", "language": "python", "name": "python"},
        "language_info": {"name": "python"},
    }
    titles: dict[str, str] = {}  # of the exercises, for their solutions
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if not is_widget(output)]
        else:
            cell["source"] = markdown("".join(cell["source"]), path, titles)
    return json.dumps(notebook, ensure_ascii=False)


def is_widget(output: dict) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def markdown(text: str, path: Path, titles: dict[str, str]) -> str:
    """Return a cell of MyST as Markdown."""

    def box(match: re.Match[str]) -> str:
        kind, title, options, body = match.groups()
        if kind == "exercise":
            titles[re.findall(r":label: (\S+)", options)[0]] = title
            return f"---\n\n**Exercise: {title}**\n\n{body.strip()}\n"
        if kind == "solution":
            head = f"<summary>Solution: {titles[title]}</summary>"
            return f"<details>{head}\n\n{body.strip()}\n\n</details>\n"
        return f"**{title}**\n\n{body.strip()}\n\n---\n"

    def role(match: re.Match[str]) -> str:
        kind, target = match.groups()
        if kind == "eq":
            home, number = equations()[target]
            return f"({number})" if home == path else f"({number}) of *{title(home)}*"
        if kind == "doc":
            page = next(
                p for end in (".ipynb", ".md") if (p := path.parent / (target + end)).exists()
            )
            name = title(page)
            return f"[{name}]({target}.ipynb)" if page.suffix == ".ipynb" else f"*{name}*"
        works = [cited(key.strip()) for key in target.split(",")]
        if kind == "cite:t":
            return " and ".join(f"{authors} ({year})" for authors, year in works)
        return "[" + "; ".join(f"{authors}, {year}" for authors, year in works) + "]"

    text = BOX.sub(box, TARGET.sub("", text))
    text = LABELLED.sub(lambda m: rf"$${m[1].rstrip()} \tag{{{equations()[m[2]][1]}}}$$", text)
    return ROLE.sub(role, text)


@cache
def equations() -> dict[str, tuple[Path, int]]:
    """Return for each label of an equation its chapter and its number there."""
    found = {}
    for path in sorted(BOOK.rglob("*.ipynb")):
        cells = [c for c in read(path)["cells"] if c["cell_type"] == "markdown"]
        labels = [m[2] for c in cells for m in LABELLED.finditer("".join(c["source"]))]
        found |= {label: (path, number) for number, label in enumerate(labels, 1)}
    return found


@cache
def cited(key: str) -> tuple[str, str]:
    """Return authors and year of a work."""
    work = bibliography().entries[key]
    names = [" ".join(person.last_names) for person in work.persons["author"]]
    authors = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return authors.replace("{", "").replace("}", ""), work.fields["year"]


@cache
def bibliography():
    from pybtex.database import parse_file

    return parse_file(BOOK / "references.bib")


def title(path: Path) -> str:
    """Return the first heading of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "".join(json.loads(text)["cells"][0]["source"])
    return next(line for line in text.splitlines() if line.startswith("# "))[2:]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
