"""Run the paper-scale experiments through papermill and store their results.

    python tools/paper.py             # all of them
    python tools/paper.py chaos       # one

Each notebook listed below runs with ``scale = "paper"``, writes book/results/NAME.json and .npz,
and resumes where an interrupted run stopped. The notebooks themselves stay as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPERIMENTS = {
    "chaos": "book/foundations/chaos.ipynb",
    "schedules": "book/paper/schedules.ipynb",
}

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(EXPERIMENTS)}"
    )
    names = parser.parse_args().names or list(EXPERIMENTS)
    if unknown := set(names) - set(EXPERIMENTS):
        parser.error(f"no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")

    import papermill

    for name in names:
        notebook = ROOT / EXPERIMENTS[name]
        with tempfile.TemporaryDirectory() as folder:
            papermill.execute_notebook(
                notebook,
                Path(folder) / notebook.name,
                parameters={"scale": "paper"},
                cwd=notebook.parent,
                log_output=True,
            )
        print(
            f"book/results/{name}.json is stored; now: make notebooks NOTEBOOK={EXPERIMENTS[name]}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
