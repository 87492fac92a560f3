r"""RMSprop with momentum, exactly reversible.

.. math::

    s_{t+1} &= \rho\,s_t + (1 - \rho)\,g_t^2 \\
    v_{t+1} &= \gamma\,v_t - \frac{g_t}{\sqrt{s_{t+1}} + \epsilon} \\
    w_{t+1} &= w_t + \alpha\,v_{t+1}

Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012, with the
momentum of Graves, "Generating Sequences With Recurrent Neural Networks", 2013. Without momentum
the weights would move by a function of the gradient at the weights themselves, and undoing that
means solving for them; with momentum the velocity after the step says where they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import whole_number
from ..gradients import Vector
from ..information_buffer import InformationBuffer
from ..parameters import Layout
from ..rounding_buffer import RoundingBuffer
from .adam import check_epsilon, check_square, slope_of_root, square_root
from .base import Optimizer
from .exact_run import Adjoint, ExactRun
from .parts import Part
from .ratios import nearest_ratio, ratios

MOMENTUM_BITS, DECAY_BITS = 16, 24


class RMSprop(Optimizer):
    r"""Gradients divided by the root of the mean of their squares, with momentum.

    Parameters
    ----------
    learning_rate : schedule
        α, any finite number.
    momentum : schedule
        γ, in (0, 1]. Rounded to the nearest n/2**16.
    decay : schedule
        ρ, how much of the mean square is kept, in (1/2, 1]. Rounded to the nearest n/2**24.
    epsilon : schedule
        ε, added to the root, positive.
    square_bits : int, optional
        Bits after the binary point of the mean square: the default 56 gives steps of 1.4e-17 and
        a range of ±128. Where squares of gradients are larger, choose less.

    Notes
    -----
    The velocity is in units of normalised gradients: under a steady one it approaches −1/(1 − γ).
    Buffers as for :class:`Adam`.

    Examples
    --------
    >>> RMSprop(learning_rate=0.001, momentum=0.9).schedules["decay"]
    0.99
    """

    slots = ("velocity", "square")

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        decay: Any = 0.99,
        epsilon: Any = 1e-8,
        *,
        square_bits: int = 56,
    ):
        self.schedules = {
            "learning_rate": learning_rate,
            "momentum": momentum,
            "decay": decay,
            "epsilon": epsilon,
        }
        self.square_bits = whole_number(square_bits, "square_bits", 1, 62)

    def fraction_bits(self, slot: str, fraction_bits: int) -> int:
        """Return the bits after the binary point; see :class:`Optimizer`."""
        return self.square_bits if slot == "square" else fraction_bits

    def rates(
        self, schedules: dict[str, NDArray[np.float64]], layout: Layout
    ) -> dict[str, NDArray]:
        """Return the schedules, with momentum and decay as ratios; see :class:`Optimizer`."""
        check_epsilon(schedules["epsilon"])
        momentum, decay = schedules["momentum"], schedules["decay"]
        return schedules | {
            "momentum": ratios(momentum, MOMENTUM_BITS, layout),
            "decay": ratios(decay, DECAY_BITS, layout, name="decay", above=0.5),
        }

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactRun:
        """Round the initial state to integers; see :class:`Optimizer`."""
        check_square(state["square"], layout)
        return super().start(state, schedules, layout, fraction_bits)

    def part(self, *state: Any) -> ExactRMSprop:
        """Return the rule on integers; see :class:`Optimizer`."""
        return ExactRMSprop(self, *state)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights, velocity and mean square after a step, in floats."""
        momentum = nearest_ratio(rates["momentum"], MOMENTUM_BITS)
        decay = nearest_ratio(rates["decay"], DECAY_BITS, "decay", 0.5)
        square = decay * state["square"] + (1.0 - decay) * gradient * gradient
        normalised = gradient / (square_root(square) + rates["epsilon"])
        velocity = momentum * state["velocity"] - normalised
        weights = state["weights"] + rates["learning_rate"] * velocity
        return {"weights": weights, "velocity": velocity, "square": square}


class ExactRMSprop(Part):
    """Weights, velocity and mean square as integers, with a buffer of either kind."""

    def __init__(self, optimizer: RMSprop, *state: Any):
        super().__init__(optimizer, *state)
        for piece in self.pieces:
            size = piece.stop - piece.start
            self.buffers.setdefault("velocity", []).append(InformationBuffer(size, MOMENTUM_BITS))
            self.buffers.setdefault("square", []).append(RoundingBuffer(size, DECAY_BITS))

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("square", self.rates["decay"][:, t])
        self._add_square(t, gradient, 1.0)
        self.multiply("velocity", self.rates["momentum"][:, t])
        self._add_normalised(t, gradient, -1.0)
        self.add("weights", self.integers["velocity"], self.rates["learning_rate"][:, t])

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        self.add("weights", self.integers["velocity"], -self.rates["learning_rate"][:, t])

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take velocity and mean square back; see :class:`ExactRun`."""
        self._add_normalised(t, gradient, 1.0)
        self.divide("velocity", self.rates["momentum"][:, t])
        self._add_square(t, gradient, -1.0)
        self.divide("square", self.rates["decay"][:, t])

    def _add_square(self, t: int, gradient: Vector, sign: float) -> None:
        share = sign * (1.0 - self.rates["decay"][:, t])
        self.add("square", gradient * gradient, share * self.unit("square"))

    def _add_normalised(self, t: int, gradient: Vector, sign: float) -> None:
        units = np.full(len(self.pieces), sign * self.unit("velocity"))
        self.add("velocity", gradient / self._total(t, np.sqrt(self.values("square"))), units)

    def _total(self, t: int, root: Vector) -> Vector:
        return root + self.spread(self.rates["epsilon"][:, t])

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over w + α v; see :class:`ExactRun`."""
        d_weights, d_velocity = adjoint.slots["weights"], adjoint.slots["velocity"]
        adjoint.accumulate("learning_rate", t, self.dots(d_weights, self.values("velocity")))
        d_velocity += self.spread(self.rates["learning_rate"][:, t]) * d_weights

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over γ v − g / (root + ε) and the mean; see :class:`ExactRun`."""
        d_velocity, d_square = adjoint.slots["velocity"], adjoint.slots["square"]
        momentum, decay = (self.spread(self.rates[name][:, t]) for name in ("momentum", "decay"))
        before, squared, unit = self.values("square"), gradient * gradient, self.unit("square")
        # The mean square after the step, rounded as the step did: where it is tiny, this matters.
        later = np.rint(decay * before * unit) + np.rint((1.0 - decay) * squared * unit)
        root = np.sqrt(later / unit)
        total = self._total(t, root)
        adjoint.accumulate("momentum", t, self.dots(d_velocity, self.values("velocity")))
        d_total = d_velocity * gradient / (total * total)
        adjoint.accumulate("epsilon", t, np.array([d_total[piece].sum() for piece in self.pieces]))
        d_square += d_total * slope_of_root(root)
        adjoint.accumulate("decay", t, self.dots(d_square, before - squared))
        cotangent = 2.0 * (1.0 - decay) * d_square * gradient - d_velocity / total
        d_velocity *= momentum
        d_square *= decay
        return cotangent
