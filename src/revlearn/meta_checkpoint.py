"""What a descent is resumed from: a small file that is replaced, and a history that grows."""

from __future__ import annotations

import io
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .archives import packed, unpacked
from .meta_optimizers import State, Vector
from .whole_files import damaged, explained, read, write


@dataclass
class SoFar:
    """The descent up to some meta-iteration.

    Attributes
    ----------
    x : ndarray
        Flat hyperparameters.
    state : dict of str to ndarray
        State of the meta-optimizer.
    values, norms : list of float
        Objective and length of the hypergradient, of each meta-iteration.
    kept : dict of str to list of ndarray
        What the callback returned, of each meta-iteration.
    seconds : float
        Processor time.
    """

    x: Vector
    state: State
    values: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    kept: dict[str, list[NDArray]] = field(default_factory=dict)
    seconds: float = 0.0


class Checkpoint:
    """The two files of a descent.

    ``PATH`` holds what the descent goes on from: hyperparameters and the meta-optimizer's state. It
    says how many bytes of ``PATH.history`` count, and their checksum. The history holds a record
    for each meta-iteration. A record is appended first, then ``PATH`` is replaced: what an
    interruption in between leaves at the end of the history does not count, and is written over.

    Parameters
    ----------
    path : Path
        The small file.
    claim : str
        JSON that says whose checkpoint it is.
    """

    def __init__(self, path: Path, claim: str):
        self.path, self.history = path, path.with_name(f"{path.name}.history")
        self._claim = claim
        self._length, self._checksum = 0, 0

    def write(self, so_far: SoFar) -> None:
        """Append the latest meta-iteration, and replace the small file.

        Raises
        ------
        DataError
            If a file cannot be written; the checkpoint stays at the step before.
        """
        record = _record(so_far)
        length, checksum = self._length + len(record), zlib.crc32(record, self._checksum)
        arrays = {
            "claim": np.array(self._claim),
            "x": so_far.x,
            "seconds": np.array(so_far.seconds),
            "kept": np.array(json.dumps(list(so_far.kept))),
            "history": np.array([len(so_far.values), length, checksum], dtype=np.int64),
        }
        arrays |= {f"state_{name}": value for name, value in so_far.state.items()}
        try:
            self._append(record)
            write(self.path, packed(arrays))
        except OSError:
            self._cut()
            raise
        self._length, self._checksum = length, checksum

    def _append(self, record: bytes) -> None:
        with explained(self.history):
            self.history.parent.mkdir(parents=True, exist_ok=True)
            with self.history.open("r+b" if self._length else "wb") as file:
                file.truncate(self._length)
                file.seek(self._length)
                file.write(record)

    def _cut(self) -> None:
        """Cut off what does not count."""
        with suppress(OSError):
            if self._length:
                with self.history.open("r+b") as file:
                    file.truncate(self._length)
            else:
                self.history.unlink()

    def read(self, start: SoFar) -> SoFar:
        """Return the descent so far.

        Parameters
        ----------
        start : SoFar
            How it starts; names and shapes are compared.

        Raises
        ------
        ValueError
            If the checkpoint is that of another descent.
        DataError
            If a file is damaged, or cannot be read.
        """
        remedy = "Delete it, and the descent starts anew, or name another file"
        arrays = unpacked(read(self.path), self.path, remedy)
        self._compare_claim(arrays.pop("claim", np.array("")), remedy)
        expected = {f"state_{name}": value.shape for name, value in start.state.items()}
        expected |= {"x": start.x.shape, "seconds": (), "kept": (), "history": (3,)}
        shapes = {name: array.shape for name, array in arrays.items()}
        if shapes != expected:
            what = f"it holds arrays of shapes {shapes}, expected {expected}"
            raise damaged(self.path, what, remedy)
        steps, length, checksum = arrays["history"].tolist()
        records = self._counting(length, checksum)
        so_far = SoFar(
            arrays["x"],
            {name: arrays[f"state_{name}"] for name in start.state},
            kept={name: [] for name in json.loads(str(arrays["kept"]))},
            seconds=float(arrays["seconds"]),
        )
        for _ in range(steps):
            value, norm = npy.read_array(records, allow_pickle=False).tolist()
            so_far.values.append(value)
            so_far.norms.append(norm)
            for stack in so_far.kept.values():
                stack.append(npy.read_array(records, allow_pickle=False))
        self._length, self._checksum = length, checksum
        return so_far

    def _counting(self, length: int, checksum: int) -> io.BytesIO:
        """Return what counts of the history."""
        held = read(self.history)[:length] if self.history.exists() else b""
        remedy = f"Delete {self.path.name}, and the descent starts anew"
        if len(held) < length:
            what = f"it holds {len(held)} bytes of the {length} that {self.path.name} counts"
            raise damaged(self.history, what, remedy)
        if zlib.crc32(held) != checksum:
            raise damaged(self.history, "its checksum differs", remedy)
        return io.BytesIO(held)

    def _compare_claim(self, claim: NDArray, remedy: str) -> None:
        asked = json.loads(self._claim)
        try:
            held = json.loads(str(claim))
            differing = [name for name in asked if held[name] != asked[name]]
        except (ValueError, TypeError, KeyError) as error:
            what = "it does not say which descent it belongs to"
            raise damaged(self.path, what, remedy) from error
        if differing:
            raise ValueError(
                f"{self.path} is the checkpoint of another descent ({' and '.join(differing)} "
                "differ). Delete it, or name another file"
            )


def _record(so_far: SoFar) -> bytes:
    """Write down the latest meta-iteration: value and norm, then what was kept."""
    record = io.BytesIO()
    latest = np.array([so_far.values[-1], so_far.norms[-1]])
    for array in (latest, *(arrays[-1] for arrays in so_far.kept.values())):
        npy.write_array(record, array, allow_pickle=False)
    return record.getvalue()
