r"""Clipping of the gradient's length, for any optimizer.

.. math:: g \leftarrow g\,\min(1, c / \lVert g \rVert)

with the Euclidean norm over all weights. On the way back the gradient is computed again and clipped
again; nothing has to be kept.

Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import make_vjp
from numpy.typing import NDArray

from ..gradients import Vector
from ..parameters import Layout
from ..stores import Store
from .base import Optimizer
from .exact_run import Adjoint, ExactRun
from .parts import Part


class Clipped(Optimizer):
    """Another optimizer, fed with gradients of limited length.

    Parameters
    ----------
    optimizer : Optimizer
        The rule that takes the clipped gradient.
    threshold : scalar, or array of shape (steps,)
        c, the largest length, positive. One for all leaves.

    Examples
    --------
    >>> from revlearn import SGD
    >>> Clipped(SGD(0.1, momentum=0.9), threshold=1.0).schedules
    {'learning_rate': 0.1, 'momentum': 0.9, 'threshold': 1.0}
    """

    def __init__(self, optimizer: Optimizer, threshold: Any):
        self.optimizer = optimizer
        self.slots = optimizer.slots
        self.schedules = optimizer.schedules | {"threshold": threshold}

    def derived(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Return what the other optimizer derives; see :class:`Optimizer`."""
        return self.optimizer.derived(schedules)

    def transformed(self, gradient: Any, rates: dict[str, Any]) -> Any:
        """Return the clipped gradient; see :class:`Optimizer`."""
        return clip(self.optimizer.transformed(gradient, rates), rates["threshold"])

    def part(self, *state: Any) -> Part:
        """Return the other optimizer's rule on integers; see :class:`Optimizer`."""
        return self.optimizer.part(*state)

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactClipped:
        """Round the initial state to integers; see :class:`Optimizer`."""
        threshold = schedules["threshold"]
        if len(threshold) > 1:
            raise ValueError("threshold must be a scalar or one value per step: one for all leaves")
        if not (threshold > 0.0).all():
            raise ValueError(f"threshold must be positive, not {threshold.min()}")
        others = {name: rows for name, rows in schedules.items() if name != "threshold"}
        run = self.optimizer.start(state, others, layout, fraction_bits)
        return ExactClipped(run, threshold[0])

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's state after a step of the other optimizer, in floats."""
        return self.optimizer.float_step(state, gradient, rates)


class ExactClipped(ExactRun):
    """A run of the other optimizer whose gradients are clipped before it sees them."""

    def __init__(self, run: ExactRun, threshold: Vector):
        self._run, self._threshold = run, threshold
        self.integers = run.integers

    @property
    def checksum(self) -> int:
        """Of the slots; see :class:`ExactRun`."""
        return self._run.checksum

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self._run.step(t, clip(gradient, self._threshold[t]))

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        self._run.undo_weights(t)

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the slots back; see :class:`ExactRun`."""
        self._run.undo_slots(t, clip(gradient, self._threshold[t]))

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back; see :class:`ExactRun`."""
        self._run.pull_back_weights(t, adjoint)

    def pull_back_slots(self, t: int, gradient: Vector, adjoint: Adjoint) -> Vector:
        """Carry the adjoint back, through the clipping, too; see :class:`ExactRun`."""
        joint = np.append(gradient, self._threshold[t])
        pull_back_clipping, clipped = make_vjp(lambda joint: clip(joint[:-1], joint[-1]), joint)
        both = pull_back_clipping(self._run.pull_back_slots(t, clipped, adjoint))
        adjoint.schedules["threshold"][0, t] += both[-1]
        return both[:-1]

    def copy(self) -> ExactClipped:
        """Return an independent run in the same state."""
        return ExactClipped(self._run.copy(), self._threshold)

    def without_buffers(self) -> ExactClipped:
        """Return an independent run that keeps nothing; see :class:`ExactRun`."""
        return ExactClipped(self._run.without_buffers(), self._threshold)

    def spill_to(self, store: Store) -> None:
        """Have buffers spill into a store; see :class:`ExactRun`."""
        self._run.spill_to(store)

    def restore(self, integers: dict[str, NDArray[np.int64]]) -> None:
        """Set the whole state; see :class:`ExactRun`."""
        self._run.restore(integers)

    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers."""
        return self._run.values(slot)

    @property
    def num_bits(self) -> int:
        """Bits of memory that the buffers occupy."""
        return self._run.num_bits

    @property
    def information(self) -> float:
        """Bits of content in the buffers, by theory."""
        return self._run.information


def clip(gradient: Any, threshold: Any) -> Any:
    """Return a vector, shortened to the threshold if it is longer.

    Examples
    --------
    >>> clip(np.array([3.0, 4.0]), 1.0)
    array([0.6, 0.8])
    """
    length = anp.sqrt(anp.sum(gradient * gradient))
    return gradient * (threshold / length) if length > threshold else gradient
