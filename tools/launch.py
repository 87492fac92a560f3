"""Make a checkout of a release ready for Binder and Colab.

    python tools/launch.py --repository https://github.com/OWNER/NAME --tag v0.1.0

The release workflow pushes the outcome as the branch `launch-TAG`. From then on the pages have
buttons, which lead there. Each chapter gets a first cell. On Colab, which opens a
notebook alone, the cell fetches the release and installs it; elsewhere it does nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from notebooks import ROOT, listed

FIRST_CELL = """\
# Only Colab needs this cell: it fetches release {tag} of the book and installs its package.
import sys

if "google.colab" in sys.modules:
    %cd -q /content
    !git clone --quiet --depth 1 --branch {tag} {repository} book-{tag}
    %pip install --quiet "./book-{tag}[bayesian,cluster,data,progress,widgets]" optuna
    %cd -q book-{tag}/{folder}
    from google.colab import output

    output.enable_custom_widget_manager()"""


def with_first_cell(notebook: dict, repository: str, tag: str, folder: str) -> dict:
    """Return a notebook whose first code cell prepares Colab."""
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "launch",
        "metadata": {},
        "outputs": [],
        "source": FIRST_CELL.format(repository=repository, tag=tag, folder=folder),
    }
    first, *rest = notebook["cells"]  # the first one holds the title
    return notebook | {"cells": [first, cell, *rest]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", required=True, help="address of the repository")
    parser.add_argument("--tag", required=True, help="tag of the release, such as v0.1.0")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout; default: this one")
    arguments = parser.parse_args()
    for path in listed():
        path = arguments.root / path.relative_to(ROOT)
        folder = path.parent.relative_to(arguments.root).as_posix()
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook = with_first_cell(notebook, arguments.repository, arguments.tag, folder)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
        partial.replace(path)
        print(path.relative_to(arguments.root))


if __name__ == "__main__":
    main()
