"""The benchmark's contenders find the same hypergradient. Nothing is timed here."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import limits
import needs
import report
from problems import PROBLEMS
from registry import CONTENDERS

ROOT = Path(__file__).parents[1]
# One process runs the command once, for all tests.
pytestmark = pytest.mark.xdist_group("benchmarks")


def run(output, *options):
    command = [sys.executable, ROOT / "benchmarks/contenders.py", "--problem", "tiny"]
    return subprocess.run(
        [*command, "--repeats", "1", "--output", output, "--keep", output.parent, *options],
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    output = tmp_path_factory.mktemp("benchmarks") / "tiny.json"
    process = run(output)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "[1/" in process.stdout
    return output


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_finds_the_same(stored, name):
    if CONTENDERS[name].missing():
        needs.skip(CONTENDERS[name].framework)
    found = json.loads(stored.read_text())["contenders"][name]["differs_by"]
    parts = {"loss"} if CONTENDERS[name].is_plain else {"loss", "rates", "momenta", "penalties"}
    assert found.keys() == parts
    assert max(found.values()) <= report.tolerance(name)


def test_what_is_measured_is_not_measured_again(stored):
    again = run(stored, "--only", "autograd-unrolled")
    assert "1 of 1 measurements are there" in again.stdout, again.stdout + again.stderr


def test_memory_against_steps(stored):
    output = stored.with_name("sweep.json")
    process = run(output, "--sweep", "6", "4", "--only", "revlearn-autograd")
    assert process.returncode == 0, process.stdout + process.stderr
    content = json.loads(output.read_text())
    assert list(content["sweep"]["revlearn-autograd"]) == ["4", "6"]
    assert content["tape_num_bits"]["6"] >= content["tape_num_bits"]["4"] > 0


def test_results_do_not_tell_where_they_were_made(stored):
    text = stored.read_text()
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert platform.node() not in json.loads(text)


def test_a_contender_that_is_wrong_is_named():
    problem = PROBLEMS["tiny"]
    right = np.random.RandomState(0).randn(2 * 6 * len(problem.leaves) + 4785)
    wrong, lost = right.copy(), right.copy()
    wrong[7] *= 1.0 + 1e-4
    lost[-1] = np.nan
    gradients = {"autograd-unrolled": right, "revlearn-autograd": wrong, "jax-scan": lost}
    losses = dict.fromkeys(gradients, 2.0) | {"torch-plain": 2.001, "jax-plain": 2.0}
    distances = report.disagreement(problem, 6, losses, gradients)
    assert distances["revlearn-autograd"]["rates"] > 1e-6
    assert distances["revlearn-autograd"]["momenta"] == 0.0
    assert report.far_apart(distances) == ["revlearn-autograd", "jax-scan", "torch-plain"]


def test_limits_compare_round_by_round():
    summaries = {
        "revlearn-jax": {"seconds": [1.0, 4.0, 1.0], "memory": [1, 2, 3]},
        "jax-root": {"seconds": [2.0, 2.0, 2.0], "memory": [40, 40, 40]},
    }
    time, memory = limits.of_comparison("small", summaries, [])
    assert (time["measured"], time["met"]) == (0.5, True)
    assert (memory["measured"], memory["met"]) == (0.05, True)


def test_growth_must_be_the_bits_that_the_tape_states():
    row = {100: {"memory": 5_000}, 10_000: {"memory": 15_600}}
    bits = {100: 8_000, 10_000: 88_000}
    (held,) = limits.of_sweep({"revlearn-autograd": row, "jax-root": row}, bits)
    assert (held["measured"], held["met"]) == (1.06, False)


def test_the_sweep_leaves_out_what_would_be_too_much():
    row = {100: {"memory": 1e8, "seconds": 1.0}, 300: {"memory": 3e8, "seconds": 3.0}}
    assert report.too_much(row, 1000, 2e9, 60.0) is None
    assert "memory would be about 1.0" in report.too_much(row, 1000, 0.9e9, 60.0)
    assert "seconds would be about 10.0" in report.too_much(row, 1000, 2e9, 9.0)
    assert report.too_much({}, 100, 0.0, 0.0) is None
