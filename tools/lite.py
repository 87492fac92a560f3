"""Build the live pages: JupyterLite with the chapters, into _build/html/lite.

    python tools/lite.py    # before the book, which links to what is there

Python in the browser is Pyodide. It comes from the folder that REVLEARN_PYODIDE names, and is then
part of the site; without that variable readers load it from its official CDN. Either way the
versions and checksums are those of lite/pyodide-lock.json, the part of Pyodide's own lock that the
chapters need. The wheels that Pyodide lacks are fetched in the versions of requirements.txt.
Where these cannot be had, there are no live pages, and this says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from live_copy import live_copy
from notebooks import ROOT

LITE, WORK, OUTPUT = ROOT / "lite", ROOT / "_build/lite", ROOT / "_build/html/lite"
FOLDERS = ["foundations", "paper", "beyond"]
# They need scipy, and codespell's dictionary, which the lock of the live pages does not hold.
NOT_LIVE = ["beyond/bayesian", "beyond/recurrent"]
CDN = "https://cdn.jsdelivr.net/pyodide/v{version}/full/"
KERNEL = "@jupyterlite/pyodide-kernel-extension"
LABEXTENSIONS = [KERNEL, "@jupyter-widgets/jupyterlab-manager", "anywidget"]
# The part of Pyodide that its lock does not list.
CORE = {
    "pyodide.js": "b4cb23a53aba19c221659b9fb40a2f18281d685691dc06647fb0afd0681baf98",
    "pyodide.asm.js": "6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51",
    "pyodide.asm.wasm": "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f",
    "python_stdlib.zip": "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16",
}
# What Pyodide lacks and the chapters import, with what each needs there. These are not all that
# their metadata ask for: Optuna does without its databases, ipywidgets without its front end.
WHEELS = {
    "anywidget": ["ipywidgets", "psygnal", "typing-extensions"],
    "autograd": ["numpy"],
    "colorlog": [],
    "comm": ["traitlets"],
    "ipywidgets": ["comm", "ipython", "traitlets"],
    "optuna": ["colorlog", "numpy", "packaging", "sqlite3", "tqdm", "typing-extensions"],
    "psygnal": [],
    "tqdm": [],
    "typing-extensions": [],
}
# One import of revlearn brings all of it, plotting and widgets too.
OWN = ["anywidget", "autograd", "ipywidgets", "matplotlib", "numpy"]


class Unavailable(Exception):
    """A wheel that the live pages need is not to be had, without a network for example."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output.resolve()
    try:
        build(output)
    except Unavailable as problem:
        shutil.rmtree(output, ignore_errors=True)  # of an earlier build: the book must not link it
        print(f"No live pages: {problem}")
    else:
        print(f"Live pages: {megabytes(output)} MB in {output}")


def build(output: Path) -> None:
    pyodide = os.environ.get("REVLEARN_PYODIDE")
    lock = json.loads((LITE / "pyodide-lock.json").read_text(encoding="utf-8"))
    source, site = fresh(WORK / "source"), WORK / "site"
    shutil.rmtree(site, ignore_errors=True)

    configuration = json.loads((LITE / "jupyter-lite.json").read_text(encoding="utf-8"))
    settings = configuration["jupyter-config-data"]["litePluginSettings"][f"{KERNEL}:kernel"]
    address = "./static/pyodide/" if pyodide else CDN.format(version=lock["info"]["version"])
    settings["pyodideUrl"] = f"{address}pyodide.js"
    write(source / "jupyter-lite.json", json.dumps(configuration, indent=1))
    # All cells stay in the page, so that the browser finds words in them.
    shutil.copy(LITE / "overrides.json", source)
    contents = fresh(WORK / "contents")
    copy_chapters(contents)
    run_jupyterlite(source, contents, site)

    wheels = fresh(site / "static/wheels")
    for wheel in [own_wheel(), *fetched_wheels(), *kernel_wheels(site)]:
        shutil.copy(wheel, wheels)
        lock["packages"] |= entry(wheel)
    write(site / "static/pyodide-lock.json", json.dumps(lock))
    if pyodide:
        copy_pyodide(Path(pyodide), lock, fresh(site / "static/pyodide"))

    # Our script runs first and loads JupyterLite: it tells the reader how the start goes.
    index = site / "notebooks/index.html"
    page = index.read_text(encoding="utf-8")
    page = page.replace("<html>", '<html lang="en">', 1)
    icon = '</title>\n    <link rel="icon" href="favicon.ico" />'
    page = page.replace(
        "Jupyter Notebook - Notebooks</title>", f"Live: Learning, run backwards{icon}"
    )
    page, found = re.subn(r"\.\./config-utils\.js\?_=\w+", "../live.js", page)
    if found != 1:
        sys.exit(f"{index} is not as expected: {found} places where JupyterLite is loaded")
    write(index, page)
    shutil.copy(LITE / "live.js", site)

    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    site.rename(output)


def run_jupyterlite(source: Path, contents: Path, site: Path) -> None:
    extensions = Path(sys.prefix) / "share/jupyter/labextensions"
    options = {
        "apps": ["notebooks"],
        "cache_dir": str(WORK / "cache"),
        "contents": [str(contents)],
        "federated_extensions": [str(extensions / name) for name in LABEXTENSIONS],
        # What else is installed beside them does not belong in the book.
        "ignore_sys_prefix": ["federated_extensions"],
        "lite_dir": str(source),
        "no_sourcemaps": True,
        "no_unused_shared_packages": True,
        "output_dir": str(site),
    }
    file = source / "jupyter_lite_config.json"
    write(file, json.dumps({"LiteBuildConfig": options}))
    command = [sys.executable, "-m", "jupyterlite_core", "build", "--config", str(file)]
    run = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{run.stdout}\n{run.stderr}\njupyter lite build failed")


def copy_chapters(contents: Path) -> None:
    for folder in FOLDERS:
        for path in sorted((ROOT / "book" / folder).glob("*.ipynb")):
            if f"{folder}/{path.stem}" in NOT_LIVE:
                continue
            write(contents / folder / path.name, live_copy(path))
    (contents / "results").mkdir()
    for path in (ROOT / "book/results").iterdir():
        if path.suffix in (".json", ".npz", ".toml"):
            shutil.copy(path, contents / "results")


def own_wheel() -> Path:
    folder = fresh(WORK / "own")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


def fetched_wheels() -> list[Path]:
    """Return the wheels that the lock of the environment names, from the cache where they are."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M))
    cache = WORK / "wheels"
    cache.mkdir(parents=True, exist_ok=True)
    wheels = []
    for name in WHEELS:
        pattern = f"{name.replace('-', '_')}-{versions[name]}-py*-none-any.whl"
        if not list(cache.glob(pattern)):
            any_machine = "--only-binary=:all: --platform any --implementation py --abi none"
            options = ["--no-deps", *any_machine.split(), "--python-version", "3.12"]
            pip("download", *options, "--dest", str(cache), f"{name}=={versions[name]}")
        wheels.append(next(cache.glob(pattern)))
    return wheels


def kernel_wheels(site: Path) -> list[Path]:
    """Return the parts of the kernel that JupyterLite brings along."""
    folder = site / "extensions" / KERNEL / "static/pypi"
    return [
        next(folder.glob(f"{name}-*.whl")) for name in ("piplite", "pyodide_kernel", "ipykernel")
    ]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [""])[-1]
        raise Unavailable(f"pip {' '.join(arguments)}: {reason}")


def entry(wheel: Path) -> dict[str, dict]:
    """Describe a wheel as Pyodide's lock does. "./" marks it as ours: live.js says where it is."""
    distribution, version, *_ = wheel.name.split("-")
    name = distribution.replace("_", "-").lower()
    with zipfile.ZipFile(wheel) as archive:
        tops = {file.partition("/")[0] for file in archive.namelist() if file.endswith(".py")}
    described = {
        "name": name,
        "version": version,
        "file_name": f"./wheels/{wheel.name}",
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": sorted(top.removesuffix(".py") for top in tops),
        "depends": OWN if name == "revlearn" else WHEELS.get(name, []),
    }
    return {name: described}


def copy_pyodide(folder: Path, lock: dict, target: Path) -> None:
    listed = lock["packages"].values()
    theirs = {p["file_name"]: p["sha256"] for p in listed if not p["file_name"].startswith("./")}
    for name, sha256 in (CORE | theirs).items():
        file = folder / name
        if not file.exists():
            sys.exit(f"{file} is missing: REVLEARN_PYODIDE names a folder without it")
        if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            sys.exit(f"{file} is not the one that lite/pyodide-lock.json describes")
        shutil.copyfile(file, target / name)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def megabytes(folder: Path) -> int:
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)


if __name__ == "__main__":
    main()
