"""Execute the book's notebooks and store them with their outputs.

    python tools/notebooks.py                  # all that _toc.yml lists
    python tools/notebooks.py book/foundations/chaos.ipynb

Each runs in its own folder, in a fresh kernel, one thread. Outputs are stored with the state of
their widgets, whose random ids are replaced by counted ones, so that a second run changes nothing.
Two lines of the first cell are brought up to date: "*Runs in … seconds …*", and, where there is
one, "*The stored run NAME took …*", from book/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
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
STORED_RUN = re.compile(r"\*The stored run (\w+) took [^*]*\*")


def execute(path: Path) -> str:
    import nbformat
    import psutil
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    seconds, memory = 0.0, []
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=True,
        coalesce_streams=True,
        on_cell_executed=lambda **_: look(),  # while the kernel lives
    )

    def look() -> None:
        # Processor time, unlike time on the clock, is the same on a busy machine.
        nonlocal seconds, memory
        kernel = client.km.provisioner.pid
        seconds, memory = sum(psutil.Process(kernel).cpu_times()), peak_memory(kernel)

    client.execute()
    first = notebook.cells[0]
    first.source = RUNS_IN.sub(runs_in(seconds, memory), first.source)
    first.source = STORED_RUN.sub(lambda match: stored_run(match[1]), first.source)
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


def peak_memory(process: int) -> list[int]:
    """Return the peak memory of another process in bytes; nothing on systems other than Linux."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return []
    return [1024 * int(kb) for kb in re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())]


def runs_in(seconds: float, memory: list[int]) -> str:
    room = "".join(f" and {in_words(size)}" for size in memory)
    return (
        f"*Runs in {max(1, round(seconds))} seconds on one core{room}, measured when its outputs "
        "were stored.*"
    )


def stored_run(name: str) -> str:
    """Say what a stored run took, from its result."""
    result = json.loads((ROOT / "book/results" / f"{name}.json").read_text(encoding="utf-8"))
    minutes = result["seconds"] / 60.0
    time = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{result['seconds']:.0f} seconds"
    room = f" and {in_words(result['memory'])}" if result["memory"] else ""
    return f"*The stored run {name} took {time} of computing{room}, on {result['date']}.*"


def in_words(size: int) -> str:
    """Write a number of bytes of memory."""
    return f"{size / 1e9:.1f} GB of memory" if size >= 1e9 else f"{size / 1e6:.0f} MB of memory"


def count_ids(text: str) -> str:
    """Replace the random ids of widgets and cells by counted ones, from the outputs inwards."""
    notebook = json.loads(text)
    widgets = notebook["metadata"].get("widgets", {})
    models = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    order: list[str] = []

    def visit(value: object) -> None:
        if isinstance(value, dict):
            value = [value[key] for key in sorted(value)]
        if isinstance(value, list):
            for part in value:
                visit(part)
        elif isinstance(value, str):
            model = value.removeprefix("IPY_MODEL_")
            if model in models and model not in order:
                order.append(model)
                visit(models[model]["state"])

    visit([cell.get("outputs", []) for cell in notebook["cells"]])
    # Nothing shows the rest; their content orders them.
    order += sorted(models.keys() - order, key=lambda model: json.dumps(models[model]))
    for number, model in enumerate(order):
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


def experiments() -> list[Path]:
    """Return the notebooks that have a paper scale: those with a cell tagged ``parameters``."""
    return [path for path in listed() if '"parameters"' in path.read_text(encoding="utf-8")]


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
