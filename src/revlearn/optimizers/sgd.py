r"""Stochastic gradient descent with momentum, exactly reversible.

.. math::

    v_{t+1} &= \gamma_t\,v_t - (1 - \gamma_t)\,g_t \\
    w_{t+1} &= w_t + \alpha_t\,v_{t+1}

Maclaurin, Duvenaud and Adams (2015), Algorithms 1 to 3, with the errata stated in the book.
"""

from __future__ import annotations

from numbers import Real
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


class SGD(Optimizer):
    r"""Gradient descent with momentum: v ← γ v − (1 − γ) g, then w ← w + α v.

    Parameters
    ----------
    learning_rate : schedule
        α, any finite number.
    momentum : schedule
        γ, in (0, 1]. It is rounded to the nearest ratio n/d with d = 2**momentum_bits, that is
        by at most 2**-17 with the default (a smaller momentum becomes 2**-16), and the ratio is
        used wherever γ stands. Its hypergradient is that of the ratio.
    dampening : float, optional
        The gradient enters with the factor 1 − dampening, at the first step as at all others;
        PyTorch's dampening leaves the first step undamped. By default the factor is 1 − γ, as in
        the paper, which at γ = 1 shuts the gradient out. With 0 it is the classical heavy ball,
        which at γ = 1 is the leapfrog.
    momentum_bits : int, optional
        Bits of the denominator of γ, at most 32. Each step adds a digit below n/2**fraction_bits
        to the velocity as noise, so more bits make the ratio finer and the noise larger.

    Notes
    -----
    A *schedule* is a scalar, an array of shape (steps,), or a nest shaped like the weights of
    either. Momentum 0 would discard all 64 bits of the velocity at each step; 2**-16 discards 16
    and is gradient descent, up to that share of the last step.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through
    Reversible Learning", ICML 2015.

    Examples
    --------
    >>> SGD(learning_rate=0.1, momentum=0.9).schedules
    {'learning_rate': 0.1, 'momentum': 0.9}
    """

    slots = ("velocity",)

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        *,
        dampening: float | None = None,
        momentum_bits: int = 16,
    ):
        if dampening is not None and not (isinstance(dampening, Real) and np.isfinite(dampening)):
            raise TypeError(
                f"dampening must be a plain finite number, not {dampening!r}: it chooses the form "
                "of the rule and is not differentiated"
            )
        self.schedules = {"learning_rate": learning_rate, "momentum": momentum}
        self.dampening = dampening
        self.momentum_bits = whole_number(momentum_bits, "momentum_bits", 1, 32)

    def rates(
        self, schedules: dict[str, NDArray[np.float64]], layout: Layout
    ) -> dict[str, NDArray]:
        """Return the schedules, with the momentum as a ratio; see :class:`Optimizer`."""
        return schedules | {"momentum": ratios(schedules["momentum"], self.momentum_bits, layout)}

    def part(self, *state: Any) -> ExactSGD:
        """Return the rule on integers; see :class:`Optimizer`."""
        return ExactSGD(self, *state)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights and velocity after a step, in floats."""
        momentum = nearest_ratio(rates["momentum"], self.momentum_bits)
        velocity = momentum * state["velocity"] - self.gain(momentum) * gradient
        weights = state["weights"] + rates["learning_rate"] * velocity
        return {"weights": weights, "velocity": velocity}

    def gain(self, momentum: Any) -> Any:
        """Return the factor of the gradient."""
        return 1.0 - (momentum if self.dampening is None else self.dampening)


class ExactSGD(Part):
    """Weights and velocity as integers, and the buffers that make the momentum reversible."""

    def __init__(self, optimizer: SGD, *state: Any):
        super().__init__(optimizer, *state)
        self._gain, self._dampened = optimizer.gain, optimizer.dampening is not None
        self.buffers["velocity"] = [
            InformationBuffer(piece.stop - piece.start, optimizer.momentum_bits)
            for piece in self.pieces
        ]

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("velocity", self.rates["momentum"][:, t])
        self._add_gradient(t, gradient, -1.0)
        self.add("weights", self.integers["velocity"], self.rates["learning_rate"][:, t])

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        self.add("weights", self.integers["velocity"], -self.rates["learning_rate"][:, t])

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take the velocity back; see :class:`ExactRun`."""
        self._add_gradient(t, gradient, 1.0)
        self.divide("velocity", self.rates["momentum"][:, t])

    def _add_gradient(self, t: int, gradient: Vector, sign: float) -> None:
        self.add("velocity", gradient, sign * self._gains(t) * self.unit("velocity"))

    def _gains(self, t: int) -> Vector:
        return self._gain(self.rates["momentum"][:, t]) * np.ones(len(self.pieces))

    # The paper's Algorithm 2, corrected: the halves of a step, latest first.

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over w + α v; see :class:`ExactRun`."""
        d_weights, d_velocity = adjoint.slots["weights"], adjoint.slots["velocity"]
        adjoint.accumulate("learning_rate", t, self.dots(d_weights, self.values("velocity")))
        d_velocity += self.spread(self.rates["learning_rate"][:, t]) * d_weights

    def cotangent(self, t: int, adjoint: Adjoint) -> Vector:
        """Return the derivative of the gradient; see :class:`ExactRun`."""
        return adjoint.slots["velocity"] * self.spread(-self._gains(t))

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over γ v − (1 − γ) g; see :class:`ExactRun`."""
        assert known is not None  # by cotangent, above
        d_velocity = adjoint.slots["velocity"]
        slopes = self.dots(d_velocity, self.values("velocity"))
        if not self._dampened:
            slopes += self.dots(d_velocity, gradient)
        adjoint.accumulate("momentum", t, slopes)
        d_velocity *= self.spread(self.rates["momentum"][:, t])
        return known
