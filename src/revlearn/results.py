"""Results of long runs: small files that say how they were made."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .archives import packed, unpacked
from .errors import DataError
from .whole_files import damaged, explained, read, read_json, write

_REMEDY = "Restore it from where it came, or run what made it again"
# What the JSON file of a result holds, and of which kind.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "settings": dict,
    "seconds": (int, float),
    "memory": (int, type(None)),
    "numbers": dict,
    "versions": dict,
    "commit": (str, type(None)),
    "date": str,
    "arrays_sha256": str,
}


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
    """Write ``path.json`` and ``path.npz``, so that an interruption leaves the old or the new pair.

    The JSON file holds the checksum of the arrays, so a pair that does not belong together is
    noticed by :func:`load`. The arrays are first written to ``path.npz.next``. With the JSON file
    replaced, the new pair counts; then that file takes its name. If this is cut off, the next
    :func:`load` does it.

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
        If a setting or a number is NaN or infinite, which JSON does not know: put it into an
        array. If an archive cannot hold the name of an array.
    DataError
        If a file cannot be written; the old pair stays.
    """
    path = Path(path)
    content = {
        "settings": dict(settings),
        "seconds": round(float(seconds), 1),
        "memory": peak_memory(),
        "numbers": dict(numbers),
        "versions": _versions(),
        "commit": _commit(path.parent),
        "date": datetime.now(UTC).date().isoformat(),
    }
    archive = packed(arrays, compress=True)
    content["arrays_sha256"] = hashlib.sha256(archive).hexdigest()
    text = (plain_json(content) + "\n").encode()
    described, following = _suffixed(path, ".json"), _suffixed(path, ".npz.next")
    if following.exists():
        with suppress(OSError):  # a result that is damaged anyhow
            _arrays(path, _content(described)["arrays_sha256"])
    write(following, archive)
    try:
        write(described, text)
    except DataError:
        following.unlink(missing_ok=True)
        raise
    with explained(_suffixed(path, ".npz")):
        following.replace(_suffixed(path, ".npz"))


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
    DataError
        If a file is damaged, or cannot be read.
    """
    path = Path(path)
    content = _content(_suffixed(path, ".json"))
    archive = _arrays(path, content.pop("arrays_sha256"))
    file = _suffixed(path, ".npz")
    if archive is None:
        read(file)  # raises if there is none
        raise ValueError(
            f"{file} does not belong to {path.name}.json: its checksum differs. Restore both from "
            "where they came, or run what made them again"
        )
    return Result(arrays=unpacked(archive, file, _REMEDY), **content)


def _content(file: Path) -> dict[str, Any]:
    """Read the JSON file of a result."""
    content = read_json(file, _REMEDY)
    if not isinstance(content, dict) or content.keys() != _KINDS.keys():
        names = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise damaged(file, f"it holds {names}, expected {sorted(_KINDS)}", _REMEDY)
    for name, kind in _KINDS.items():
        if not isinstance(content[name], kind):
            raise damaged(file, f"its {name!r} is {content[name]!r:.100}", _REMEDY)
    return content


def _arrays(path: Path, sha256: str) -> bytes | None:
    """Return the archive with a checksum, if there is one; finish a save that was cut off."""
    target = _suffixed(path, ".npz")
    for file in (target, _suffixed(path, ".npz.next")):
        if file.is_file() and hashlib.sha256(archive := read(file)).hexdigest() == sha256:
            if file != target:
                with suppress(OSError):  # in a folder that is only read the two stay as they are
                    file.replace(target)
            return archive
    return None


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
