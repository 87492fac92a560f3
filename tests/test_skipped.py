"""What one step of the tests skipped, the next one runs; what none ran is said."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import needs

ROOT = Path(__file__).parents[1]
TESTS = {
    "conftest.py": "from needs import pytest_addoption, pytest_terminal_summary",
    "test_parts.py": """
import os, pytest, needs
def test_that_runs(): pass
@pytest.mark.parametrize("number", [1, 2])
def test_that_needs_something(number):
    if "THERE" not in os.environ: needs.skip("jax")
@pytest.mark.skipif("PYODIDE" not in os.environ, reason=needs.reason("pyodide"))
def test_marked(): pass
def test_that_has_nothing_to_say(): pytest.skip("of no use")
""",
    "test_whole.py": """
import os, needs
if "THERE" not in os.environ: needs.skip("numba")
def test_one(): pass
def test_two(): pass
""",
}


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "tests/needs.py", tmp_path)
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder, *options, **environment):
    """Run tests in two processes; return how many passed, and how many were skipped."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-pxdist", "-n2", "--rootdir", folder, *options],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {what: int(count) for count, what in re.findall(r"(\d+) (passed|skipped)", done.stdout)}


def skipped(*arguments):
    command = [sys.executable, ROOT / "tools/skipped.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_second_step_runs_what_the_first_skipped_and_the_rest_is_said(folder):
    first, second = folder / "steps/test.json", folder / "steps/test-frameworks.json"
    assert run(folder, f"--skipped-to={first}") == {"passed": 1, "skipped": 5}
    assert json.loads(first.read_text()) == {
        "test_parts.py::test_that_needs_something[1]": f"Skipped: {needs.reason('jax')}",
        "test_parts.py::test_that_needs_something[2]": f"Skipped: {needs.reason('jax')}",
        "test_parts.py::test_marked": f"Skipped: {needs.reason('pyodide')}",
        "test_parts.py::test_that_has_nothing_to_say": "Skipped: of no use",
        "test_whole.py": f"Skipped: {needs.reason('numba')}",
    }
    alone = skipped(first)
    assert alone.returncode == 1
    assert "for want of jax, numba, pyodide, which should be there" in alone.stderr

    (folder / "names").write_text(skipped(first, "--names").stdout)
    ran = run(folder, "@names", f"--skipped-to={second}", THERE="1")
    assert ran == {"passed": 4, "skipped": 2}
    both = skipped(first, second, "--without", "pyodide")
    assert both.returncode == 0
    never = both.stdout.partition("No step ran:")[2]
    assert "of no use\n    test_parts.py::test_that_has_nothing_to_say" in never
    assert "test_parts.py::test_marked" in never
    assert "jax" not in never
    assert skipped(first, second).returncode == 1


def test_what_tests_need_is_said_in_one_way():
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name not in {"needs.py", Path(__file__).name}:
            source = path.read_text(encoding="utf-8")
            assert "importorskip" not in source, path
            assert source.count("skipif(") == source.count("reason=needs.reason("), path
