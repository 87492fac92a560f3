r"""Real numbers as 64-bit integers.

An integer :math:`i` stands for the real number :math:`i / 2^b`, with :math:`b = 52`
unless told otherwise: a range of ±2048 in steps of 2.2e-16. Sums of integers are exact,
so each addition can be undone by a subtraction. Rounding happens once, when a real number
becomes an integer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FixedPointOverflowError, NonFiniteError

FRACTION_BITS = 52
# Elements worked on at a time: few enough for the fast caches, many enough to hide what a call
# costs.
BLOCK = 32768

_LIMIT = 2.0**63
# Half of the range: bounds below it are safe, however they were rounded.
_SAFE = 2.0**62
# Between 2**52 and 2**53 floats are integers: here is the middle, and what may be added to it.
SPACED, SHORT = 1.5 * 2.0**52, 2.0**50
SPACED_BITS = np.array(SPACED).view(np.int64)[()]
# Compiling takes a second, once: not for a few numbers.
_WORTH_COMPILING = 4096


def compiled(size: int) -> ModuleType | None:
    """Return :mod:`revlearn.compiled`, or None without numba, or where it is not worth a wait."""
    if size < _WORTH_COMPILING and not _compiled.cache_info().currsize:
        return None
    return _compiled()


@cache
def _compiled() -> ModuleType | None:
    try:
        import numba

        from . import compiled
    except ModuleNotFoundError:
        return None
    except (ImportError, RuntimeError) as error:
        # It refuses versions of numpy that it does not know, and to work without a folder to keep
        # what it compiled (NUMBA_CACHE_DIR).
        warnings.warn(f"loops are not compiled: {error}", stacklevel=2)
        return None
    return None if vars(numba.config)["DISABLE_JIT"] else compiled


def blocks(size: int) -> Iterator[slice]:
    """Cut ``range(size)`` into consecutive cache-sized slices."""
    for start in range(0, size, BLOCK):
        yield slice(start, min(start + BLOCK, size))


def to_fixed(values: ArrayLike, fraction_bits: int = FRACTION_BITS) -> NDArray[np.int64]:
    r"""Round real numbers to fixed point, :math:`\mathrm{rint}(x\,2^b)`.

    Parameters
    ----------
    values : array_like of float
        Real numbers, any shape.
    fraction_bits : int
        Number of bits after the binary point, `b`.

    Returns
    -------
    ndarray of int64
        Integers of the same shape.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite.
    FixedPointOverflowError
        If a value lies outside ±2**(63 − fraction_bits).

    Examples
    --------
    >>> to_fixed([1.0, -0.5], fraction_bits=4)
    array([16, -8])
    """
    values = np.asarray(values, dtype=np.float64)
    fixed = np.zeros(values.shape, dtype=np.int64)
    add_scaled(fixed.reshape(-1), values.reshape(-1), 2.0**fraction_bits)
    return fixed


def from_fixed(fixed: NDArray[np.int64], fraction_bits: int = FRACTION_BITS) -> NDArray[np.float64]:
    r"""Read fixed-point integers as real numbers, :math:`i / 2^b`.

    Integers of more than 53 significant bits are rounded to the nearest float.

    Parameters
    ----------
    fixed : ndarray of int64
        Integers, any shape.
    fraction_bits : int
        Number of bits after the binary point, `b`.

    Returns
    -------
    ndarray of float64
        Real numbers of the same shape.

    Examples
    --------
    >>> from_fixed(to_fixed([0.25, -3.0]))
    array([ 0.25, -3.  ])
    """
    values = np.array(fixed, dtype=np.float64)
    values *= 2.0**-fraction_bits
    return values


def add_scaled(
    target: NDArray[np.int64],
    values: NDArray,
    scale: float | NDArray[np.float64],
    bound: float = math.inf,
) -> float:
    r"""Add :math:`\mathrm{rint}(\text{scale}\cdot\text{values})` to `target`, in place.

    Rounding to nearest is symmetric, so calling it again with ``-scale`` restores `target`
    exactly.

    Parameters
    ----------
    target : ndarray of int64, shape (size,)
        Fixed-point numbers.
    values : ndarray of float64 or int64, shape (size,)
        What to add, before scaling.
    scale : float, or ndarray of float64, shape (size,)
        Factor, or one for each number, with the unit of the fixed-point numbers in it.
    bound : float, optional
        No number of `target` exceeds this in size. It spares a look at them.

    Returns
    -------
    float
        The same for what `target` holds now.

    Raises
    ------
    NonFiniteError
        If a scaled value is NaN or infinite.
    FixedPointOverflowError
        If a scaled value or a sum does not fit 64 bits. The block of `target` in which it
        happens is left as it was.
    """
    loops = compiled(target.size)
    if loops:
        if not bound + SHORT < _SAFE:
            bound = _largest(target)
        factors = np.reshape(scale, -1)
        largest = loops.add(target, values, factors, 1)
        if bound + largest < _SAFE and largest < SHORT:
            return bound + largest
        loops.add(target, values, factors, -1)  # nothing is lost: integers wrap around
    product = np.empty(min(BLOCK, target.size), dtype=np.float64)
    increment = np.empty(product.size, dtype=np.int64)
    later = 0.0
    for block in blocks(target.size):
        part, size = target[block], block.stop - block.start
        scaled, whole = product[:size], increment[:size]
        factor = scale[block] if isinstance(scale, np.ndarray) else scale
        here = bound
        with np.errstate(over="ignore", invalid="ignore"):  # looked for in the next lines
            np.multiply(values[block], factor, out=scaled)
            # No number exceeds the length of the vector, which is found faster than the largest.
            largest = float(np.sqrt(scaled @ scaled))
        if largest < SHORT and here + largest < _SAFE:
            # Where floats are as far apart as integers, an addition rounds, and the last bits of
            # the float are the integer: faster than to round and to convert.
            scaled += SPACED
            whole = scaled.view(np.int64)
            whole -= SPACED_BITS
        elif not here + largest < _SAFE:
            largest = _largest(scaled)
            if not largest < _LIMIT:
                _refuse(scaled, block.start)
            np.rint(scaled, out=whole, casting="unsafe")
            here = _largest(part)
            if not here + largest < _SAFE:
                _check_sum(part, whole, block.start)
        else:
            np.rint(scaled, out=whole, casting="unsafe")
        part += whole
        later = max(later, here + largest)
    return later


def _largest(numbers: NDArray) -> float:
    return max(float(numbers.max(initial=0)), -float(numbers.min(initial=0)))


def _refuse(scaled: NDArray[np.float64], start: int) -> None:
    """Say which of the scaled values cannot become a 64-bit integer."""
    bad = int(np.argmin(np.abs(scaled) < _LIMIT))
    if np.isnan(scaled[bad]):
        raise NonFiniteError("a value is not a number", index=start + bad)
    raise FixedPointOverflowError("a value does not fit the fixed-point range", index=start + bad)


def _check_sum(part: NDArray[np.int64], whole: NDArray[np.int64], start: int) -> None:
    """Raise if ``part + whole`` wraps around: its sign then differs from both of theirs."""
    total = part + whole
    wrapped = ((part ^ total) & (whole ^ total)) < 0
    if wrapped.any():
        raise FixedPointOverflowError(
            "a sum does not fit the fixed-point range", index=start + int(np.argmax(wrapped))
        )


# Odd multipliers, so that a change of one number always changes the sum; fixed, so that
# checksums mean the same in every process.
_MULTIPLIERS = np.random.RandomState(0).randint(0, 2**63, size=BLOCK, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


def _dot(words: NDArray[np.uint64], multipliers: NDArray[np.uint64]) -> int:
    folded = words >> np.uint64(32)
    folded ^= words
    return int(np.einsum("i,i->", folded, multipliers))


def checksum(*arrays: NDArray[np.int64] | NDArray[np.uint64]) -> int:
    r"""Fold words into 64 bits: a dot product with fixed odd numbers, modulo 2**64.

    The upper half of each word is first folded into its lower half, which loses nothing. Without,
    changes of the uppermost bit, the sign of a float, would cancel two by two.

    Examples
    --------
    >>> a = np.arange(5, dtype=np.int64)
    >>> checksum(a) == checksum(a.copy()), checksum(a) == checksum(a[::-1].copy())
    (True, False)
    """
    total = 0
    for array in arrays:
        words = array.view(np.uint64)
        loops = compiled(words.size)
        for block in blocks(words.size):
            part = words[block]
            # Horner's rule: the place of a block counts, too.
            factors = _MULTIPLIERS[: part.size]
            dot = loops.dot(part, factors) if loops else _dot(part, factors)
            total = total * 0x9E3779B97F4A7C15 + int(dot)
    return total % 2**64
