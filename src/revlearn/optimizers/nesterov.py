r"""Nesterov's accelerated gradient, reversible at a price.

.. math::

    v_{t+1} &= \gamma_t\,v_t - (1 - \gamma_t)\,g_t \\
    u_{t+1} &= \delta\,u_t + \gamma_t\,v_{t+1} - (1 - \gamma_t)\,g_t \\
    w_{t+1} &= w_t + \alpha_t\,u_{t+1}

with :math:`\delta = 0`. The weights are the points at which gradients are taken, as in PyTorch.
They move by the gradient at these very points, so nothing known afterwards says where they were.
We let the direction u say it: it is a slot of its own, like a velocity, and forgets nearly all of
itself at each step, :math:`\delta = 2^{-k}`. The weights come back by subtraction, the gradient is
taken there, and an information buffer gives back what the direction forgot, k bits a weight and
step. Any rule can be made reversible so: the fewer bits, the larger its deviation.

Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k²)", 1983;
Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
learning", ICML 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import whole_number
from ..gradients import Vector
from ..information_buffer import InformationBuffer
from ..parameters import Layout
from .base import Optimizer
from .exact_run import Adjoint
from .parts import Part
from .ratios import nearest_ratio, ratios

MOMENTUM_BITS = 16


class Nesterov(Optimizer):
    r"""Gradient descent with Nesterov's momentum, in the form of PyTorch.

    Parameters
    ----------
    learning_rate : schedule
        α, any finite number.
    momentum : schedule
        γ, in (0, 1]. Rounded to the nearest n/2**16.
    direction_bits : int, optional
        k, at most 32. Each direction holds 2**-k of the one before, and each weight and step costs
        k bits. With the default 24 that is a deviation of 6e-8; single precision rounds as far.

    Notes
    -----
    As in :class:`~revlearn.SGD` the gradient enters with the factor 1 − γ: where γ is constant,
    PyTorch's learning rate is α (1 − γ).

    This rule is not cheap to reverse: 24.15 bits a weight and step with a momentum of 0.9, where
    :class:`~revlearn.SGD` needs 0.15. From a hundred steps on √(2T) checkpoints take less memory:
    :func:`revlearn.estimators.checkpointed.train` keeps no buffers. Or let the buffers spill to
    disk (``spill_to``).

    Examples
    --------
    >>> import revlearn as rl
    >>> def loss(w, hyper, t):
    ...     return 0.5 * w**2
    >>> tape = rl.record(loss, 1.0, None, Nesterov(0.1, momentum=0.5), steps=100)
    >>> tape.information
    2500.0
    >>> for t, weights, velocity in tape.rewind():
    ...     pass
    >>> float(weights), float(velocity)
    (1.0, 0.0)
    """

    slots = ("velocity", "direction")

    def __init__(self, learning_rate: Any, momentum: Any, *, direction_bits: int = 24):
        self.schedules = {"learning_rate": learning_rate, "momentum": momentum}
        self.direction_bits = whole_number(direction_bits, "direction_bits", 1, 32)

    def rates(
        self, schedules: dict[str, NDArray[np.float64]], layout: Layout
    ) -> dict[str, NDArray]:
        """Return the schedules, with the momentum as a ratio; see :class:`Optimizer`."""
        return schedules | {"momentum": ratios(schedules["momentum"], MOMENTUM_BITS, layout)}

    def part(self, *state: Any) -> ExactNesterov:
        """Return the rule on integers; see :class:`Optimizer`."""
        return ExactNesterov(self, *state)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights, velocity and direction after a step, in floats."""
        momentum = nearest_ratio(rates["momentum"], MOMENTUM_BITS)
        velocity = momentum * state["velocity"] - (1.0 - momentum) * gradient
        trace = 2.0**-self.direction_bits * state["direction"]
        direction = trace + momentum * velocity - (1.0 - momentum) * gradient
        weights = state["weights"] + rates["learning_rate"] * direction
        return {"weights": weights, "velocity": velocity, "direction": direction}


class ExactNesterov(Part):
    """Weights, velocity and direction as integers, with information buffers for the last two."""

    def __init__(self, optimizer: Nesterov, *state: Any):
        super().__init__(optimizer, *state)
        self._trace = np.full(len(self.pieces), 2.0**-optimizer.direction_bits)
        for slot, bits in (("velocity", MOMENTUM_BITS), ("direction", optimizer.direction_bits)):
            self.buffers[slot] = [
                InformationBuffer(piece.stop - piece.start, bits) for piece in self.pieces
            ]

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("velocity", self.rates["momentum"][:, t])
        self._add_gradient("velocity", t, gradient, 1.0)
        self.multiply("direction", self._trace)
        self.add("direction", self.integers["velocity"], self.rates["momentum"][:, t])
        self._add_gradient("direction", t, gradient, 1.0)
        self.add("weights", self.integers["direction"], self.rates["learning_rate"][:, t])

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        self.add("weights", self.integers["direction"], -self.rates["learning_rate"][:, t])

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take direction and velocity back; see :class:`ExactRun`."""
        self._add_gradient("direction", t, gradient, -1.0)
        self.add("direction", self.integers["velocity"], -self.rates["momentum"][:, t])
        self.divide("direction", self._trace)
        self._add_gradient("velocity", t, gradient, -1.0)
        self.divide("velocity", self.rates["momentum"][:, t])

    def _add_gradient(self, slot: str, t: int, gradient: Vector, sign: float) -> None:
        self.add(slot, gradient, -sign * (1.0 - self.rates["momentum"][:, t]) * self.unit(slot))

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over w + α u and over γ v in u; see :class:`ExactRun`."""
        d_weights, d_velocity, d_direction = (
            adjoint.slots[slot] for slot in ("weights", "velocity", "direction")
        )
        adjoint.accumulate("learning_rate", t, self.dots(d_weights, self.values("direction")))
        d_direction += self.spread(self.rates["learning_rate"][:, t]) * d_weights
        adjoint.accumulate("momentum", t, self.dots(d_direction, self.values("velocity")))
        d_velocity += self.spread(self.rates["momentum"][:, t]) * d_direction

    def cotangent(self, t: int, adjoint: Adjoint) -> Vector:
        """Return the derivative of the gradient; see :class:`ExactRun`."""
        both = adjoint.slots["velocity"] + adjoint.slots["direction"]
        return both * self.spread(self.rates["momentum"][:, t] - 1.0)

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over the rest of both slots; see :class:`ExactRun`."""
        assert known is not None  # by cotangent, above
        d_velocity, d_direction = adjoint.slots["velocity"], adjoint.slots["direction"]
        slopes = self.dots(d_velocity, self.values("velocity") + gradient)
        adjoint.accumulate("momentum", t, slopes + self.dots(d_direction, gradient))
        d_velocity *= self.spread(self.rates["momentum"][:, t])
        d_direction *= self._trace[0]
        return known
