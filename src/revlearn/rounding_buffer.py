r"""Multiplication by a ratio near one, rounded to the nearest integer and yet reversible.

The map from c to the integer nearest to :math:`c\,n/d` sends at most two integers to one when
:math:`n/d > 1/2`. A product that two integers lead to is *ambiguous*; one bit, kept here, says
which of the two it was. Of d consecutive integers 2(d − n) lead to an ambiguous product, so the
price is :math:`2(1 - n/d)` bits a number, against :math:`\log_2(d/n) \approx 1.44\,(1 - n/d)` for
an :class:`~revlearn.InformationBuffer`. What it buys: no digit is put into the low bits of the
product, so the error is half a unit whatever the denominator, and no word a number is needed.
That is the right trade for averages of small positive numbers that decay slowly: second moments.

The price holds for numbers that are spread over many units. One that has decayed to some
d / 2(d − n) units stays where it is and may cost a whole bit a step; zeros cost nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fixed_point import blocks
from .stores import Store


class RoundingBuffer:
    r"""A stack of bits that tell apart what rounding brought together.

    Parameters
    ----------
    size : int
        How many numbers share the buffer.
    denominator_bits : int
        The denominator is d = 2**denominator_bits, at most 2**30.

    Attributes
    ----------
    information : float
        Bits of content by theory: Σ 2(1 − n/d) over all products and numbers.

    Examples
    --------
    >>> buffer = RoundingBuffer(size=3, denominator_bits=4)
    >>> square = np.array([100, 7, -9], dtype=np.int64)
    >>> buffer.multiply(square, numerator=14)  # by 0.875
    >>> square
    array([88,  6, -8])
    >>> buffer.divide(square, numerator=14)
    >>> square
    array([100,   7,  -9])
    """

    def __init__(self, size: int, denominator_bits: int = 24):
        if not 1 <= denominator_bits <= 30:
            raise ValueError(f"denominator_bits must lie in 1..30, not {denominator_bits}")
        self.size = size
        self.denominator_bits = denominator_bits
        self.information = 0.0
        self._bits = BitStack()

    @property
    def num_bits(self) -> int:
        """Bits of memory really occupied."""
        return self._bits.num_bits

    def multiply(self, values: NDArray[np.int64], numerator: int) -> None:
        """Round `values` times numerator / 2**denominator_bits in place, keeping what is lost.

        Parameters
        ----------
        values : ndarray of int64, shape (size,)
            Fixed-point numbers.
        numerator : int
            Above half of 2**denominator_bits, at most all of it.
        """
        shift, half = self.denominator_bits, 1 << (self.denominator_bits - 1)
        self._check(values, numerator)
        if numerator == 2 * half:
            return
        for block in blocks(self.size):
            part = values[block]
            low = part & np.int64(2 * half - 1)
            product = (part >> shift) * numerator + ((low * numerator + half) >> shift)
            smallest, ambiguous = self._origins(product, numerator)
            self._bits.push((part != smallest)[ambiguous])
            part[...] = product
        self.information += self.size * 2.0 * (1.0 - numerator / (2.0 * half))

    def divide(self, values: NDArray[np.int64], numerator: int) -> None:
        """Undo the latest :meth:`multiply`, exactly.

        Parameters
        ----------
        values : ndarray of int64, shape (size,)
            What that call left, bit for bit.
        numerator : int
            The numerator of that call.

        Raises
        ------
        IndexError
            If the buffer holds too few bits.
        """
        self._check(values, numerator)
        if numerator == 1 << self.denominator_bits:
            return
        for block in reversed(list(blocks(self.size))):
            smallest, ambiguous = self._origins(values[block], numerator)
            smallest[ambiguous] += self._bits.pop(int(np.count_nonzero(ambiguous)))
            values[block] = smallest
        self.information -= self.size * 2.0 * (1.0 - numerator / 2.0**self.denominator_bits)

    def spill_to(self, store: Store) -> None:
        """Do nothing: what the averages it is made for discard is little, and stays in memory."""

    def copy(self) -> RoundingBuffer:
        """Return an independent buffer with the same content."""
        other = RoundingBuffer(self.size, self.denominator_bits)
        other.information, other._bits = self.information, self._bits.copy()
        return other

    def _origins(
        self, product: NDArray[np.int64], numerator: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the smallest integer that leads to each product, and whether the next one does."""
        denominator = 1 << self.denominator_bits
        quotient = product // numerator
        # c leads to the product if product·d − d/2 ≤ c·n < product·d + d/2; c = quotient·d + rest
        bound = (product - quotient * numerator) * denominator - denominator // 2
        rest = -(-bound // numerator)
        ambiguous = rest * numerator - bound < denominator - numerator
        return quotient * denominator + rest, ambiguous

    def _check(self, values: NDArray[np.int64], numerator: int) -> None:
        if values.shape != (self.size,) or values.dtype != np.int64:
            raise ValueError(
                f"values must be int64 of shape ({self.size},), not {values.dtype} of shape "
                f"{values.shape}"
            )
        denominator = 1 << self.denominator_bits
        if not denominator < 2 * numerator <= 2 * denominator:
            raise ValueError(
                f"numerator must lie above {denominator // 2}, up to {denominator}, not {numerator}"
            )


class BitStack:
    """A stack of bits, eight to a byte.

    Examples
    --------
    >>> stack = BitStack()
    >>> stack.push(np.array([True, False, True]))
    >>> stack.pop(2)
    array([False,  True])
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._rest = np.zeros(0, dtype=np.bool_)  # fewer than eight

    @property
    def num_bits(self) -> int:
        """Bits of memory occupied by the bits held."""
        return 8 * len(self._bytes) + self._rest.size

    def push(self, bits: NDArray[np.bool_]) -> None:
        """Put bits on top, the last one uppermost."""
        joined = np.concatenate([self._rest, bits])
        whole = joined.size - joined.size % 8
        self._bytes += np.packbits(joined[:whole]).tobytes()
        self._rest = joined[whole:]

    def pop(self, count: int) -> NDArray[np.bool_]:
        """Take the uppermost bits off, in the order in which they were pushed."""
        needed = -(-max(count - self._rest.size, 0) // 8)
        if needed > len(self._bytes):
            raise IndexError("the rounding buffer is empty: nothing is left to undo")
        if needed:
            top = np.frombuffer(bytes(self._bytes[-needed:]), dtype=np.uint8)
            del self._bytes[-needed:]
            self._rest = np.concatenate([np.unpackbits(top).astype(np.bool_), self._rest])
        kept = self._rest.size - count
        bits, self._rest = self._rest[kept:], self._rest[:kept]
        return bits

    def copy(self) -> BitStack:
        """Return an independent stack of the same bits."""
        other = BitStack()
        other._bytes, other._rest = bytearray(self._bytes), self._rest.copy()
        return other
