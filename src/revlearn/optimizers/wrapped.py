"""A rule around another one, and its run: what they do not change, they pass on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..gradients import Vector
from ..stores import Store
from .base import Optimizer
from .exact_run import Adjoint, ExactRun
from .parts import Part


class Wrapped(Optimizer):
    """Another optimizer, changed in one respect.

    Parameters
    ----------
    optimizer : Optimizer
        The rule inside.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.slots, self.result = optimizer.slots, optimizer.result
        self.schedules = dict(optimizer.schedules)

    def derived(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Return what the rule inside derives; see :class:`Optimizer`."""
        return self.optimizer.derived(schedules)

    def transformed(self, gradient: Any, rates: dict[str, Any]) -> Any:
        """Return what enters the rule inside; see :class:`Optimizer`."""
        return self.optimizer.transformed(gradient, rates)

    def fraction_bits(self, slot: str, fraction_bits: int) -> int:
        """Return the bits after the binary point; see :class:`Optimizer`."""
        return self.optimizer.fraction_bits(slot, fraction_bits)

    def part(self, *state: Any) -> Part:
        """Return the rule inside on integers; see :class:`Optimizer`."""
        return self.optimizer.part(*state)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's state after a step of the rule inside, in floats."""
        return self.optimizer.float_step(state, gradient, rates)


class WrappedRun(ExactRun):
    """A run of the rule inside.

    Parameters
    ----------
    run : ExactRun
        Its state.
    """

    def __init__(self, run: ExactRun):
        self._run = run
        self.integers = run.integers

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self._run.step(t, gradient)

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        self._run.undo_weights(t)

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the slots back; see :class:`ExactRun`."""
        self._run.undo_slots(t, gradient)

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back; see :class:`ExactRun`."""
        self._run.pull_back_weights(t, adjoint)

    def cotangent(self, t: int, adjoint: Adjoint) -> Vector | None:
        """Return the derivative of the gradient, where it is known; see :class:`ExactRun`."""
        return self._run.cotangent(t, adjoint)

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back; see :class:`ExactRun`."""
        return self._run.pull_back_slots(t, gradient, adjoint, known)

    def spill_to(self, store: Store) -> None:
        """Have buffers spill into a store; see :class:`ExactRun`."""
        self._run.spill_to(store)

    def restore(self, integers: dict[str, NDArray[np.int64]]) -> None:
        """Set the whole state; see :class:`ExactRun`."""
        self._run.restore(integers)

    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""
        return self._run.values(slot)

    @property
    def num_bits(self) -> int:
        """Bits of memory that the buffers occupy."""
        return self._run.num_bits

    @property
    def information(self) -> float:
        """Bits of content in the buffers, by theory."""
        return self._run.information
