"""The integer state of a run, and the derivatives carried back through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..gradients import Vector
from ..stores import Store

GradientAt = Callable[[Vector], Vector]


class Place(NamedTuple):
    """Where a part of the weights lies: at most ``BLOCK`` of them, which fit the fast caches.

    Attributes
    ----------
    weights : slice
        Into the flat vectors.
    rows : slice
        Into schedules that have a row for each leaf.
    pieces : list of slice
        Within the part: what shares its schedules.
    """

    weights: slice
    rows: slice
    pieces: list[slice]

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.weights.stop - self.weights.start

    def rows_of(self, schedule: NDArray) -> NDArray:
        """Return the part's rows of a schedule."""
        return schedule if len(schedule) == 1 else schedule[self.rows]


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

    def cut(self, place: Place) -> Adjoint:
        """Return views of what belongs to one part of the weights."""
        return Adjoint(
            {slot: values[place.weights] for slot, values in self.slots.items()},
            self.hyper,
            {name: place.rows_of(rows) for name, rows in self.schedules.items()},
        )

    def add(self, to_weights: Vector, to_hyper: Vector) -> None:
        """Add what comes through the gradient."""
        self.slots["weights"] += to_weights
        self.hyper += to_hyper

    def accumulate(self, name: str, t: int, slopes: Vector) -> None:
        """Add a derivative for each piece to that of a schedule at step `t`."""
        rows = self.schedules[name]
        rows[:, t] += slopes if len(rows) == len(slopes) else slopes.sum()


class ExactRun(ABC):
    """The integer state of a run, stepped forwards and backwards bit for bit.

    Backwards goes in halves, because the gradient is taken between them, at the weights just
    found: ``pull_back_weights``, ``undo_weights``, gradient, ``undo_slots``, ``pull_back_slots``.

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
    def undo_weights(self, t: int) -> None:
        """Take the weights back to before step `t`, by what the slots are after it."""

    @abstractmethod
    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the slots back to before step `t`."""

    @abstractmethod
    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over the second half of step `t`; called before it is undone."""

    def cotangent(self, t: int, adjoint: Adjoint) -> Vector | None:
        """Return the derivative of the gradient, if it depends on neither gradient nor slots.

        Called after :meth:`pull_back_weights`. Gradient and product can then be had in one go.
        """
        return None

    @abstractmethod
    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over the first half of step `t`; called once it is undone.

        Parameters
        ----------
        t : int
            The step.
        gradient : ndarray
            The training gradient at the weights before the step.
        adjoint : Adjoint
            Updated in place, up to what goes through the gradient.
        known : ndarray or None
            What :meth:`cotangent` returned.

        Returns
        -------
        ndarray
            The derivative with respect to the gradient.
        """

    @abstractmethod
    def copy(self) -> Self:
        """Return an independent run in the same state."""

    @abstractmethod
    def without_buffers(self) -> Self:
        """Return an independent run that keeps nothing: products are rounded, not to be undone."""

    @abstractmethod
    def spill_to(self, store: Store) -> None:
        """Have buffers put into a store what they spill from now on."""

    @abstractmethod
    def restore(self, integers: dict[str, NDArray[np.int64]]) -> None:
        """Set the whole state of a run without buffers."""

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

    def unstep(self, t: int, gradient_at: GradientAt) -> None:
        """Undo step `t`. ``gradient_at(weights)`` is called once, at the recovered weights."""
        self.undo_weights(t)
        self.undo_slots(t, gradient_at(self.values("weights")))
