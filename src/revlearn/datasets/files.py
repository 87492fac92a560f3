"""Files of data: found, downloaded, and checked before a byte of them is used."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from ..errors import DataError
from ..whole_files import read

FOLDER_VARIABLE = "REVLEARN_DATA"


def fetch(name: str, sha256: str, urls: list[str]) -> Path:
    """Return the path of a data file whose checksum is right.

    The file is looked for in the folder that ``REVLEARN_DATA`` names; without that variable in
    the user's cache, where it is downloaded to if missing.

    Parameters
    ----------
    name : str
        Path below the folder, with forward slashes.
    sha256 : str
        Expected checksum, hexadecimal.
    urls : list of str
        Where to download the file from, tried in order.

    Raises
    ------
    DataError
        If the file is missing and cannot be had, or its checksum is wrong.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        path = Path(folder) / name
        if not path.exists():
            raise DataError(
                f"{path} does not exist. {FOLDER_VARIABLE} names the folder of the data; put the "
                f"file there (from {urls[0]}), or unset the variable to have it downloaded"
            )
        verify(path, sha256, f"Put the original there, from {urls[0]}")
    elif sys.platform == "emscripten":
        raise DataError(
            f"{name} cannot be downloaded in a browser. mnist_subset() has 5,000 digits that are "
            f"always there; for all of the data, run this on your own machine"
        )
    else:
        import pooch  # here, because importing revlearn needs numpy and autograd only

        path = Path(pooch.os_cache("revlearn")) / name
        if not path.exists():
            _download(path, sha256, urls)
        verify(path, sha256, "Delete it, so that it is fetched again")
    return path


def verify(path: Path, sha256: str, remedy: str) -> None:
    """Raise :class:`DataError`, naming the remedy, unless a file has the expected checksum.

    So it does if the file cannot be read, because a folder stands in its place, for example.
    """
    found = hashlib.sha256(read(path)).hexdigest()
    if found != sha256:
        raise DataError(f"{path} is damaged: its sha256 is {found}, expected {sha256}. {remedy}")


def _download(path: Path, sha256: str, urls: list[str]) -> None:
    import pooch

    reasons = []
    for url in urls:
        try:
            pooch.retrieve(url, f"sha256:{sha256}", fname=path.name, path=path.parent)
            return
        except (OSError, ValueError) as error:  # no network; or other bytes than expected
            reasons.append(f"{url}: {error}")
    raise DataError(
        f"{path.name} is not in the cache and cannot be downloaded ({'; '.join(reasons)}). Without "
        f"a network, put the file at {path}, or set {FOLDER_VARIABLE} to a folder that holds it as "
        f"{path.parent.name}/{path.name}"
    )
