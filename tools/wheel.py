"""Build the package as an index gets it, and try the wheel alone on each Python that is found.

    python tools/wheel.py    # leaves the wheel and the sdist in _build/dist

On each Python that pyproject.toml lists, a new environment gets the wheel and what it requires, and
nothing else, and README's ten lines must run there without a warning. mypy must find types.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "_build/dist"
USE = "import revlearn as rl\n\nrate: float = rl.SGD(0.1, 0.9)\n"
COMPLAINT = r'Incompatible types in assignment \(expression has type "SGD"'


def run(*command: str | Path, **options) -> None:
    subprocess.run(list(map(str, command)), check=True, **options)


def environment(folder: Path, python: str | Path, *arguments: str | Path) -> Path:
    """Make an environment, install something into it, and return its folder of programs."""
    run(python, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-q", *arguments)
    return folder / "bin"


def build(tools: Path) -> Path:
    """Build and check wheel and sdist, put them in their place, and return the wheel."""
    with tempfile.TemporaryDirectory(dir=DIST.parent) as folder:
        partial = Path(folder) / "dist"
        run(tools / "python", "-m", "build", "--outdir", partial, ROOT)
        run(tools / "twine", "check", "--strict", *partial.iterdir())
        shutil.rmtree(DIST, ignore_errors=True)
        partial.rename(DIST)
    return next(DIST.glob("*.whl"))


def wanted() -> list[str]:
    """Return the versions of Python that the package says it runs on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = (re.search(r"Python :: (3\.\d+)$", name) for name in project["classifiers"])
    return [match[1] for match in found if match]


def candidates(version: str) -> Iterator[str | Path]:
    yield sys.executable
    for folder in os.environ["PATH"].split(os.pathsep):
        yield Path(folder) / f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from pyenv.glob(f"versions/{version}.*/bin/python")


def find(version: str) -> str | Path | None:
    """Return a Python of this version that can make environments."""
    question = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for python in candidates(version):
        if shutil.which(python):
            answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
            if answer.stdout.strip() == version:
                return python
    return None


def check_types(tools: Path, wheel: Path, folder: Path) -> None:
    """Exit unless mypy learns from the wheel what type an optimizer is."""
    run(tools / "python", "-m", "pip", "install", "-q", wheel)
    (folder / "use.py").write_text(USE, encoding="utf-8")
    found = subprocess.run([tools / "mypy", "use.py"], cwd=folder, capture_output=True, text=True)
    if not re.search(COMPLAINT, found.stdout):
        sys.exit(f"{found.stdout}{found.stderr}\nmypy finds no types in the wheel")


def check_lines(python: str | Path, wheel: Path, folder: Path) -> None:
    """Raise unless README's lines run in an environment that holds the wheel alone."""
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    programs = environment(folder / "alone", python, wheel)
    # -I: neither this folder nor the environment's variables add anything.
    run(programs / "python", "-I", "-W", "error", "-c", lines, cwd=folder)


def main() -> None:
    DIST.parent.mkdir(exist_ok=True)
    pythons = {version: find(version) for version in wanted()}
    if not any(pythons.values()):
        sys.exit(f"none of Python {', '.join(pythons)} is here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tools = environment(folder / "tools", sys.executable, "-r", ROOT / "requirements-wheel.txt")
        wheel = build(tools)
        check_types(tools, wheel, folder)
    for python in filter(None, pythons.values()):
        with tempfile.TemporaryDirectory() as name:
            check_lines(python, wheel, Path(name))
    for version, python in pythons.items():
        print(f"Python {version}:", "the wheel alone runs the ten lines" if python else "not here")


if __name__ == "__main__":
    main()
