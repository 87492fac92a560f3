"""One measurement in a fresh process.

    python benchmarks/measure.py PROBLEM CONTENDER STEPS GRADIENT.npy

The last line it prints is the result, as JSON. Everything is prepared (and compiled) before the
clock starts. Memory is the peak of what is resident during the run, less what is resident before
it. Linux keeps the peak and lets a process reset it (`5` into /proc/self/clear_refs), so that
neither compiling nor warming up counts, no short peak is missed, and nothing slows the run: one
process gives time and memory. Elsewhere the peak is that of the whole process, preparations
included, an upper bound.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np

from problems import PROBLEMS
from registry import CONTENDERS
from revlearn.results import peak_memory
from revlearn.whole_files import replacing

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PEAK_METHOD = "VmHWM, reset before the run" if _RESET.exists() else "ru_maxrss of the process"


def resident(field: str) -> int:
    """Return VmRSS (now) or VmHWM (peak) in bytes."""
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(field)]
    return 1024 * int(line.split()[1])


def baseline() -> int:
    """Give back what is free, forget the peak, and return what is resident in bytes."""
    gc.collect()
    if not _RESET.exists():
        return peak_memory() or 0
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc; memory freed by the preparations would hide that of the run
        trim(0)
    _RESET.write_text("5")
    return resident("VmRSS")


def measure(problem_name: str, name: str, steps: int) -> tuple[dict, np.ndarray | None]:
    problem = PROBLEMS[problem_name]
    began = time.perf_counter()
    run = CONTENDERS[name].load()(problem, steps)
    prepare_seconds = time.perf_counter() - began
    before = baseline()
    processor, began = time.process_time(), time.perf_counter()
    loss, gradient = run()
    seconds = time.perf_counter() - began
    processor = time.process_time() - processor
    peak = resident("VmHWM") if _RESET.exists() else peak_memory() or 0
    result = {
        "prepare_seconds": prepare_seconds,
        "seconds": seconds,
        # Far from `seconds` on a busy machine, or if there were more threads than one.
        "processor_seconds": processor,
        "memory": max(peak - before, 0),
        "loss": float(loss),
    }
    return result, gradient


def main() -> None:
    problem_name, name, steps, gradient_file = sys.argv[1:]
    result, gradient = measure(problem_name, name, int(steps))
    if gradient is not None:
        with replacing(Path(gradient_file)) as partial, partial.open("wb") as file:
            np.save(file, gradient)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
