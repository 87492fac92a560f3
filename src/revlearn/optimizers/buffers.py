"""What a rule asks of a buffer, and a stand-in for runs that are never undone."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..stores import Store


class Buffer(Protocol):
    """What multiplication by a ratio discards, kept: one of the two kinds of buffer."""

    denominator_bits: int
    information: float

    @property
    def num_bits(self) -> int:
        """Bits of memory occupied."""
        ...

    def multiply(self, values: NDArray[np.int64], numerator: int) -> None:
        """Multiply in place by numerator / denominator."""
        ...

    def divide(self, values: NDArray[np.int64], numerator: int) -> None:
        """Undo the latest product."""
        ...

    def spill_to(self, store: Store) -> None:
        """Put what is spilled from now on into a store."""
        ...

    def copy(self) -> Self:
        """Return an independent buffer with the same content."""
        ...


class Rounding:
    """In place of a buffer, where products need not be undone: they are rounded to the nearest.

    Parameters
    ----------
    denominator_bits : int
        The denominator is d = 2**denominator_bits, at most 2**32.
    """

    information, num_bits = 0.0, 0

    def __init__(self, denominator_bits: int):
        self.denominator_bits = denominator_bits

    def multiply(self, values: NDArray[np.int64], numerator: int) -> None:
        """Multiply in place by numerator / denominator."""
        shift = self.denominator_bits
        if numerator == 1 << shift:
            return
        low = values & np.int64((1 << shift) - 1)
        low *= numerator  # below 2**63: the numerator is smaller than the denominator
        low += 1 << (shift - 1)
        low >>= shift
        values >>= shift
        values *= numerator
        values += low

    def divide(self, values: NDArray[np.int64], numerator: int) -> None:
        """Refuse: what is rounded cannot be undone."""
        raise TypeError("this run keeps no buffers and cannot be run backwards")

    def spill_to(self, store: Store) -> None:
        """Do nothing: there is nothing to spill."""

    def copy(self) -> Rounding:
        """Return itself: there is nothing in it."""
        return self
