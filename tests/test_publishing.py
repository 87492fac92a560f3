"""What the project says of itself: whether it is released, how to install it, where it is."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import needs
import revlearn
from revlearn import errors

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = "https://github.com/example/revlearn"
# Version and date, or "unreleased", the newest first.
CHANGES = re.findall(r"^## ([\d.]+), (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)


def workflow(name):
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8"))


def test_all_agree_on_what_was_released():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version, date = CHANGES[0]
    assert version == revlearn.__version__ == PROJECT["project"]["version"]
    assert citation["version"] == version
    assert str(citation.get("date-released", "unreleased")) == date
    released = any(date != "unreleased" for _, date in CHANGES)
    assert released == errors.ON_INDEX


def test_the_words_on_installing_follow_one_constant(monkeypatch):
    assert errors.how_to_install("jax").startswith(
        'pip install "revlearn[jax]"' if errors.ON_INDEX else 'pip install ".[jax]"'
    )
    monkeypatch.setattr(errors, "ON_INDEX", True)
    assert errors.how_to_install("jax") == 'pip install "revlearn[jax]"'
    monkeypatch.setattr(errors, "ON_INDEX", False)
    assert errors.how_to_install("jax") == 'pip install ".[jax]" in the folder of a clone'


def test_nothing_else_says_how_to_install_an_extra():
    page = (ROOT / "book/reference/cluster.md").read_text(encoding="utf-8")
    command, _, where = errors.how_to_install("cluster").partition(" in ")
    assert f"`{command}`{' in ' * bool(where)}{where}" in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`{errors.how_to_install('fast').partition(' in ')[0]}`" in readme
    assert f"`pip install {'revlearn' if errors.ON_INDEX else '.'}`" in readme
    pages = [*(ROOT / "book").rglob("*.md"), *(ROOT / "book").rglob("*.ipynb"), ROOT / "README.md"]
    for path in [*pages, *(ROOT / "src").rglob("*.py")]:
        if path.name != "errors.py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"pip install \\?\"?revlearn\b", text) or errors.ON_INDEX, path
    named = set()
    programs = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
    for path in [*programs, ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        named.update(re.findall(r"(?:how_to_install|missing_extra)\(['\"](\w+)", text))
        for several in re.findall(r"pip install [^\n`]*\[([\w,]+)\]", text):
            named.update(several.split(","))
    assert {"jax", "torch", "data", "cluster", "fast"} <= named
    assert named <= PROJECT["project"]["optional-dependencies"].keys()


def test_each_licence_of_the_package_is_in_a_file():
    texts = "\n".join(
        (ROOT / name).read_text(encoding="utf-8") for name in PROJECT["project"]["license-files"]
    )
    names = {"MIT": "MIT License", "CC-BY-SA-3.0": "licensed under CC BY-SA 3.0"}
    licences = PROJECT["project"]["license"].split(" AND ")
    assert licences == list(names)
    assert all(names[licence] in texts for licence in licences)


@pytest.fixture
def hook(monkeypatch):
    """Return hatch_build.py as names, without hatchling."""
    interface = "hatchling.metadata.plugin.interface"
    for part in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, part, SimpleNamespace())
    monkeypatch.setitem(sys.modules, interface, SimpleNamespace(MetadataHookInterface=object))
    return runpy.run_path(str(ROOT / "hatch_build.py"))


README = "![A run\nrewound](book/a.png)\n\nSee [it](A.md#b), [this](https://x.org/) and [c](#d).\n"


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("", "See it, [this](https://x.org/) and [c](#d).\n"),
        (
            REPOSITORY,
            f"![A run\nrewound]({REPOSITORY}/raw/v1.2/book/a.png)\n\nSee "
            f"[it]({REPOSITORY}/blob/v1.2/A.md#b), [this](https://x.org/) and [c](#d).\n",
        ),
    ],
)
def test_on_an_index_readme_has_no_relative_link(hook, repository, expected):
    assert hook["alone"](README, repository, "v1.2") == expected


@pytest.mark.parametrize("known", [True, False])
def test_the_metadata_name_the_addresses_that_are_known(hook, tmp_path, known):
    (tmp_path / "README.md").write_text(README)
    values = (REPOSITORY + "/", "https://example.org", "a@example.org") if known else ("", "", "")
    lines = [f'{name} = "{v}"' for name, v in zip(PROJECT["tool"]["revlearn"], values, strict=True)]
    (tmp_path / "pyproject.toml").write_text("\n".join(["[tool.revlearn]", *lines]))
    metadata = {"version": "1.2"}
    hook["Addresses"].update(SimpleNamespace(root=str(tmp_path)), metadata)
    assert metadata["readme"]["content-type"] == "text/markdown"
    if known:
        assert metadata["urls"]["Repository"] == REPOSITORY
        assert metadata["urls"]["Issues"] == f"{REPOSITORY}/issues"
        assert metadata["urls"]["Documentation"] == "https://example.org"
        assert metadata["maintainers"] == [{"email": "a@example.org"}]
    else:
        assert (metadata["urls"], metadata["maintainers"]) == ({}, [])


def test_the_wheel_is_tried_on_every_python_that_it_names():
    names = [re.search(r":: (3\.\d+)$", name) for name in PROJECT["project"]["classifiers"]]
    matrix = workflow("test")["jobs"]["wheel"]["strategy"]["matrix"]["python-version"]
    assert matrix == [match[1] for match in names if match]
    assert PROJECT["project"]["requires-python"] == f">={matrix[0]}"


def test_a_release_is_tested_and_uploaded_without_a_password():
    jobs = workflow("release")["jobs"]
    assert jobs["test"]["needs"] == "declared"
    assert jobs["index"]["needs"] == "test"
    assert jobs["release"]["needs"] == ["test", "index"]  # what can be undone comes last
    assert jobs["index"]["permissions"] == {"id-token": "write"}
    assert jobs["index"]["environment"]
    assert any("gh-action-pypi-publish" in step["uses"] for step in jobs["index"]["steps"])


@pytest.mark.parametrize(
    ("address", "heading", "good"),
    [
        (REPOSITORY, "## 0.1.0, 2027-01-02", True),
        (REPOSITORY, "## 0.1.0, unreleased", False),
        ("", "## 0.1.0, 2027-01-02", False),
    ],
)
def test_a_tag_without_the_release_in_the_files_is_refused(tmp_path, address, heading, good):
    needs.program("bash")
    (step,) = (s for s in workflow("release")["jobs"]["declared"]["steps"] if "run" in s)
    (tmp_path / "CHANGELOG.md").write_text(heading + "\n")
    project = f'version = "0.1.0"\nrepository = "{address}"\n'
    (tmp_path / "pyproject.toml").write_text(project)
    server, _, name = REPOSITORY.partition("/example")
    given = {"GITHUB_REF_NAME": "v0.1.0", "GITHUB_SERVER_URL": server}
    given["GITHUB_REPOSITORY"] = "example" + name
    command = ["bash", "-e", "-c", step["run"]]
    assert (subprocess.run(command, cwd=tmp_path, env=os.environ | given).returncode == 0) == good
