"""Results of long runs: small files that say how they were made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Result:
    """A stored result, as :func:`load` returns it.

    Attributes
    ----------
    settings : dict
        What the run was asked to do.
    seconds : float
        Seconds of processor time, summed over processes.
    memory : int or None
        Peak memory of the largest process, in bytes; None where the system does not tell.
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
    memory: int | None
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
        Seconds of processor time: unlike those on the clock, the same on a busy machine.
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
        "memory": peak_memory(),
        "numbers": dict(numbers),
        "versions": _versions(),
        "commit": _commit(path.parent),
        "date": datetime.now(UTC).date().isoformat(),
    }
    plain_json(content)  # refuses what JSON cannot hold, before a file is touched
    with replacing(_suffixed(path, ".npz")) as partial:
        with partial.open("wb") as file:
            np.savez_compressed(file, **plain_arrays)
        content["arrays_sha256"] = _sha256(partial)
    with replacing(_suffixed(path, ".json")) as partial:
        partial.write_text(plain_json(content) + "\n", encoding="utf-8")


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


def plain_json(content: Any) -> str:
    """Write JSON, numpy's numbers and arrays included; refuse NaN, infinity and other objects."""
    return json.dumps(content, indent=1, allow_nan=False, default=plain, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Turn numpy's numbers and arrays into what JSON can hold."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"JSON cannot hold {type(value)}")


def peak_memory() -> int | None:
    """Return the peak resident memory of this process or of its largest child, in bytes.

    None on systems without :mod:`resource`, Windows and the browser among them.
    """
    try:
        from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
    except ImportError:
        return None
    peak = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return int(peak) if sys.platform == "darwin" else 1024 * int(peak)


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
