"""Omniglot: characters of many alphabets, each drawn by twenty people."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, how_to_install
from .files import fetch

_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
_SHA256 = {
    "images_background_small1.zip": (
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"
    ),
    "images_background_small2.zip": (
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"
    ),
}

_ENTRY = re.compile(
    r"images_background_small\d/(?P<alphabet>[^/]+)/character(?P<character>\d+)/\d+_(?P<drawer>\d+)\.png"
)


@dataclass(frozen=True)
class Omniglot:
    """Drawings of characters, in the order of alphabet, character and drawer.

    Attributes
    ----------
    ink : ndarray of bool, shape (drawings, 105, 105)
        True where there is ink.
    alphabets : ndarray of str, shape (drawings,)
        For example ``"Greek"``.
    characters : ndarray of int64, shape (drawings,)
        Number of the character in its alphabet, from 0.
    drawers : ndarray of int64, shape (drawings,)
        Number of the person, from 0 to 19.
    """

    ink: NDArray[np.bool_]
    alphabets: NDArray[np.str_]
    characters: NDArray[np.int64]
    drawers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.alphabets)

    def alphabet(self, name: str) -> Omniglot:
        """Return the drawings of one alphabet.

        Raises
        ------
        ValueError
            If there is no such alphabet; the message lists those there are.
        """
        chosen = self.alphabets == name
        if not chosen.any():
            raise ValueError(f"no alphabet {name!r}, only {sorted(set(self.alphabets.tolist()))}")
        return Omniglot(
            self.ink[chosen], self.alphabets[chosen], self.characters[chosen], self.drawers[chosen]
        )


def omniglot(subset: int = 1) -> Omniglot:
    """Return one of the two published sets of five alphabets.

    Set 1: Balinese, Early Aramaic, Greek, Korean, Latin. Set 2: Greek, Japanese (katakana),
    Latin, Sanskrit, Tagalog. Downloaded once (1.5 MB) into the user's cache, or read from the
    folder that ``REVLEARN_DATA`` names. Images are read from inside the archive; nothing is
    extracted. Needs Pillow, which comes with the extra ``data``.

    Parameters
    ----------
    subset : 1 or 2
        Which set.

    Raises
    ------
    DataError
        If the file is missing and cannot be downloaded, or is damaged.
    ImportError
        If Pillow is not installed.
    """
    name = f"images_background_small{subset}.zip"
    if name not in _SHA256:
        raise ValueError(f"subset must be 1 or 2, not {subset}")
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"reading Omniglot needs Pillow: {how_to_install('data')}") from error
    path = fetch(f"omniglot/{name}", _SHA256[name], [_URL + name])
    ink, alphabets, characters, drawers = [], [], [], []
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(n for n in archive.namelist() if n.endswith(".png")):
            if not (match := _ENTRY.fullmatch(entry)):
                raise DataError(f"{path} holds an unexpected entry: {entry}")
            with Image.open(io.BytesIO(archive.read(entry))) as image:
                ink.append(np.asarray(image) == 0)
            alphabets.append(match["alphabet"])
            characters.append(int(match["character"]) - 1)
            drawers.append(int(match["drawer"]) - 1)
    if any(drawing.shape != (105, 105) for drawing in ink):
        raise DataError(f"{path} holds drawings of other sizes than 105×105")
    return Omniglot(
        np.stack(ink),
        np.array(alphabets),
        np.array(characters, dtype=np.int64),
        np.array(drawers, dtype=np.int64),
    )
