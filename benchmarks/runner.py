"""Fresh processes, one after another, and what they left, so that a run can continue."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from measure import PEAK_METHOD
from problems import PROBLEMS
from report import FIXED_POINT_TOLERANCE, FLOAT_TOLERANCE
from revlearn import whole_files
from revlearn.results import plain_json

ROOT = Path(__file__).parents[1]
# One thread everywhere: NPROC is the number of XLA's, and none is to wait for another of them.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false "
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    "JAX_PLATFORMS": "cpu",
    "TQDM_DISABLE": "1",
}


class Runner:
    """Measures what this code has not measured yet, for one problem; keeps it in a folder."""

    def __init__(self, problem: str, unavailable: dict[str, str], folder: Path):
        self.problem_name, self.problem = problem, PROBLEMS[problem]
        self.unavailable = unavailable
        self.failed: dict[str, str] = {}
        self._folder = folder / f"{problem}-{_code()}"

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def measure(self, jobs: list[tuple[str, int, int]]) -> None:
        """Run each (contender, steps, round) in turn. A failure is kept in mind, and told."""
        self._folder.mkdir(parents=True, exist_ok=True)
        left = [job for job in jobs if not self._result(*job).exists()]
        if len(left) < len(jobs):
            print(f"{len(jobs) - len(left)} of {len(jobs)} measurements are there (--fresh: again)")
        for number, (name, steps, round_) in enumerate(left, start=1):
            if name in self.failed:
                continue
            print(f"[{number}/{len(left)}] {name}, T = {steps} … ", end="", flush=True)
            command = [sys.executable, ROOT / "benchmarks/measure.py", self.problem_name, name]
            process = subprocess.run(
                [*map(str, command), str(steps), self._gradient(name, steps)],
                capture_output=True,
                text=True,
                env=os.environ | ENVIRONMENT,
            )
            lines = process.stdout.splitlines()
            if process.returncode or not lines:
                self.failed[name] = _last_words(process)
                print("failed:", self.failed[name])
                continue
            result = json.loads(lines[-1])
            whole_files.write(self._result(name, steps, round_), lines[-1].encode())
            print(f"{result['seconds']:.2f} s, {result['memory'] / 1e6:.1f} MB over the baseline")

    def results(self, name: str, steps: int, repeats: int) -> list[dict]:
        """Return the rounds that succeeded."""
        paths = [self._result(name, steps, round_) for round_ in range(repeats)]
        return [json.loads(path.read_text()) for path in paths if path.exists()]

    def findings(
        self, names: list[str], steps: int
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return losses and gradients by contender; plain runs have no gradient."""
        losses = {name: self.results(name, steps, 1)[0]["loss"] for name in names}
        paths = {name: self._gradient(name, steps) for name in names}
        return losses, {name: np.load(path) for name, path in paths.items() if path.exists()}

    def _result(self, name: str, steps: int, round_: int) -> Path:
        return self._folder / f"{name}-{steps}-{round_}.json"

    def _gradient(self, name: str, steps: int) -> Path:
        return self._folder / f"{name}-{steps}.npy"


def store(runner: Runner, output: Path, content: dict) -> None:
    """Write a result with what it was measured with."""
    problem = runner.problem
    header = {
        "problem": {
            "name": runner.problem_name,
            "sizes": problem.sizes,
            "batch": problem.batch,
            "parameters": sum(leaf.size for leaf in problem.leaves),
        },
        "peak_method": PEAK_METHOD,
        "tolerance": {"floats": FLOAT_TOLERANCE, "fixed_point": FIXED_POINT_TOLERANCE},
        "unavailable": runner.unavailable,
    }
    write(output, header | content)


def write(output: Path, content: dict) -> None:
    """Write a result with what it was measured on."""
    header = {
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": _versions(),
        "processor": _processor(),
        "threads": 1,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_files.replacing(output) as partial:
        partial.write_text(plain_json(header | content) + "\n", encoding="utf-8")
    print(f"\nstored in {output}")


def _code() -> str:
    """Return what changes with the code that is measured, and with the frameworks."""
    found = hashlib.sha256(repr(_versions()).encode())
    for folder in ("src/revlearn", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("numpy", "autograd", "revlearn", "jax", "jaxlib", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return run.stdout.strip()


def _last_words(process: subprocess.CompletedProcess) -> str:
    if process.returncode < 0:
        return f"ended by signal {-process.returncode}"  # 9: out of memory, as a rule
    lines = process.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"
