"""Arrays by name in one file that numpy reads: packed in memory, checked when unpacked."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .whole_files import damaged

# What zipfile and numpy raise about bytes that are no archive of arrays.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


def packed(arrays: Mapping[str, Any], *, compress: bool = False) -> bytes:
    """Return the bytes of an ``.npz`` file.

    Parameters
    ----------
    arrays : mapping of str to array
        Arrays of numbers, booleans or strings. ``np.savez`` takes names as arguments of its own,
        ``file`` and ``allow_pickle`` among them; here a name is a name.
    compress : bool
        Whether to deflate.

    Raises
    ------
    TypeError
        If an array holds Python objects, which would need pickle, or a name is no text.
    ValueError
        If an archive cannot hold a name.

    Examples
    --------
    >>> content = packed({"allow_pickle": np.arange(3)})
    >>> np.load(io.BytesIO(content))["allow_pickle"]
    array([0, 1, 2])
    """
    found = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in found.items():
        _refuse_name(name)
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects; give it a plain dtype")
    content = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, array in found.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)
    return content.getvalue()


def unpacked(content: bytes, path: Path, remedy: str) -> dict[str, NDArray]:
    """Return the arrays of an ``.npz`` file by name.

    Parameters
    ----------
    content : bytes
        All of the file.
    path : Path
        The file, for errors.
    remedy : str
        What to do if it is damaged, for errors.

    Raises
    ------
    DataError
        If it is no archive of arrays, or a checksum differs.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.namelist():
                array = io.BytesIO(archive.read(entry))
                arrays[entry.removesuffix(".npy")] = npy.read_array(array, allow_pickle=False)
    except _DAMAGE as error:
        raise damaged(path, f"it is no whole archive of arrays: {error}", remedy) from error
    return arrays


def _refuse_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"names of arrays are text, not {name!r}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    # Numpy looks for 'a.npy' when it is asked for 'a', too. Paths in archives have one separator.
    if b"\0" in encoded or "\\" in name or name.endswith(".npy") or len(encoded) > 2**15:
        raise ValueError(
            f"an archive cannot hold an array named {name[:100]!r}: use a short name without "
            "backslashes, NUL and lone surrogates that does not end in .npy"
        )
