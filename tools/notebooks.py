"""Execute the book's notebooks and store them with their outputs.

    python tools/notebooks.py                  # all that _toc.yml lists
    python tools/notebooks.py book/foundations/chaos.ipynb

Each runs in its own folder, in a fresh kernel, one thread. Outputs are stored with the state of
their widgets, whose random ids are replaced by counted ones, so that a second run changes nothing.
The line "*Runs in … seconds …*" of the first cell is brought up to date.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ |= {
    "OPENBLAS_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}

ROOT = Path(__file__).parents[1]
RUNS_IN = re.compile(r"\*Runs in [^*]*\*")


def execute(path: Path) -> str:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=True,
    ).execute()
    seconds = time.perf_counter() - started
    first = notebook.cells[0]
    first.source = RUNS_IN.sub(
        f"*Runs in {max(1, round(seconds))} seconds on one core, measured when its outputs were "
        "stored.*",
        first.source,
    )
    notebook.metadata.pop("papermill", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    text = count_ids(nbformat.writes(notebook))
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return f"{seconds:6.1f} s  {path}"


def count_ids(text: str) -> str:
    """Replace the random ids of widgets and cells by counted ones, in order of appearance."""
    widgets = json.loads(text)["metadata"].get("widgets", {})
    models = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    places = sorted(models, key=text.index)
    for number, model in enumerate(places):
        text = text.replace(model, f"{number:032x}")
    notebook = json.loads(text)
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number:02d}"
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)


def toc_names() -> list[str]:
    """Return the pages that _toc.yml lists, without their suffix."""
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            names.extend(node[key] for key in ("root", "file") if key in node)
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                walk(child)

    walk(toc)
    return names


def listed() -> list[Path]:
    return [path for name in toc_names() if (path := ROOT / f"{name}.ipynb").exists()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in _toc.yml")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many at a time")
    arguments = parser.parse_args()
    notebooks = [path.resolve() for path in arguments.notebooks] or listed()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for line in pool.map(execute, notebooks):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
