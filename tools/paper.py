"""Run the paper-scale experiments through papermill and store their results.

    python tools/paper.py             # all of them
    python tools/paper.py chaos       # one

Each notebook with a cell tagged ``parameters`` runs with ``scale = "paper"``, writes
book/results/NAME.json and .npz, NAME being its own, and resumes where an interrupted run stopped.
The notebooks themselves stay as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from notebooks import ROOT, experiments

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> int:
    there = {path.stem: path for path in experiments()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(there)}"
    )
    names = parser.parse_args().names or list(there)
    if unknown := set(names) - set(there):
        parser.error(f"no experiment {', '.join(unknown)}; there are {', '.join(there)}")

    import papermill

    for name in names:
        notebook = there[name]
        with tempfile.TemporaryDirectory() as folder:
            papermill.execute_notebook(
                notebook,
                Path(folder) / notebook.name,
                parameters={"scale": "paper"},
                kernel_name="python3",
                language="python",
                cwd=notebook.parent,
                log_output=True,
            )
        page = notebook.relative_to(ROOT)
        print(f"book/results/{name}.json is stored; now: make notebooks NOTEBOOK={page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
