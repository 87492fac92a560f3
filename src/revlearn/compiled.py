"""The loops over integers as machine code; this module needs numba.

numpy takes one operation over a whole array before it takes the next. Here each number is read
once, all is done to it, and it is written once. The bits are the same, so that a run may go
forwards with one and backwards with the other.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixed_point import SPACED, SPACED_BITS

# Divided by less than this, an integer of 64 bits has a quotient of more than 51, which a float
# does not tell from its neighbours.
LEAST_DIVISOR = 2**13


@njit(cache=True)
def multiply(values, words, numerator, shift):
    """Carry out :meth:`InformationBuffer.multiply`, for one numerator from LEAST_DIVISOR on."""
    mask, inverse = (1 << shift) - 1, 1.0 / numerator
    for i in range(values.size):
        content = (words[i] << np.uint64(shift)) | np.uint64(values[i] & mask)
        # The product is less than one off the quotient, so that its floor is at most one off.
        quotient = np.int64(np.float64(content) * inverse)
        rest = np.int64(content - np.uint64(quotient) * np.uint64(numerator))
        if rest < 0:
            quotient, rest = quotient - 1, rest + numerator
        elif rest >= numerator:
            quotient, rest = quotient + 1, rest - numerator
        words[i] = np.uint64(quotient)
        values[i] = (values[i] >> shift) * numerator + rest


@njit(cache=True)
def divide(values, words, numerator, shift):
    """Carry out :meth:`InformationBuffer.divide`."""
    mask, inverse = np.uint64((1 << shift) - 1), 1.0 / numerator
    for i in range(values.size):
        quotient = np.int64(np.floor(np.float64(values[i]) * inverse))
        rest = values[i] - quotient * numerator
        if rest < 0:
            quotient, rest = quotient - 1, rest + numerator
        elif rest >= numerator:
            quotient, rest = quotient + 1, rest - numerator
        content = words[i] * np.uint64(numerator) + np.uint64(rest)
        words[i] = content >> np.uint64(shift)
        values[i] = (quotient << shift) | np.int64(content & mask)


@njit
def _rounded(scaled):
    return np.float64(scaled + SPACED).view(np.int64) - SPACED_BITS


@njit(cache=True)
def add(target, values, scale, sign):
    """Add ±rint(scale · values) to integers, and return what no increment exceeds in size.

    `scale` holds one factor for all, or one for each. If SHORT or more is returned, some increment
    was not that: call again with the other sign, which takes all of them back.
    """
    union = np.int64(0)
    if scale.size == 1:
        factor = scale[0]
        for i in range(target.size):
            whole = _rounded(values[i] * factor)
            target[i] += sign * whole
            union |= whole ^ (whole >> 63)
    else:
        for i in range(target.size):
            whole = _rounded(values[i] * scale[i])
            target[i] += sign * whole
            union |= whole ^ (whole >> 63)
    return np.float64(union) + 1.0


@njit(cache=True)
def dot(words, multipliers):
    """Return the scalar product that :func:`revlearn.fixed_point.checksum` takes."""
    total = np.uint64(0)
    for i in range(words.size):
        total += (words[i] ^ (words[i] >> np.uint64(32))) * multipliers[i]
    return total
