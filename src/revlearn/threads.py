"""Derivatives in several threads at once.

Autograd numbers the derivatives that are being taken, so that one within another can be told from
it. It counts up and down again in one variable for all threads. Where threads interleave, an inner
derivative may get the number of the outer one, and the result is wrong without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from autograd import tracer


class TraceNumbers:
    """Number derivatives upwards, and never give a number twice.

    An inner derivative has the larger number in whichever thread it is taken. Taking the next
    number of :func:`itertools.count` is one operation that no other thread divides.
    """

    def __init__(self) -> None:
        self._numbers = count()

    @contextmanager
    def new_trace(self) -> Iterator[int]:
        """Give a number to the derivative that is taken in the context."""
        yield next(self._numbers)


def make_autograd_safe() -> None:
    """Have autograd number its derivatives so that threads do not disturb each other."""
    tracer.trace_stack = TraceNumbers()
