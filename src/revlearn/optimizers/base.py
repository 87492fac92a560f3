"""What an update rule must offer to be run forwards, backwards and differentiated.

Training never names an optimizer. A new one is one new file beside ``sgd.py`` with two classes:
the :class:`Optimizer` that a user makes, and the :class:`Part` that carries its integer state.
A step has two halves: the gradient enters the slots (velocity, moments), and the slots move the
weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..gradients import Vector
from ..parameters import Layout
from .exact_run import ExactRun
from .parts import Part, RunInParts


class Optimizer(ABC):
    """An update rule and its schedules.

    Attributes
    ----------
    slots : tuple of str
        What the state holds beside the weights, for example ``("velocity",)``.
    schedules : dict of str to schedule
        Each a scalar, an array of shape (steps,), or a nest shaped like the weights. The values
        may be boxes of autograd: hypergradients flow to them.
    result : str
        The slot that training returns. It starts at the initial weights.
    """

    slots: tuple[str, ...]
    result: str = "weights"
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

    def fraction_bits(self, slot: str, fraction_bits: int) -> int:
        """Return the bits after the binary point of a slot: here, those of the weights."""
        return fraction_bits

    def rates(
        self, schedules: dict[str, NDArray[np.float64]], layout: Layout
    ) -> dict[str, NDArray]:
        """Return what the exact run needs at each step, checked: here, the schedules.

        Ratios are rounded here, once.

        Parameters
        ----------
        schedules : dict of str to ndarray, shape (rows, steps)
            One row for all weights, or one for each leaf.
        layout : Layout
            Layout of the weights; names the leaves in errors.
        """
        return schedules

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
        return RunInParts(self, state, schedules, layout, fraction_bits)

    @abstractmethod
    def part(self, *state: Any) -> Part:
        """Return what carries out the rule on the integers of one part of the weights.

        Parameters
        ----------
        *state : object
            What :class:`Part` takes beside the optimizer.
        """

    @abstractmethod
    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the state of one leaf after one step, in floats, written in ``autograd.numpy``.

        The same rule as the exact run's, to be read beside the text, and the reference that the
        tests unroll.
        """
