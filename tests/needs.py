"""What not every environment has. A test that needs it says so here, and is skipped without.

The reasons are of one form: continuous integration reads from them what no step of it ran.
"""

import importlib
import json
import shutil
import warnings
from pathlib import Path

import pytest

_LOCK, _FRAMEWORKS = "pip install -r requirements.txt", "make test-frameworks"
HOW = {
    "numba": _FRAMEWORKS,
    "jax": _FRAMEWORKS,
    "torch": _FRAMEWORKS,
    "anywidget": _LOCK,
    "distributed": _LOCK,
    "ipywidgets": _LOCK,
    "joblib": _LOCK,
    "matplotlib": _LOCK,
    "playwright": _LOCK,
    "scipy": _LOCK,
    "sphinx": _LOCK,
    "bash": "a program of this name",
    "fork": "a system that forks processes",
    "make": "a program of this name",
    "book": "make book",
    "chromium": "on Debian apt-get install chromium, or let REVLEARN_CHROMIUM name the program",
    "data": "let REVLEARN_DATA name a folder with MNIST and Omniglot",
    "pyodide": "set REVLEARN_PYODIDE, make book",
    "wheel": "make wheel, whose outcome is missing or older than the sources",
}


def reason(name):
    """Return why a test is skipped."""
    return f"needs {name}: {HOW[name]}"


def skip(name):
    """Skip the test, or the whole module."""
    pytest.skip(reason(name), allow_module_level=True)


def module(name):
    """Return a module, or skip for want of it, or of what it imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as pytest.importorskip does
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = next((one for one in (error.name, name) if one in HOW), None)
        if missing is None:
            raise
        skip(missing)


def program(name):
    """Skip where there is no program of this name."""
    if not shutil.which(name):
        skip(name)


def pytest_addoption(parser):
    parser.addoption("--skipped-to", metavar="FILE", help="write which tests were skipped, and why")


def pytest_terminal_summary(terminalreporter, config):
    """Write the names and reasons of what was skipped: tests, or modules as a whole."""
    if name := config.getoption("skipped_to"):
        reports = terminalreporter.stats.get("skipped", [])
        skipped = {report.nodeid: report.longrepr[2] for report in reports}
        file = Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(skipped, indent=1), encoding="utf-8")
        partial.replace(file)
