"""What the exact arithmetic of SGD costs, in nanoseconds for each parameter and step.

    python benchmarks/arithmetic.py

The gradient is a vector that is there already, so that what remains is the arithmetic: reversible
products, additions with their conversions and range checks, checksums, and weights as floats.
Beside it stands what copying a vector of the same length costs in the same process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import numpy as np

import revlearn as rl
from revlearn.parameters import map_leaves
from revlearn.setup import Setup
from revlearn.tape import record_run
from runner import write

LAYERS = {"small": [784, 50, 50, 50, 10], "large": [784, 1000, 1000, 10]}
STEPS = {"small": 400, "large": 20}
MOST_FORWARDS, MOST_BACKWARDS = 8.0, 10.0


class FreeGradients:
    """A gradient that costs nothing."""

    def __init__(self, size: int):
        self.fixed = 1e-2 * np.random.RandomState(1).randn(size)

    def gradient(self, weights, hyper, t):
        return self.fixed


def measure(layers: list[int], steps: int) -> tuple[int, float, float, float]:
    """Return the number of parameters, and seconds forwards, backwards, and for a copy."""
    start = rl.models.init_mlp(layers, np.random.RandomState(0), scale=0.1)
    schedule = {
        name: map_leaves(lambda leaf, value=value: np.full(steps, value), start)
        for name, value in (("learning_rate", 0.1), ("momentum", 0.9))
    }
    setup = Setup(lambda weights, hyper, t: 0.0, start, None, rl.SGD(**schedule), steps)
    size = setup.weights.size
    setup.gradients = free = FreeGradients(size)
    arguments = setup.flatten(start, None)
    began = time.perf_counter()
    tape = record_run(setup, *arguments)
    forwards = time.perf_counter() - began
    run = tape._run
    began = time.perf_counter()
    for t in reversed(range(steps)):
        run.undo_weights(t)
        run.values("weights")
        assert tape._is_of_step(t, free.fixed)
        run.undo_slots(t, free.fixed)
    backwards = time.perf_counter() - began
    source, target = np.ones(size), np.empty(size)
    began = time.perf_counter()
    for _ in range(steps):
        np.copyto(target, source)
    return size, forwards, backwards, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="default: 7")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="store it, too")
    options = parser.parse_args()
    print(f"{'parameters':>10} {'forwards':>10} {'backwards':>10} {'copy':>8}   ns, medians")
    met, found = True, {}
    for name, layers in LAYERS.items():
        measured = [measure(layers, STEPS[name]) for _ in range(options.repeats)]
        scale = 1e9 / measured[0][0] / STEPS[name]
        forwards, backwards, copy = (
            scale * statistics.median(row[i] for row in measured) for i in (1, 2, 3)
        )
        print(f"{measured[0][0]:10d} {forwards:10.2f} {backwards:10.2f} {copy:8.2f}")
        found[name] = {
            "parameters": measured[0][0],
            "forwards": forwards,
            "backwards": backwards,
            "copy": copy,
        }
        met &= forwards <= MOST_FORWARDS and backwards <= MOST_BACKWARDS
    print(f"at most {MOST_FORWARDS:8.2f} {MOST_BACKWARDS:13.2f}   {'met' if met else 'MISSED'}")
    if options.output:
        write(options.output, {"nanoseconds": found, "repeats": options.repeats})
    return 0


if __name__ == "__main__":
    sys.exit(main())
