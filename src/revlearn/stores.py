"""Where spilled words are put: in memory, or in a file for runs longer than memory allows."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import DataError


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

    Threads and forked processes may share a store and what is in it. A copy, and what is sent to
    another process, keeps the arrays in memory.

    Parameters
    ----------
    folder : path
        Existing folder on a disk with room for them.

    Raises
    ------
    DataError
        If the folder takes no file, or no more of it.

    Examples
    --------
    >>> store = OnDisk(tempfile.gettempdir())
    >>> first, second = store.put(np.arange(3)), store.put(np.ones(2))
    >>> second.get(), first.get()
    (array([1., 1.]), array([0, 1, 2]))
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = folder
        self._file = _File(folder)

    def put(self, array: NDArray) -> Stored:
        """Put an array at the end of the file."""
        if self._file.process != os.getpid():
            # Where a forked process wrote, the one that it was forked from would write, too.
            self._file = _File(self.folder)
        return _InFile(self._file, self._file.append(array), array.size, array.dtype)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return InMemory, ()


class _File:
    """A file without a name that grows at its end, and is read anywhere."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder, self.process = folder, os.getpid()
        self._lock, self._end = threading.Lock(), 0
        # Without a buffer: it would be written when the file is closed, where an error has no one
        # to tell.
        try:
            self._file: Any = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._cannot("make a file", error) from error
        weakref.finalize(self, self._file.close)

    def append(self, array: NDArray) -> int:
        """Write an array and return where it begins."""
        content = np.ascontiguousarray(array).data.cast("B")
        with self._lock:
            start = self._end
            try:
                self._file.seek(start)
                while content:
                    content = content[self._file.write(content) :]
                    self._end = self._file.tell()
            except OSError as error:
                self._end = start
                raise self._cannot("write", error) from error
        return start

    def read(self, start: int, nbytes: int) -> bytes:
        """Return what stands there."""
        if hasattr(os, "pread"):  # which moves no place that a forked process shares
            content = os.pread(self._file.fileno(), nbytes, start)
        else:
            with self._lock:
                self._file.seek(start)
                content = self._file.read(nbytes)
        if len(content) < nbytes:
            raise DataError(f"a file in {self.folder} that was spilled to has lost its end")
        return content

    def _cannot(self, what: str, error: OSError) -> DataError:
        return DataError(
            f"cannot {what} in {self.folder}, where information buffers spill to: "
            f"{error.strerror or error}. Name a folder with room in spill_to, or leave spill_to "
            "out to keep them in memory"
        )


@dataclass(frozen=True)
class _InFile:
    file: _File
    start: int
    size: int
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def get(self) -> NDArray:
        return np.frombuffer(self.file.read(self.start, self.nbytes), dtype=self.dtype)

    def __reduce__(self) -> tuple[type, tuple[NDArray]]:
        return _Held, (self.get(),)
