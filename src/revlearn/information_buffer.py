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

from .fixed_point import blocks, compiled
from .stores import InMemory, Store, Stored


class InformationBuffer:
    r"""A stack of discarded digits, one 64-bit word per number and older words below.

    Where all numbers are multiplied by the same ratio n/d, one upper bound holds for all words
    without looking at them. When the next digit might not fit, the low bits of *every* word
    go to a stack at once. From then on digits are taken from what is left, so the words
    differ from those of one unbounded integer; the way back is exact all the same.

    Where each number has a ratio of its own, words grow at different rates. The bound then follows
    the smallest ratio; when it says that a digit might not fit, the largest word is looked for. If
    that has become too large, the low bits of the *long* words go to the stack, with a bit for
    each number that says whose they are. Whether they do depends on the words alone, not on the
    bound.

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
        self._spilled: list[tuple[int, Stored, Stored | None]] = []  # depth, low bits, whose
        # What stays must be large, or the rounding of the bound would waste memory.
        self._spill_bits = 32 if denominator_bits <= 16 else 16

    @property
    def size(self) -> int:
        """Number of numbers that share the buffer."""
        return self._words.size

    @property
    def num_bits(self) -> int:
        """Bits really occupied, in memory and on disk: the words and everything spilled."""
        stored = sum(low.nbytes + (whose.nbytes if whose else 0) for _, low, whose in self._spilled)
        return 8 * (self._words.nbytes + stored)

    def multiply(self, values: NDArray[np.int64], numerator: int | NDArray[np.int64]) -> None:
        """Multiply `values` by numerator / 2**denominator_bits in place, keeping what is lost.

        Parameters
        ----------
        values : ndarray of int64, shape (size,)
            Fixed-point numbers. No product is larger than the larger of its factor and n.
        numerator : int, or ndarray of int64, shape (size,)
            From 1 to 2**denominator_bits, for all numbers or for each. At the upper end nothing is
            lost or stored.
        """
        ratio, smallest, _ = self._check(values, numerator)
        shift, denominator = self.denominator_bits, 1 << self.denominator_bits
        if smallest == denominator:
            return
        while (self._bound << shift) + denominator - 1 >= 2**64:
            if not ratio.ndim:
                self._spill()
            elif (self._look() << shift) + denominator - 1 >= 2**64:
                long = self._words >= 1 << self._spill_bits
                self._spill(None if long.all() else long)
        loops = None if ratio.ndim else compiled(self.size)
        if loops and smallest >= loops.LEAST_DIVISOR:
            loops.multiply(values, self._words, smallest, shift)
        else:
            self._multiply(values, ratio)
        self._bound = ((self._bound << shift) + denominator - 1) // smallest
        self._depth += 1
        self.information += self._content(ratio, smallest)

    def _multiply(self, values: NDArray[np.int64], ratio: NDArray[np.int64]) -> None:
        for block in blocks(self.size):
            part, word = values[block], self._words[block]
            n = ratio[block] if ratio.ndim else ratio
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

    def divide(self, values: NDArray[np.int64], numerator: int | NDArray[np.int64]) -> None:
        """Undo the latest :meth:`multiply`, exactly.

        Parameters
        ----------
        values : ndarray of int64, shape (size,)
            What that call left, bit for bit.
        numerator : int, or ndarray of int64, shape (size,)
            The numerator of that call.

        Raises
        ------
        IndexError
            If the buffer holds no digit.
        """
        ratio, smallest, largest = self._check(values, numerator)
        if smallest == 1 << self.denominator_bits:
            return
        if self._depth == 0:
            raise IndexError("the information buffer is empty: nothing is left to undo")
        loops = None if ratio.ndim else compiled(self.size)
        if loops and smallest >= loops.LEAST_DIVISOR:
            loops.divide(values, self._words, smallest, self.denominator_bits)
        else:
            self._divide(values, ratio)
        self._bound = (self._bound * largest + largest - 1) >> self.denominator_bits
        self._depth -= 1
        self.information -= self._content(ratio, smallest)
        while self._spilled and self._spilled[-1][0] == self._depth:
            self._unspill()
        if self._depth == 0:
            self._bound = 0  # rounding has widened it; a second run shall spill as the first did

    def _divide(self, values: NDArray[np.int64], ratio: NDArray[np.int64]) -> None:
        for block in blocks(self.size):
            part, word = values[block], self._words[block]
            n = ratio[block] if ratio.ndim else ratio
            signed = word.view(np.int64)
            quotient = part // n
            # c n + (i mod n) in one product, with i mod n = i − n ⌊i/n⌋
            signed -= quotient
            signed *= n
            signed += part
            np.left_shift(quotient, self._shift, out=part)
            part |= signed & self._mask
            word >>= self._shift.view(np.uint64)

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

    def _check(
        self, values: NDArray[np.int64], numerator: int | NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], int, int]:
        """Return the numerators as an array, the smallest and the largest."""
        if values.shape != (self.size,) or values.dtype != np.int64:
            raise ValueError(
                f"values must be int64 of shape ({self.size},), not {values.dtype} of shape "
                f"{values.shape}"
            )
        denominator = 1 << self.denominator_bits
        if isinstance(numerator, np.ndarray):
            if numerator.shape != (self.size,) or numerator.dtype != np.int64:
                raise ValueError(
                    f"numerators must be int64 of shape ({self.size},), not {numerator.dtype} of "
                    f"shape {numerator.shape}"
                )
            ratio = numerator
            smallest = int(numerator.min(initial=denominator))
            largest = int(numerator.max(initial=1))
        else:
            ratio, smallest, largest = np.array(numerator, dtype=np.int64), numerator, numerator
        if not 1 <= smallest <= largest <= denominator:
            wrong = largest if smallest >= 1 else smallest
            raise ValueError(f"numerator must lie in 1..{denominator}, not {wrong}")
        return ratio, smallest, largest

    def _content(self, ratio: NDArray[np.int64], smallest: int) -> float:
        """Return the bits that a product discards, summed over the numbers."""
        if not ratio.ndim:
            return self.size * math.log2((1 << self.denominator_bits) / smallest)
        return self.size * self.denominator_bits - float(np.log2(ratio).sum())

    def _look(self) -> int:
        """Make the bound that of the words as they are."""
        self._bound = int(self._words.max())
        return self._bound

    def _spill(self, long: NDArray[np.bool_] | None = None) -> None:
        """Put the low bits of all words aside, or those of the long ones."""
        kind = np.uint32 if self._spill_bits == 32 else np.uint16
        words = self._words if long is None else self._words[long]
        whose = None if long is None else self._store.put(np.packbits(long))
        self._spilled.append((self._depth, self._store.put(words.astype(kind)), whose))
        words >>= np.uint64(self._spill_bits)
        if long is None:
            self._bound >>= self._spill_bits
        else:
            self._words[long] = words  # the bound stays one; who needs a better looks for it

    def _unspill(self) -> None:
        _, low, whose = self._spilled.pop()
        long = slice(None) if whose is None else self._unpacked(whose)
        self._words[long] = (self._words[long] << np.uint64(self._spill_bits)) | low.get()
        self._bound = ((self._bound + 1) << self._spill_bits) - 1

    def _unpacked(self, whose: Stored) -> NDArray[np.bool_]:
        return np.unpackbits(whose.get(), count=self.size).astype(np.bool_)
