"""What an update rule must offer to be run forwards, backwards and differentiated.

Training never names an optimizer. A new one is one new file beside ``sgd.py`` with two classes:
the :class:`Optimizer` that a user makes, and the :class:`ExactRun` that carries its integer state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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

    slots: ClassVar[tuple[str, ...]]
    schedules: dict[str, Any]

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
    def copy(self) -> ExactRun:
        """Return an independent run in the same state."""

    @abstractmethod
    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""

    @property
    @abstractmethod
    def num_bits(self) -> int:
        """Bits of memory that the information buffers occupy."""

    @property
    @abstractmethod
    def information(self) -> float:
        """Bits of content in the information buffers."""
