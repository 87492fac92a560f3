"""Results of long runs: sweeps that resume, and small files that say how they were made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .progress import progress


@dataclass(frozen=True)
class Result:
    """A stored result, as :func:`load` returns it.

    Attributes
    ----------
    settings : dict
        What the run was asked to do.
    seconds : float
        Seconds of computing, summed over processes.
    numbers : dict
        Numbers that came out.
    arrays : dict of str to ndarray
        Arrays that came out.
    versions : dict of str to str
        Versions of Python, numpy, autograd and revlearn.
    commit : str or None
        Commit of the source tree, with ``-dirty`` if it held changes; None outside a repository.
    date : str
        Day of the run, UTC, YYYY-MM-DD.
    """

    settings: dict[str, Any]
    seconds: float
    numbers: dict[str, Any]
    arrays: dict[str, NDArray]
    versions: dict[str, str]
    commit: str | None
    date: str


def save(
    path: str | Path,
    *,
    settings: Mapping[str, Any],
    seconds: float,
    numbers: Mapping[str, Any],
    arrays: Mapping[str, NDArray],
) -> None:
    """Write ``path.json`` and ``path.npz``, each under a temporary name that is then replaced.

    The JSON file holds the checksum of the arrays, so a pair that does not belong together is
    noticed by :func:`load`.

    Parameters
    ----------
    path : str or Path
        Both files without their suffix, for example ``"../results/chaos"``.
    settings : mapping
        What JSON can hold; numpy scalars and arrays are written as numbers and lists.
    seconds : float
        Seconds of computing.
    numbers : mapping
        What came out, likewise.
    arrays : mapping of str to ndarray
        Arrays of numbers, booleans or strings.

    Raises
    ------
    TypeError
        If an array holds Python objects, which would need pickle.
    ValueError
        If a setting or a number is NaN or infinite, which JSON does not know: put it into an array.
    """
    plain_arrays: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in plain_arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects; give it a plain dtype")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": dict(settings),
        "seconds": round(float(seconds), 1),
        "numbers": dict(numbers),
        "versions": _versions(),
        "commit": _commit(path.parent),
        "date": datetime.now(UTC).date().isoformat(),
    }
    _dumps(content)  # refuses what JSON cannot hold, before a file is touched
    with replacing(_suffixed(path, ".npz")) as partial:
        with partial.open("wb") as file:
            np.savez_compressed(file, **plain_arrays)
        content["arrays_sha256"] = _sha256(partial)
    with replacing(_suffixed(path, ".json")) as partial:
        partial.write_text(_dumps(content) + "\n", encoding="utf-8")


def load(path: str | Path) -> Result:
    """Read what :func:`save` wrote.

    Parameters
    ----------
    path : str or Path
        Both files without their suffix.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If the arrays are not those that the JSON file describes.
    """
    path = Path(path)
    content = json.loads(_suffixed(path, ".json").read_text(encoding="utf-8"))
    file = _suffixed(path, ".npz")
    if _sha256(file) != content.pop("arrays_sha256"):
        raise ValueError(f"{file} does not belong to {path.name}.json: its checksum differs")
    with np.load(file, allow_pickle=False) as arrays:
        return Result(arrays=dict(arrays), **content)


def resumable_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    folder: str | Path,
    *,
    settings: Mapping[str, Any],
    jobs: int = 1,
) -> tuple[list[Any], float]:
    """Apply a function to many items, keeping each result on disk as soon as it is there.

    Called again after an interruption, it computes only what is missing. A change of the function
    itself goes unnoticed unless it shows in `settings`: delete the folder then.

    Parameters
    ----------
    function : callable
        ``function(item)``; returns what JSON can hold, NaN and infinity included.
    items : iterable
        What JSON can hold: numbers, strings, lists, dicts.
    folder : str or Path
        Where the results are kept, one small file for each item.
    settings : mapping
        What the function depends on beside the item. Kept in the folder and compared.
    jobs : int
        Number of processes; above 1 this needs joblib.

    Returns
    -------
    results : list
        One for each item, in order, as read from the folder.
    seconds : float
        Seconds spent inside `function`, summed over all items and sessions.

    Raises
    ------
    ValueError
        If the folder holds results of other settings or other items.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results, seconds = resumable_map(abs, [-1, 2.5], folder, settings={})
    >>> results
    [1, 2.5]
    """
    folder, items = Path(folder), list(items)
    _claim(folder, settings, items)
    files = [folder / f"{number:06d}.json" for number in range(len(items))]
    missing = [(items[i], file) for i, file in enumerate(files) if not file.exists()]
    for _ in progress(_computed(function, missing, jobs), len(missing), folder.name):
        pass
    stored = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [entry["result"] for entry in stored], sum(entry["seconds"] for entry in stored)


def _claim(folder: Path, settings: Mapping[str, Any], items: Sequence[Any]) -> None:
    """Write down what the folder is for, or make sure that it is for the same."""
    folder.mkdir(parents=True, exist_ok=True)
    claim = {
        "settings": json.loads(_dumps(dict(settings))),
        "number_of_items": len(items),
        "items_sha256": hashlib.sha256(_dumps(items).encode()).hexdigest(),
    }
    file = folder / "settings.json"
    if file.exists():
        held = json.loads(file.read_text(encoding="utf-8"))
        if held != claim:
            differing = [name for name in claim if held.get(name) != claim[name]]
            raise ValueError(
                f"{folder} holds results of another run ({' and '.join(differing)} differ). "
                "Delete the folder, or name another one"
            )
        return
    with replacing(file) as partial:
        partial.write_text(_dumps(claim), encoding="utf-8")


def _computed(
    function: Callable[[Any], Any], missing: list[tuple[Any, Path]], jobs: int
) -> Iterator[Path]:
    """Yield the file of each missing result as soon as it is written."""
    if jobs == 1:
        for item, file in missing:
            yield _compute(function, item, file)
        return
    from joblib import Parallel, delayed

    # Without max_nbytes joblib hands large arrays over as memmaps, which autograd does not know.
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", max_nbytes=None)
    yield from parallel(delayed(_compute)(function, item, file) for item, file in missing)


def _compute(function: Callable[[Any], Any], item: Any, file: Path) -> Path:
    """Compute one result and write it, in whichever process this runs."""
    started = time.perf_counter()
    result = function(item)
    seconds = time.perf_counter() - started
    with replacing(file) as partial:
        entry = {"result": result, "seconds": seconds}
        partial.write_text(json.dumps(entry, default=_plain), encoding="utf-8")
    return file


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary name beside the target; afterwards make it the target, in one step."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _suffixed(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _dumps(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"JSON cannot hold {type(value)}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("numpy", "autograd", "revlearn"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a source tree that was never installed
            versions[package] = "unknown"
    return versions


def _commit(folder: Path) -> str | None:
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return run.stdout.strip()
