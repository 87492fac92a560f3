"""Where spilled words are put: in memory, or in a file for runs longer than memory allows."""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Stored(Protocol):
    """An array that was put away."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes up."""
        ...

    def get(self) -> NDArray:
        """Return the array."""
        ...


class Store(Protocol):
    """Where arrays are put."""

    def put(self, array: NDArray) -> Stored:
        """Put an array away."""
        ...


@dataclass(frozen=True)
class _Held:
    array: NDArray

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def get(self) -> NDArray:
        return self.array


class InMemory:
    """Keep arrays as they are."""

    def put(self, array: NDArray) -> Stored:
        """Put an array away."""
        return _Held(array)


class OnDisk:
    """Put arrays into one temporary file, which has no name and is gone with the last of them.

    Parameters
    ----------
    folder : path
        Existing folder on a disk with room for them.

    Examples
    --------
    >>> store = OnDisk(tempfile.gettempdir())
    >>> first, second = store.put(np.arange(3)), store.put(np.ones(2))
    >>> second.get(), first.get()
    (array([1., 1.]), array([0, 1, 2]))
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by the next line)
        weakref.finalize(self, self.file.close)

    def put(self, array: NDArray) -> Stored:
        """Put an array at the end of the file."""
        start = self.file.seek(0, os.SEEK_END)
        self.file.write(array.data)
        return _InFile(self, start, array.size, array.dtype)


@dataclass(frozen=True)
class _InFile:
    store: OnDisk
    start: int
    size: int
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def get(self) -> NDArray:
        self.store.file.seek(self.start)
        return np.frombuffer(self.store.file.read(self.nbytes), dtype=self.dtype)
