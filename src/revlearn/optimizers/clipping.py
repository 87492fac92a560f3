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
from ..parameters import Layout, plain
from .base import Optimizer
from .exact_run import Adjoint, ExactRun
from .wrapped import Wrapped, WrappedRun


class Clipped(Wrapped):
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
        super().__init__(optimizer)
        if "threshold" in self.schedules:
            raise ValueError("the optimizer clips its gradients already")
        self.schedules["threshold"] = threshold

    def transformed(self, gradient: Any, rates: dict[str, Any]) -> Any:
        """Return the clipped gradient; see :class:`Optimizer`."""
        return clip(self.optimizer.transformed(gradient, rates), rates["threshold"])

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


class ExactClipped(WrappedRun):
    """A run of the other optimizer whose gradients are clipped before it sees them."""

    def __init__(self, run: ExactRun, threshold: Vector):
        super().__init__(run)
        self._threshold = threshold

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self._run.step(t, clip(gradient, self._threshold[t]))

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the slots back; see :class:`ExactRun`."""
        self._run.undo_slots(t, clip(gradient, self._threshold[t]))

    def cotangent(self, t: int, adjoint: Adjoint) -> None:
        """Return nothing: how clipping acts back depends on the gradient."""

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back, through the clipping, too; see :class:`ExactRun`."""
        joint = np.append(gradient, self._threshold[t])
        pull_back_clipping, clipped = make_vjp(lambda joint: clip(joint[:-1], joint[-1]), joint)
        inside = self._run.cotangent(t, adjoint)
        both = pull_back_clipping(self._run.pull_back_slots(t, clipped, adjoint, inside))
        adjoint.schedules["threshold"][0, t] += both[-1]
        return both[:-1]

    def copy(self) -> ExactClipped:
        """Return an independent run in the same state."""
        return ExactClipped(self._run.copy(), self._threshold)

    def without_buffers(self) -> ExactClipped:
        """Return an independent run that keeps nothing; see :class:`ExactRun`."""
        return ExactClipped(self._run.without_buffers(), self._threshold)


def clip(gradient: Any, threshold: Any) -> Any:
    """Return a vector, shortened to the threshold if it is longer.

    Examples
    --------
    >>> clip(np.array([3.0, 4.0]), 1.0)
    array([0.6, 0.8])
    >>> clip(np.array([3e200, 4e200]), 1e-200)
    array([6.e-201, 8.e-201])
    """
    # Squares of the gradient may overflow or vanish: its largest number is brought near one before,
    # by a power of two, which changes no bit of the result.
    largest = np.max(np.abs(plain(gradient)), initial=0.0)
    if not np.isfinite(largest):
        return gradient  # which is refused
    scale = 2.0 ** -float(np.clip(np.frexp(largest)[1], -1000, 1000))
    scaled = gradient * scale
    length = anp.sqrt(anp.sum(scaled * scaled))
    if plain(length) <= float(plain(threshold)) * scale:
        return gradient
    return scaled * (threshold / length)
