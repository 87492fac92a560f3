"""What an update rule must offer to be run forwards, backwards and differentiated.

Training never names an optimizer. A new one is one new file beside ``sgd.py`` with two classes:
the :class:`Optimizer` that a user makes, and the :class:`ExactRun` that carries its integer state.
Each change of an integer is either an addition of something that can be computed again afterwards,
or a multiplication through a buffer.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import RevlearnError
from ..fixed_point import add_scaled, from_fixed
from ..gradients import Pullback, Vector
from ..parameters import Layout

GradientAt = Callable[[Vector], Vector]


@dataclass
class Adjoint:
    """Derivatives of the outer loss with respect to the state of a run and all that shaped it.

    Attributes
    ----------
    slots : dict of str to ndarray, shape (number of weights,)
        For ``"weights"`` and each further slot of the optimizer, at the current step.
    hyper : ndarray
        For the flat hyperparameters of the loss, summed over the steps undone so far.
    schedules : dict of str to ndarray, shape (rows, steps)
        For every schedule of the optimizer.
    """

    slots: dict[str, Vector]
    hyper: Vector
    schedules: dict[str, NDArray[np.float64]] = field(default_factory=dict)


class Buffer(Protocol):
    """What multiplication by a ratio discards, kept: one of the two kinds of buffer."""

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

    def copy(self) -> Self:
        """Return an independent buffer with the same content."""
        ...


class Optimizer(ABC):
    """An update rule and its schedules.

    Attributes
    ----------
    slots : tuple of str
        What the state holds beside the weights, for example ``("velocity",)``.
    schedules : dict of str to schedule
        Each a scalar, an array of shape (steps,), or a nest shaped like the weights. The values
        may be boxes of autograd: hypergradients flow to them.
    """

    slots: tuple[str, ...]
    schedules: dict[str, Any]

    def derived(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Return further schedules that follow from those given, in ``autograd.numpy``.

        A bias correction, for example. The run gets them beside the others, and autograd takes
        their derivatives back to the schedules that they were made of.

        Parameters
        ----------
        schedules : dict of str to ndarray, shape (rows, steps)
            Boxes of autograd where hypergradients are taken.
        """
        return {}

    def transformed(self, gradient: Any, rates: dict[str, Any]) -> Any:
        """Return what enters the update rule in place of the flat gradient: here, the gradient."""
        return gradient

    @abstractmethod
    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactRun:
        """Round the initial state to integers and return the run that carries it.

        Parameters
        ----------
        state : dict of str to ndarray
            Flat ``"weights"`` and slots.
        schedules : dict of str to ndarray, shape (rows, steps)
            One row for all weights, or one for each leaf.
        layout : Layout
            Layout of the weights.
        fraction_bits : int
            Bits after the binary point.
        """

    @abstractmethod
    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the state of one leaf after one step, in floats, written in ``autograd.numpy``.

        The same rule as the exact run's, to be read beside the text, and the reference that the
        tests unroll.
        """


class ExactRun(ABC):
    """The integer state of a run, stepped forwards and backwards bit for bit.

    Attributes
    ----------
    integers : dict of str to ndarray of int64
        The state: ``"weights"`` and the slots.
    """

    integers: dict[str, NDArray[np.int64]]

    @abstractmethod
    def step(self, t: int, gradient: Vector) -> None:
        """Advance from the state before step `t` to the state after it."""

    @abstractmethod
    def unstep(self, t: int, gradient_at: GradientAt) -> None:
        """Undo step `t`. ``gradient_at(weights)`` is called once, at the recovered weights."""

    @abstractmethod
    def pull_back(
        self,
        t: int,
        later: dict[str, Vector],
        gradient: Vector,
        pull_back_gradient: Pullback,
        adjoint: Adjoint,
    ) -> None:
        """Carry the adjoint from after step `t` to before it; called once the step is undone.

        Parameters
        ----------
        t : int
            The step.
        later : dict of str to ndarray
            The slots beside the weights, as they were after the step.
        gradient : ndarray
            The training gradient at the weights before the step.
        pull_back_gradient : callable
            Its pullback, from a vector u to (uᵀ ∂g/∂w, uᵀ ∂g/∂θ).
        adjoint : Adjoint
            Updated in place.
        """

    @abstractmethod
    def copy(self) -> Self:
        """Return an independent run in the same state."""

    @abstractmethod
    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""

    @property
    @abstractmethod
    def num_bits(self) -> int:
        """Bits of memory that the buffers occupy."""

    @property
    @abstractmethod
    def information(self) -> float:
        """Bits of content in the buffers, by theory."""


class PiecewiseRun(ExactRun):
    """A run whose state is decayed through buffers and added to: what all update rules share.

    Weights are worked on in *pieces*: one for each leaf, or a single one if all leaves share all
    schedules.

    Parameters
    ----------
    state : dict of str to ndarray
        Flat ``"weights"`` and slots, rounded to integers here.
    schedules : dict of str to ndarray, shape (rows, steps)
        One row for all weights, or one for each leaf.
    layout : Layout
        Layout of the weights.
    fraction_bits : mapping of str to int
        Bits after the binary point, for each slot.

    Attributes
    ----------
    pieces : list of slice
        Parts of the flat vectors that share their schedules.
    rates : dict of str to ndarray, shape (pieces, steps)
        The schedules, a row for each piece.
    buffers : dict of str to list
        By slot: the buffer of each piece.
    """

    def __init__(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: Mapping[str, int],
    ):
        self.fraction_bits = fraction_bits
        shared = all(len(rows) == 1 for rows in schedules.values())
        self.pieces = [slice(0, layout.size)] if shared else layout.slices
        # A shared schedule is repeated without a copy.
        self.rates = {
            name: np.broadcast_to(rows, (len(self.pieces), rows.shape[1]))
            for name, rows in schedules.items()
        }
        self.buffers: dict[str, list[Buffer]] = {}
        self._factor = np.empty(layout.size)
        self.integers = {slot: np.zeros(layout.size, dtype=np.int64) for slot in state}
        for slot, values in state.items():
            self.add(slot, values, np.full(len(self.pieces), self.unit(slot)))

    def copy(self) -> Self:
        """Return an independent run in the same state."""
        other = copy.copy(self)
        other.integers = {slot: numbers.copy() for slot, numbers in self.integers.items()}
        other.buffers = {
            slot: [buffer.copy() for buffer in buffers] for slot, buffers in self.buffers.items()
        }
        other._factor = np.empty_like(self._factor)
        return other

    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""
        return from_fixed(self.integers[slot], self.fraction_bits[slot])

    @property
    def num_bits(self) -> int:
        """Bits of memory that the buffers occupy."""
        return sum(buffer.num_bits for buffers in self.buffers.values() for buffer in buffers)

    @property
    def information(self) -> float:
        """Bits of content in the buffers, by theory."""
        return sum(buffer.information for buffers in self.buffers.values() for buffer in buffers)

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
            Flat; floats in units, integers as they are.
        factors : ndarray, shape (pieces,)
            With the unit of the slot in it.
        """
        try:
            add_scaled(self.integers[slot], values, self.spread(factors))
        except RevlearnError as error:
            error.slot, error.fraction_bits = slot, self.fraction_bits[slot]
            raise

    def multiply(self, slot: str, numerators: NDArray[np.int64]) -> None:
        """Multiply a slot by a ratio for each piece, through its buffers."""
        for buffer, piece, numerator in self._ratios(slot, numerators):
            buffer.multiply(self.integers[slot][piece], numerator)

    def divide(self, slot: str, numerators: NDArray[np.int64]) -> None:
        """Undo the latest :meth:`multiply` of a slot."""
        for buffer, piece, numerator in self._ratios(slot, numerators):
            buffer.divide(self.integers[slot][piece], numerator)

    def _ratios(self, slot: str, numerators: NDArray[np.int64]) -> zip:
        return zip(self.buffers[slot], self.pieces, numerators.tolist(), strict=True)

    def spread(self, factors: Vector) -> float | Vector:
        """Return one factor for all weights, or a vector that holds each piece's factor.

        The vector is reused: it is good until the next call.
        """
        if len(factors) == 1:
            return float(factors[0])
        for piece, factor in zip(self.pieces, factors.tolist(), strict=True):
            self._factor[piece] = factor
        return self._factor

    def dots(self, one: Vector, other: Vector) -> Vector:
        """Return the scalar product of two vectors, piece by piece."""
        return np.array([one[piece] @ other[piece] for piece in self.pieces])

    def accumulate(self, adjoint: Adjoint, name: str, t: int, slopes: Vector) -> None:
        """Add a derivative for each piece to that of a schedule at step `t`."""
        rows = adjoint.schedules[name]
        rows[:, t] += slopes if len(rows) == len(slopes) else slopes.sum()
