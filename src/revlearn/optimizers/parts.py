"""A run cut into parts that fit the fast caches, and what every rule on integers shares.

Each change of an integer is either an addition of something that can be computed again afterwards,
or a multiplication through a buffer.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import RevlearnError
from ..fixed_point import BLOCK, add_scaled, from_fixed
from ..gradients import Vector
from ..parameters import Layout, aligned
from ..stores import Store
from .buffers import Buffer, Rounding
from .exact_run import Adjoint, ExactRun, Place

if TYPE_CHECKING:
    from .base import Optimizer


def places(layout: Layout, per_leaf: bool) -> Iterator[Place]:
    """Cut the weights into parts: large leaves into several, small ones put together."""
    gathered: list[tuple[int, slice]] = []
    for row, leaf in enumerate(layout.slices if per_leaf else [slice(0, layout.size)]):
        # A leaf without numbers is a piece, too: it has its row in the schedules.
        for start in range(leaf.start, max(leaf.stop, leaf.start + 1), BLOCK):
            piece = slice(start, min(start + BLOCK, leaf.stop))
            if gathered and piece.stop - gathered[0][1].start > BLOCK:
                yield _place(gathered)
                gathered = []
            gathered.append((row, piece))
    if gathered:
        yield _place(gathered)


def _place(pieces: list[tuple[int, slice]]) -> Place:
    first, last = pieces[0], pieces[-1]
    start = first[1].start
    return Place(
        slice(start, last[1].stop),
        slice(first[0], last[0] + 1),
        [slice(piece.start - start, piece.stop - start) for _, piece in pieces],
    )


class RunInParts(ExactRun):
    """A run cut into parts that fit the fast caches; a half step is done part by part.

    Parameters
    ----------
    optimizer : Optimizer
        The rule.
    state : dict of str to ndarray
        Flat ``"weights"`` and slots, rounded to integers here.
    schedules : dict of str to ndarray, shape (rows, steps)
        One row for all weights, or one for each leaf.
    layout : Layout
        Layout of the weights.
    fraction_bits : int
        Bits after the binary point.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ):
        self.fraction_bits = {slot: optimizer.fraction_bits(slot, fraction_bits) for slot in state}
        self.integers = {slot: np.zeros(layout.size, dtype=np.int64) for slot in state}
        rates = optimizer.rates(schedules, layout)
        per_leaf = any(len(rows) > 1 for rows in rates.values())
        self._parts = [
            optimizer.part(place, self.integers, rates, self.fraction_bits)
            for place in places(layout, per_leaf)
        ]
        for slot, values in state.items():
            for part in self._parts:
                unit = np.full(len(part.pieces), part.unit(slot))
                part.add(slot, np.ascontiguousarray(values[part.place.weights]), unit)

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        for part in self._parts:
            part.step(t, gradient[part.place.weights])

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        for part in self._parts:
            part.undo_weights(t)

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the slots back; see :class:`ExactRun`."""
        for part in self._parts:
            part.undo_slots(t, gradient[part.place.weights])

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back; see :class:`ExactRun`."""
        for part in self._parts:
            part.pull_back_weights(t, adjoint.cut(part.place))

    def cotangent(self, t: int, adjoint: Adjoint) -> Vector | None:
        """Return the derivative of the gradient, where it is known; see :class:`ExactRun`."""
        whole = None
        for part in self._parts:
            own = part.cotangent(t, adjoint.cut(part.place))
            if own is None:
                return None
            whole = aligned(adjoint.slots["weights"].size) if whole is None else whole
            whole[part.place.weights] = own
        return whole

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back; see :class:`ExactRun`."""
        found = np.empty_like(gradient) if known is None else known
        for part in self._parts:
            here = part.place.weights
            own = None if known is None else known[here]
            derivative = part.pull_back_slots(t, gradient[here], adjoint.cut(part.place), own)
            if known is None:
                found[here] = derivative
        return found

    def copy(self) -> RunInParts:
        """Return an independent run in the same state."""
        other = copy.copy(self)
        other.integers = {slot: numbers.copy() for slot, numbers in self.integers.items()}
        other._parts = [part.copy(other.integers) for part in self._parts]
        return other

    def without_buffers(self) -> RunInParts:
        """Return an independent run that keeps nothing; see :class:`ExactRun`."""
        other = self.copy()
        for part in other._parts:
            for buffers in part.buffers.values():
                buffers[:] = [Rounding(buffer.denominator_bits) for buffer in buffers]
        return other

    def spill_to(self, store: Store) -> None:
        """Have buffers spill into a store; see :class:`ExactRun`."""
        for part in self._parts:
            for buffer in part.all_buffers():
                buffer.spill_to(store)

    def restore(self, integers: dict[str, NDArray[np.int64]]) -> None:
        """Set the whole state; see :class:`ExactRun`."""
        for slot, numbers in integers.items():
            self.integers[slot][...] = numbers
        for part in self._parts:
            part.forget_bounds()

    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""
        values = aligned(self.integers[slot].size)
        values[...] = self.integers[slot]
        values *= 2.0 ** -self.fraction_bits[slot]
        return values

    @property
    def num_bits(self) -> int:
        """Bits of memory that the buffers occupy."""
        return sum(buffer.num_bits for part in self._parts for buffer in part.all_buffers())

    @property
    def information(self) -> float:
        """Bits of content in the buffers, by theory."""
        return sum(buffer.information for part in self._parts for buffer in part.all_buffers())


class Part(ABC):
    """The integer state of a part of the weights; a subclass carries out one update rule.

    Parameters
    ----------
    optimizer : Optimizer
        The rule and its settings.
    place : Place
        Where the part lies.
    integers : dict of str to ndarray of int64
        The state of the whole run, of which this is a view.
    rates : dict of str to ndarray, shape (rows, steps)
        What ``optimizer.rates`` returned.
    fraction_bits : dict of str to int
        Bits after the binary point, for each slot.

    Attributes
    ----------
    pieces : list of slice
        What shares its schedules: a part of a leaf, or several whole leaves.
    integers : dict of str to ndarray of int64
        The part's own.
    rates : dict of str to ndarray, shape (pieces, steps)
        A row for each piece.
    buffers : dict of str to list
        By slot: the buffer of each piece.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        place: Place,
        integers: dict[str, NDArray[np.int64]],
        rates: dict[str, NDArray],
        fraction_bits: dict[str, int],
    ):
        self.place, self.pieces = place, place.pieces
        self.fraction_bits = fraction_bits
        self._view(integers)
        # A shared schedule is repeated without a copy.
        self.rates = {
            name: np.broadcast_to(place.rows_of(rows), (len(self.pieces), rows.shape[1]))
            for name, rows in rates.items()
        }
        self.buffers: dict[str, list[Buffer]] = {}
        # No integer of a slot exceeds this in size.
        self._bounds = dict.fromkeys(self.integers, 0.0)

    @abstractmethod
    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`, as for the other four."""

    @abstractmethod
    def undo_weights(self, t: int) -> None:
        """Take the weights back."""

    @abstractmethod
    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the slots back."""

    @abstractmethod
    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over the second half of a step."""

    def cotangent(self, t: int, adjoint: Adjoint) -> Vector | None:
        """Return the derivative of the gradient, if it is known before the gradient."""
        return None

    @abstractmethod
    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over the first half of a step; return that of the gradient."""

    def _view(self, integers: dict[str, NDArray[np.int64]]) -> None:
        self.integers = {slot: whole[self.place.weights] for slot, whole in integers.items()}

    def copy(self, integers: dict[str, NDArray[np.int64]]) -> Self:
        """Return an independent part that works on the integers of another run."""
        other = copy.copy(self)
        other._view(integers)
        other._bounds = dict(self._bounds)
        other.buffers = {
            slot: [buffer.copy() for buffer in buffers] for slot, buffers in self.buffers.items()
        }
        return other

    def forget_bounds(self) -> None:
        """Note that the integers were set from outside."""
        self._bounds = dict.fromkeys(self.integers, math.inf)

    def all_buffers(self) -> Iterator[Buffer]:
        """Yield every buffer."""
        for buffers in self.buffers.values():
            yield from buffers

    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""
        return from_fixed(self.integers[slot], self.fraction_bits[slot])

    def unit(self, slot: str) -> float:
        """Return how many integers make one unit of a slot."""
        return 2.0 ** self.fraction_bits[slot]

    def add(self, slot: str, values: NDArray, factors: Vector) -> None:
        """Add values, times a factor for each piece, to a slot; an overflow names the slot.

        Parameters
        ----------
        slot : str
            ``"weights"`` or a slot.
        values : ndarray of float64 or int64
            Floats in units, integers as they are.
        factors : ndarray, shape (pieces,)
            With the unit of the slot in it.
        """
        try:
            self._bounds[slot] = add_scaled(
                self.integers[slot], values, self.spread(factors), self._bounds[slot]
            )
        except RevlearnError as error:
            error.slot, error.fraction_bits = slot, self.fraction_bits[slot]
            error.index = (error.index or 0) + self.place.weights.start
            raise

    def multiply(self, slot: str, ratios: Vector) -> None:
        """Multiply a slot by a ratio for each piece, through its buffers.

        Parameters
        ----------
        slot : str
            A slot with buffers.
        ratios : ndarray, shape (pieces,)
            n/d, as :func:`~revlearn.optimizers.ratios.ratios` rounds them.
        """
        numerators = self._numerators(slot, ratios)
        for buffer, piece, n in zip(self.buffers[slot], self.pieces, numerators, strict=True):
            buffer.multiply(self.integers[slot][piece], n)
        # A product exceeds its factor only by the digit that an information buffer puts in.
        self._bounds[slot] = max(self._bounds[slot], float(max(numerators)))

    def divide(self, slot: str, ratios: Vector) -> None:
        """Undo the latest :meth:`multiply` of a slot."""
        numerators = self._numerators(slot, ratios)
        for buffer, piece, n in zip(self.buffers[slot], self.pieces, numerators, strict=True):
            buffer.divide(self.integers[slot][piece], n)
        denominator = 2.0 ** self.buffers[slot][0].denominator_bits
        self._bounds[slot] = (self._bounds[slot] / min(numerators) + 2.0) * denominator

    def _numerators(self, slot: str, ratios: Vector) -> list[int]:
        # Floats hold the ratios exactly, so nothing is rounded here.
        return (ratios * 2.0 ** self.buffers[slot][0].denominator_bits).astype(np.int64).tolist()

    def spread(self, factors: Vector) -> float | Vector:
        """Return one factor for all weights, or a vector that holds each piece's factor."""
        if len(factors) == 1:
            return float(factors[0])
        spread = np.empty(self.place.size)
        for piece, factor in zip(self.pieces, factors.tolist(), strict=True):
            spread[piece] = factor
        return spread

    def dots(self, one: Vector, other: Vector) -> Vector:
        """Return the scalar product of two vectors, piece by piece."""
        return np.array([one[piece] @ other[piece] for piece in self.pieces])
