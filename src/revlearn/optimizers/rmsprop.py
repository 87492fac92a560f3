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

from ..gradients import Pullback, Vector
from ..information_buffer import InformationBuffer
from ..parameters import Layout
from ..rounding_buffer import RoundingBuffer
from .adam import refuse, slope_of_root, square_root
from .base import Adjoint, GradientAt, Optimizer, PiecewiseRun
from .ratios import nearest_ratio, numerators

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
        if not 1 <= square_bits <= 62:
            raise ValueError(f"square_bits must lie in 1..62, not {square_bits}")
        self.schedules = {
            "learning_rate": learning_rate,
            "momentum": momentum,
            "decay": decay,
            "epsilon": epsilon,
        }
        self.square_bits = square_bits

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactRMSprop:
        """Round the initial state to integers; see :class:`Optimizer`."""
        return ExactRMSprop(self, state, schedules, layout, fraction_bits)

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


class ExactRMSprop(PiecewiseRun):
    """Weights, velocity and mean square as integers, with a buffer of either kind."""

    def __init__(
        self,
        optimizer: RMSprop,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ):
        bits = dict.fromkeys(state, fraction_bits) | {"square": optimizer.square_bits}
        super().__init__(state, schedules, layout, bits)
        refuse(self.integers["square"] < 0, layout, "an initial mean square is negative")
        if not (self.rates["epsilon"] > 0.0).all():
            raise ValueError("epsilon must be positive: where the mean square is 0 it stands alone")
        self._momenta = numerators(self.rates["momentum"], MOMENTUM_BITS, layout)
        self._decays = numerators(self.rates["decay"], DECAY_BITS, layout, name="decay", above=0.5)
        self._momentum = self._momenta / 2.0**MOMENTUM_BITS
        self._decay = self._decays / 2.0**DECAY_BITS
        for piece in self.pieces:
            size = piece.stop - piece.start
            self.buffers.setdefault("velocity", []).append(InformationBuffer(size, MOMENTUM_BITS))
            self.buffers.setdefault("square", []).append(RoundingBuffer(size, DECAY_BITS))

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("square", self._decays[:, t])
        self._add_square(t, gradient, 1.0)
        self.multiply("velocity", self._momenta[:, t])
        self._add_normalised(t, gradient, -1.0)
        self.add("weights", self.integers["velocity"], self.rates["learning_rate"][:, t])

    def unstep(self, t: int, gradient_at: GradientAt) -> None:
        """Undo one step; see :class:`ExactRun`."""
        self.add("weights", self.integers["velocity"], -self.rates["learning_rate"][:, t])
        gradient = gradient_at(self.values("weights"))
        self._add_normalised(t, gradient, 1.0)
        self.divide("velocity", self._momenta[:, t])
        self._add_square(t, gradient, -1.0)
        self.divide("square", self._decays[:, t])

    def _add_square(self, t: int, gradient: Vector, sign: float) -> None:
        self.add(
            "square", gradient * gradient, sign * (1.0 - self._decay[:, t]) * self.unit("square")
        )

    def _add_normalised(self, t: int, gradient: Vector, sign: float) -> None:
        root = np.sqrt(self.values("square"))
        root += self.spread(self.rates["epsilon"][:, t])
        self.add(
            "velocity", gradient / root, np.full(len(self.pieces), sign * self.unit("velocity"))
        )

    def pull_back(
        self,
        t: int,
        later: dict[str, Vector],
        gradient: Vector,
        pull_back_gradient: Pullback,
        adjoint: Adjoint,
    ) -> None:
        """Carry the adjoint back; see :class:`ExactRun`."""
        before = {slot: self.values(slot) for slot in ("velocity", "square")}
        cotangent = np.empty_like(gradient)
        slopes = {name: np.zeros(len(self.pieces)) for name in adjoint.schedules}
        for i, piece in enumerate(self.pieces):
            d_weights, d_velocity, d_square = (
                adjoint.slots[slot][piece] for slot in ("weights", "velocity", "square")
            )
            # w + α v
            slopes["learning_rate"][i] = d_weights @ later["velocity"][piece]
            d_velocity += self.rates["learning_rate"][i, t] * d_weights
            # γ v − g / (root + ε)
            own, root = gradient[piece], np.sqrt(later["square"][piece])
            total = root + self.rates["epsilon"][i, t]
            slopes["momentum"][i] = d_velocity @ before["velocity"][piece]
            d_total = d_velocity * own / (total * total)
            slopes["epsilon"][i] = d_total.sum()
            d_square += d_total * slope_of_root(root)
            # the moving average
            decay = self._decay[i, t]
            slopes["decay"][i] = d_square @ (before["square"][piece] - own * own)
            cotangent[piece] = 2.0 * (1.0 - decay) * d_square * own - d_velocity / total
            d_velocity *= self._momentum[i, t]
            d_square *= decay
        for name, slope in slopes.items():
            self.accumulate(adjoint, name, t, slope)
        to_weights, to_hyper = pull_back_gradient(cotangent)
        adjoint.slots["weights"] += to_weights
        adjoint.hyper += to_hyper
