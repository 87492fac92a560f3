"""The buttons for Binder and Colab: what they lead to exists, and its first cell is right."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import needs
import revlearn
from notebooks import ROOT, listed

REPOSITORY = "https://github.com/example/revlearn"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Return a folder with the chapters of a release, as the workflow leaves them."""
    root = tmp_path_factory.mktemp("release")
    for path in listed():
        copy = root / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    command = ["tools/launch.py", "--repository", REPOSITORY, "--tag", "v0.1.0", "--root", root]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.mark.parametrize("path", listed(), ids=lambda path: path.stem)
def test_each_chapter_has_its_first_cell(release, path):
    before = json.loads(path.read_text(encoding="utf-8"))["cells"]
    after = json.loads((release / path.relative_to(ROOT)).read_text(encoding="utf-8"))["cells"]
    first = next(cell for cell in after if cell["cell_type"] == "code")
    assert f"--branch v0.1.0 {REPOSITORY} book-v0.1.0" in first["source"]
    assert f"%cd -q book-v0.1.0/{path.parent.relative_to(ROOT)}\n" in first["source"]
    assert [cell for cell in after if cell is not first] == before


def test_the_first_cell_does_nothing_elsewhere(release, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    path = release / listed()[0].relative_to(ROOT)
    source = json.loads(path.read_text(encoding="utf-8"))["cells"][1]["source"]
    shell = InteractiveShell()
    monkeypatch.setattr(shell, "system", lambda command: pytest.fail(command))
    here = Path.cwd()
    assert shell.run_cell(source).success
    assert Path.cwd() == here


def test_on_colab_the_release_is_fetched_installed_and_entered(release, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    done = []
    output = SimpleNamespace(enable_custom_widget_manager=lambda: done.append("widgets"))
    monkeypatch.setitem(sys.modules, "google", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(output=output))
    shell = InteractiveShell()
    monkeypatch.setattr(shell, "system", lambda command: done.append(command))
    monkeypatch.setattr(
        shell, "run_line_magic", lambda name, line, *_: done.append(f"{name} {line}")
    )
    path = release / "book/paper/toy.ipynb"
    source = json.loads(path.read_text(encoding="utf-8"))["cells"][1]["source"]
    assert shell.run_cell(source).success
    assert done == [
        "cd -q /content",
        f"git clone --quiet --depth 1 --branch v0.1.0 {REPOSITORY} book-v0.1.0",
        'pip install --quiet "./book-v0.1.0[bayesian,cluster,data,progress,widgets]" optuna',
        "cd -q book-v0.1.0/book/paper",
        "widgets",
    ]


@pytest.fixture
def options(monkeypatch):
    """Return a function from the variables of a build to the options of its theme."""
    needs.module("sphinx")
    import book_site

    def of(**variables):
        for name in ("SITE", "REPOSITORY", "LAUNCH"):
            monkeypatch.delenv(f"REVLEARN_{name}", raising=False)
            if name in variables:
                monkeypatch.setenv(f"REVLEARN_{name}", variables[name])
        config = SimpleNamespace(html_theme_options={})
        book_site.configure(None, config)
        return config.html_theme_options

    return of


def test_no_button_leads_to_a_branch_that_is_not_there(options):
    assert options(REPOSITORY="") == {}
    before = options(REPOSITORY=REPOSITORY + "/")
    assert before["repository_url"] == REPOSITORY
    assert not before.keys() & {"launch_buttons", "repository_branch"}
    released = options(REPOSITORY=REPOSITORY, LAUNCH="launch-v0.1.0")
    assert released["repository_branch"] == "launch-v0.1.0"
    assert released["launch_buttons"]["colab_url"]


def test_the_pages_are_told_of_the_branch_of_this_release_once_it_is_there(tmp_path):
    """The step of the workflow, run beside a repository that plays the published one."""
    needs.program("bash")
    workflow = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text("utf-8"))
    steps = workflow["jobs"]["publish"]["steps"]
    (script,) = (step["run"] for step in steps if "ls-remote" in step.get("run", ""))
    branch = f"launch-v{revlearn.__version__}"

    def run(*command, **options):
        subprocess.run(command, cwd=tmp_path, check=True, **options)

    def told():
        (tmp_path / "told").write_text("")
        environment = os.environ | {"GITHUB_ENV": str(tmp_path / "told")}
        run("bash", "-e", "-c", script, env=environment, stdout=subprocess.DEVNULL)
        return (tmp_path / "told").read_text()

    run("git", "init", "--quiet", "--bare", "published")
    run("git", "init", "--quiet", ".")
    run("git", "remote", "add", "origin", "published")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    person = ["-c", "user.name=release", "-c", "user.email=release@example.org"]
    run("git", *person, "commit", "--quiet", "--allow-empty", "--message", "A release")
    run("git", "push", "--quiet", "origin", f"HEAD:other/{branch}")
    assert told() == ""
    run("git", "push", "--quiet", "origin", f"HEAD:{branch}")
    assert told() == f"REVLEARN_LAUNCH={branch}\n"
    release = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert 'git push --force origin "launch-$GITHUB_REF_NAME"' in release


def test_binder_installs_the_lock_and_the_package():
    folder = ROOT / ".binder"
    (line,) = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert (folder / line.removeprefix("-r ")).resolve() == ROOT / "requirements.txt"
    assert (folder / "postBuild").stat().st_mode & 0o100
    assert "pip install --no-deps ." in (folder / "postBuild").read_text(encoding="utf-8")
