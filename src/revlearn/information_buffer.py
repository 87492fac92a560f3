r"""The bits that momentum discards, kept.

Multiplying an integer by a ratio :math:`n/d < 1` must lose :math:`\log_2(d/n)` bits: several
integers arrive at the same product. Maclaurin, Duvenaud and Adams (2015), Algorithm 3, keep
what is lost in a second integer, the *information buffer*:

.. math::

    i &\leftarrow i\,d + (c \bmod d) &\qquad c &\leftarrow \lfloor c / d \rfloor \\
    c &\leftarrow c\,n + (i \bmod n) &\qquad i &\leftarrow \lfloor i / n \rfloor

Each line is undone by its mirror image, so the pair (c, i) runs backwards exactly. The buffer is
a stack of digits of mixed base; the low digit of the product serves as storage too. Entropy coders
of the ANS family work the same way.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .fixed_point import blocks
from .stores import InMemory, Store, Stored


class InformationBuffer:
    r"""A stack of discarded digits, one 64-bit word per number and older words below.

    All numbers are multiplied by the same ratio n/d, so one upper bound holds for all words
    without looking at them. When the next digit might not fit, the low bits of *every* word
    go to a stack at once. From then on digits are taken from what is left, so the words
    differ from those of one unbounded integer; the way back is exact all the same.

    Parameters
    ----------
    size : int
        How many numbers share the buffer.
    denominator_bits : int
        The denominator is d = 2**denominator_bits, at most 2**32.

    Attributes
    ----------
    information : float
        Bits of content: Σ log2(d/n) over all digits and numbers.

    Examples
    --------
    >>> buffer = InformationBuffer(size=3)
    >>> velocity = np.array([5_000_000, -7, 123_456_789], dtype=np.int64)
    >>> buffer.multiply(velocity, numerator=58982)  # by 0.9, up to a digit below 58982
    >>> velocity
    array([  4501896,    -52435, 111115607])
    >>> buffer.divide(velocity, numerator=58982)
    >>> velocity
    array([  5000000,        -7, 123456789])
    """

    def __init__(self, size: int, denominator_bits: int = 16):
        if not 1 <= denominator_bits <= 32:
            raise ValueError(f"denominator_bits must lie in 1..32, not {denominator_bits}")
        self.denominator_bits = denominator_bits
        self.information = 0.0
        self._words = np.zeros(size, dtype=np.uint64)
        # Arrays of no dimension, because numpy takes them faster than it takes numbers.
        self._shift = np.array(denominator_bits, dtype=np.int64)
        self._mask = np.array(2**denominator_bits - 1, dtype=np.int64)
        self._bound = 0  # no word exceeds this
        self._depth = 0  # digits held
        self._store: Store = InMemory()
        self._spilled: list[tuple[int, Stored]] = []  # (depth, low bits of all words)
        # What stays must be large, or the rounding of the bound would waste memory.
        self._spill_bits = 32 if denominator_bits <= 16 else 16

    @property
    def size(self) -> int:
        """Number of numbers that share the buffer."""
        return self._words.size

    @property
    def num_bits(self) -> int:
        """Bits really occupied, in memory and on disk: the words and everything spilled."""
        return 8 * (self._words.nbytes + sum(low.nbytes for _, low in self._spilled))

    def multiply(self, values: NDArray[np.int64], numerator: int) -> None:
        """Multiply `values` by numerator / 2**denominator_bits in place, keeping what is lost.

        Parameters
        ----------
        values : ndarray of int64, shape (size,)
            Fixed-point numbers. No product is larger than the larger of its factor and n.
        numerator : int
            From 1 to 2**denominator_bits. At the upper end nothing is lost or stored.
        """
        shift, denominator = self._check(values, numerator)
        if numerator == denominator:
            return
        while (self._bound << shift) + denominator - 1 >= 2**64:
            self._spill()
        n = np.array(numerator, dtype=np.int64)
        for block in blocks(self.size):
            part, word = values[block], self._words[block]
            signed = word.view(np.int64)
            signed <<= self._shift
            signed |= part & self._mask
            part >>= self._shift  # arithmetic shift: floor division, for negative numbers too
            quotient = word // n.view(np.uint64)
            # i n + (c mod n) in one product, with c mod n = c − n ⌊c/n⌋
            part -= quotient.view(np.int64)
            part *= n
            part += signed
            word[...] = quotient
        self._bound = ((self._bound << shift) + denominator - 1) // numerator
        self._depth += 1
        self.information += self.size * math.log2(denominator / numerator)

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
            If the buffer holds no digit.
        """
        shift, denominator = self._check(values, numerator)
        if numerator == denominator:
            return
        if self._depth == 0:
            raise IndexError("the information buffer is empty: nothing is left to undo")
        n = np.array(numerator, dtype=np.int64)
        for block in blocks(self.size):
            part, word = values[block], self._words[block]
            signed = word.view(np.int64)
            quotient = part // n
            # c n + (i mod n) in one product, with i mod n = i − n ⌊i/n⌋
            signed -= quotient
            signed *= n
            signed += part
            np.left_shift(quotient, self._shift, out=part)
            part |= signed & self._mask
            word >>= self._shift.view(np.uint64)
        self._bound = (self._bound * numerator + numerator - 1) >> shift
        self._depth -= 1
        self.information -= self.size * math.log2(denominator / numerator)
        while self._spilled and self._spilled[-1][0] == self._depth:
            self._unspill()
        if self._depth == 0:
            self._bound = 0  # rounding has widened it; a second run shall spill as the first did

    def spill_to(self, store: Store) -> None:
        """Put what is spilled from now on into a store, for example into a file."""
        self._store = store

    def copy(self) -> InformationBuffer:
        """Return an independent buffer with the same content; spilled words are shared."""
        other = InformationBuffer(0, self.denominator_bits)
        other._store = self._store
        other.information, other._bound, other._depth = self.information, self._bound, self._depth
        other._words, other._spilled = self._words.copy(), list(self._spilled)
        return other

    def _check(self, values: NDArray[np.int64], numerator: int) -> tuple[int, int]:
        if values.shape != (self.size,) or values.dtype != np.int64:
            raise ValueError(
                f"values must be int64 of shape ({self.size},), not {values.dtype} of shape "
                f"{values.shape}"
            )
        denominator = 1 << self.denominator_bits
        if not 1 <= numerator <= denominator:
            raise ValueError(f"numerator must lie in 1..{denominator}, not {numerator}")
        return self.denominator_bits, denominator

    def _spill(self) -> None:
        kind = np.uint32 if self._spill_bits == 32 else np.uint16
        self._spilled.append((self._depth, self._store.put(self._words.astype(kind))))
        self._words >>= np.uint64(self._spill_bits)
        self._bound >>= self._spill_bits

    def _unspill(self) -> None:
        _, low = self._spilled.pop()
        self._words <<= np.uint64(self._spill_bits)
        self._words |= low.get()
        self._bound = ((self._bound + 1) << self._spill_bits) - 1
