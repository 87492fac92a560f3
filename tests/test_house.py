"""The rules of the house: notebooks, pages, docstrings, README."""

import inspect
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from numpydoc.validate import validate

import needs
from notebooks import STORED_RUN, experiments, stored_run, toc_names

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(
    path
    for path in (ROOT / "book").rglob("*.ipynb")
    if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts)
)
each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[str(path.relative_to(ROOT)) for path in NOTEBOOKS]
)


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == kind:
            yield cell, "".join(cell["source"])


def test_the_table_of_contents_and_the_pages_agree():
    listed = set(toc_names())
    pages = {
        str(path.relative_to(ROOT).with_suffix(""))
        for path in [*NOTEBOOKS, *(ROOT / "book").rglob("*.md")]
    }
    assert listed == pages


@each_notebook
def test_it_is_stored_executed_in_order(path):
    counts = [cell["execution_count"] for cell, source in cells(path, "code") if source.strip()]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_its_outputs_can_be_compared(path):
    for cell, source in cells(path, "code"):
        last = source.strip().splitlines()[-1]
        assert not last.rstrip().endswith(";"), f"write _ = …, not a semicolon: {last}"
        assert not re.search(r"\binteract(ive_output)?\s*\(", source), "use Explorer"
        for output in cell["outputs"]:
            text = json.dumps(output)
            assert output.get("name") != "stderr", f"stderr: {text[:300]}"
            assert output["output_type"] != "error", text[:300]
            assert "image/svg+xml" not in output.get("data", {}), "no SVG"
            if "image/png" not in output.get("data", {}):
                assert not re.search(r"0x[0-9a-f]{8,}|/(home|tmp|root|usr)/", text), text[:300]


@each_notebook
def test_every_figure_says_what_it_shows(path):
    for cell, source in cells(path, "code"):
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) >= 60, f"no alternative text: {source[:80]}"


@each_notebook
def test_every_labelled_equation_is_asserted(path):
    code = "\n".join(source for _, source in cells(path, "code"))
    for _, source in cells(path, "markdown"):
        for label in re.findall(r"\$\$\s*\(([\w-]+)\)", source):
            assert label in code, f"no code names the equation {label}"
    assert re.search(r"^\s*assert |\bcheck_\w+\(|assert_allclose", code, re.M), (
        "nothing is asserted"
    )


@each_notebook
def test_it_has_the_parts_of_a_chapter(path):
    text = "\n".join(source for _, source in cells(path, "markdown"))
    first = next(source for _, source in cells(path, "markdown"))
    assert re.match(r"# \S", first)
    runs_in = re.search(r"\*Runs in (\d+) seconds? on one core and [\d.]+ [MG]B of memory, ", first)
    assert runs_in, "the line on time and memory is missing: make notebooks writes it"
    assert int(runs_in[1]) < 60
    for part in (
        "**You will**",
        "**You will learn**",
        "**You need**",
        "## Further reading",
        "{cite",
    ):
        assert part in text, part
    exercises = set(re.findall(r"\{exercise\}[^\n]*\n:label: ([\w-]+)", text))
    solutions = set(re.findall(r"\{solution\} ([\w-]+)", text))
    assert len(exercises) >= 2
    assert exercises == solutions
    assert any(
        re.search(r"Explorer\(|widgets\.[A-Z]\w+\(", source) for _, source in cells(path, "code")
    ), "no control to play with"


@each_notebook
def test_its_explorables_are_those_of_the_package(path):
    from revlearn import widgets

    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    stored = metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for model in stored.get("state", {}).values():
        if model["model_module"] == "anywidget":
            name = model["state"]["_anywidget_id"].rpartition(".")[2]
            current = getattr(widgets, name)
            for part in ("_esm", "_css"):
                assert model["state"][part] == str(getattr(current, part)), (
                    f"the notebook holds an older {part} of {name}: make notebooks NOTEBOOK={path}"
                )


@pytest.mark.parametrize("path", experiments(), ids=lambda path: path.stem)
def test_it_says_what_the_stored_run_took(path):
    first = next(source for _, source in cells(path, "markdown"))
    (line,) = [match[0] for match in STORED_RUN.finditer(first) if match[1] == path.stem]
    assert line == stored_run(path.stem), "make notebooks brings it up to date"


# Found as files: some need more than the package does, and nothing is imported to collect tests.
MODULES = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "src/revlearn").rglob("*.py"))
]


# Summary and parameters in numpydoc's form: names match the signature, none is left out.
CHECKED = {"GL08", "SS03", "SS05", "PR01", "PR02", "PR03", "PR04", "PR10", "RT03", "YD01"}


@pytest.mark.filterwarnings("ignore:Widget")
@pytest.mark.parametrize("name", MODULES)
def test_docstrings_match_signatures(name):
    for attribute, value in vars(needs.module(name)).items():
        of_this_module = getattr(value, "__module__", None) == name
        if attribute.startswith("_") or not of_this_module:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            checked = CHECKED
            if "Parameters\n" not in (value.__doc__ or ""):  # one line suffices for the obvious
                checked = CHECKED - {"PR01", "RT03", "YD01"}
            errors = validate(f"{name}.{attribute}")["errors"]
            assert [error for error in errors if error[0] in checked] == [], attribute


def python_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S)


def test_the_ten_lines_run_and_are_the_same_in_both_places():
    (readme,), (intro,) = python_blocks(ROOT / "README.md"), python_blocks(ROOT / "book/intro.md")
    assert readme == intro
    names = {}
    exec(compile(readme, "README.md", "exec"), names)
    assert names["hypergradient"].shape == (50,)
    assert 0 < names["value"] < 1.0
    assert abs(names["hypergradient"]).min() > 0


def test_the_program_on_sweeps_runs_and_resumes(tmp_path):
    needs.module("distributed")
    (program,) = python_blocks(ROOT / "book/reference/cluster.md")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    outputs = [
        subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    losses = json.loads(outputs[0])
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 2.5
    assert len(list((tmp_path / "sweep").glob("0*.json"))) == 4


def test_make_help_explains_every_target():
    needs.program("make")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    explained = re.findall(r"^([a-z-]+) +\S.*\n +needs (\S.*); (\S.*)$", run.stdout, re.M)
    assert [name for name, _, _ in explained] == re.search(r"\.PHONY: (.*)", makefile)[1].split()
    assert {"book", "test", "lab", "paper", "lint", "clean", "notebooks"} <= {
        name for name, _, _ in explained
    }
    for name, needed, time in explained:
        recipe = re.search(rf"^{name}:.*\n((?:\t.*\n)*)", makefile, re.M)[1]
        assert re.fullmatch(r"a moment|half a minute|as you like|\d+ (second|minute|hour)s", time)
        prints = re.search(r"tools/(pdf|epub|check_live)\.py", recipe)
        installs = re.search(r"pip install|tools/wheel\.py|uv ", recipe)
        assert not prints or "Chromium" in needed, name
        assert not installs or "network" in needed, name


def test_the_lock_holds_what_the_project_asks_for():
    locked = {}
    for part in ("", "-frameworks", "-wheel"):
        lock = (ROOT / f"requirements{part}.txt").read_text(encoding="utf-8")
        assert "://" not in lock
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.M):
            locked.setdefault(name.lower(), set()).add(version)
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = tables["project"], tables["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    for entry in itertools.chain(*lists):
        if isinstance(entry, str):  # a group may include another one
            name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(?:[>=]=(.*))?", entry).groups()
            assert name in locked, entry
            assert "==" not in entry or locked[name] == {version}, entry
    assert len(locked["mypy"]) == 1  # it stands in two of the files


def test_no_pickle_and_no_eval():
    for path in (ROOT / "src").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        forbidden = r"import pickle|pickle\.\w|allow_pickle=True|\beval\(|\bexec\("
        assert not re.search(forbidden, source), path.name


def test_modules_stay_small():
    for path in (ROOT / "src").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path.name


def test_the_notebook_tool_explains_itself():
    for tool in ("notebooks.py", "paper.py"):
        result = subprocess.run(
            [sys.executable, ROOT / "tools" / tool, "--help"], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert "usage" in result.stdout
