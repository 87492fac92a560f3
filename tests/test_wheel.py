"""What an index gets: made by make wheel, looked at here."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import needs

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "_build/dist"
PACKAGE = {
    path.relative_to(ROOT / "src").as_posix(): path
    for path in (ROOT / "src/revlearn").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
OTHERS = ["pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md", "CITATION.cff"]
LICENCES = ["LICENSE", "LICENSE-TEXT"]


@pytest.fixture(scope="module")
def built():
    """Return the wheel and the sdist, opened."""
    sources = [*PACKAGE.values(), *(ROOT / name for name in OTHERS + LICENCES)]
    sources += (ROOT / "tests").glob("*.py")
    found = sorted(BUILT.glob("revlearn-*"))
    if not found or found[0].stat().st_mtime < max(path.stat().st_mtime for path in sources):
        needs.skip("wheel")
    with zipfile.ZipFile(next(path for path in found if path.suffix == ".whl")) as opened:
        if set(PACKAGE) != {name for name in opened.namelist() if ".dist-info/" not in name}:
            needs.skip("wheel")  # a file was removed since, or one was added and is older
    wheel, sdist = (next(path for path in found if path.suffix == end) for end in (".whl", ".gz"))
    with zipfile.ZipFile(wheel) as opened, tarfile.open(sdist) as unpacked:
        yield opened, unpacked


@pytest.fixture(scope="module")
def metadata(built):
    (name,) = (name for name in built[0].namelist() if name.endswith("/METADATA"))
    return message_from_bytes(built[0].read(name))


def test_the_wheel_is_the_package_and_its_licences(built):
    wheel, _ = built
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == set(PACKAGE)
    assert "revlearn/py.typed" in inside
    for name, path in PACKAGE.items():
        assert wheel.read(name) == path.read_bytes(), name
    licences = [name for name in wheel.namelist() if "/licenses/" in name]
    assert [name.rpartition("/")[2] for name in licences] == LICENCES


def test_the_sdist_is_the_package_its_tests_and_licences(built):
    _, sdist = built
    inside = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    tests = {name for name in inside if name.startswith("tests/")}
    added = {"PKG-INFO", ".gitignore"}
    assert inside - tests == {f"src/{name}" for name in PACKAGE} | {*OTHERS, *LICENCES} | added
    assert {"tests/conftest.py", "tests/needs.py", "tests/test_training.py"} <= tests
    assert Path(sdist.name).stat().st_size < 2e6


def test_the_tests_of_the_sdist_need_no_more_than_it_holds(built, tmp_path):
    _, sdist = built
    sdist.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-pno:cacheprovider"]
    run = subprocess.run(
        [*command, "tests", "src"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    for path in (folder / "tests").rglob("*.py"):
        assert "parents[" not in path.read_text(encoding="utf-8"), path.name


def test_the_description_stands_alone(metadata):
    description = metadata.get_payload()
    assert description.startswith("# revlearn")
    assert re.findall(r"\]\((?!https?://)[^)]*\)", description) == []


def test_the_metadata_say_what_it_is(metadata):
    assert metadata["License-Expression"] == "MIT AND CC-BY-SA-3.0"
    classifiers = metadata.get_all("Classifier")
    for start in ("Development Status", "Operating System", "Typing :: Typed"):
        assert any(name.startswith(start) for name in classifiers), start
    assert "Programming Language :: Python :: 3.14" in classifiers
    extras = metadata.get_all("Provides-Extra")
    assert not {"book", "print", "test"} & set(extras)
