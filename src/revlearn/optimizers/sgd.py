r"""Stochastic gradient descent with momentum, exactly reversible.

.. math::

    v_{t+1} &= \gamma_t\,v_t - (1 - \gamma_t)\,g_t \\
    w_{t+1} &= w_t + \alpha_t\,v_{t+1}

Maclaurin, Duvenaud and Adams (2015), Algorithms 1 to 3, with the errata stated in the book.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from autograd.extend import defvjp, primitive
from numpy.typing import NDArray

from ..errors import RevlearnError
from ..fixed_point import add_scaled, from_fixed
from ..gradients import Pullback, Vector
from ..information_buffer import InformationBuffer
from ..parameters import Layout
from .base import Adjoint, ExactRun, GradientAt, Optimizer


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
        The gradient enters with the factor 1 − dampening. By default the factor is 1 − γ, as in
        the paper, which at γ = 1 shuts the gradient out. With 0 it is the classical heavy ball,
        which at γ = 1 is the leapfrog.
    momentum_bits : int, optional
        Bits of the denominator of γ, at most 32. Each step adds a digit below n/2**fraction_bits
        to the velocity as noise, so more bits make the ratio finer and the noise larger.

    Notes
    -----
    A *schedule* is a scalar, an array of shape (steps,), or a nest shaped like the weights of
    either. Momentum 0 would discard all 64 bits of the velocity at each step.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through
    Reversible Learning", ICML 2015.

    Examples
    --------
    >>> SGD(learning_rate=0.1, momentum=0.9).schedules
    {'learning_rate': 0.1, 'momentum': 0.9}
    """

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        *,
        dampening: float | None = None,
        momentum_bits: int = 16,
    ):
        if not 1 <= momentum_bits <= 32:
            raise ValueError(f"momentum_bits must lie in 1..32, not {momentum_bits}")
        if dampening is not None and not (
            isinstance(dampening, (int, float)) and np.isfinite(dampening)
        ):
            raise TypeError(
                f"dampening must be a plain finite number, not {dampening!r}: it chooses the form "
                "of the rule and is not differentiated"
            )
        self.schedules = {"learning_rate": learning_rate, "momentum": momentum}
        self.dampening = dampening
        self.momentum_bits = momentum_bits

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactSGD:
        """Round the initial state to integers; see :class:`Optimizer`."""
        return ExactSGD(self, state, schedules, layout, fraction_bits)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights and velocity after a step, in floats."""
        momentum = _nearest_ratio(rates["momentum"], self.momentum_bits)
        velocity = momentum * state["velocity"] - self.gain(momentum) * gradient
        weights = state["weights"] + rates["learning_rate"] * velocity
        return {"weights": weights, "velocity": velocity}

    def gain(self, momentum: Any) -> Any:
        """Return the factor of the gradient."""
        return 1.0 - (momentum if self.dampening is None else self.dampening)


class ExactSGD(ExactRun):
    """Weights and velocity as integers, and the buffers that make the momentum reversible."""

    def __init__(
        self,
        optimizer: SGD,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ):
        self._optimizer = optimizer
        self._fraction_bits = fraction_bits
        # Leaves that share both schedules are worked on as one piece.
        shared = all(len(rows) == 1 for rows in schedules.values())
        self._pieces = [slice(0, layout.size)] if shared else layout.slices
        self._learning_rate = self._rows(schedules["learning_rate"])
        self._numerator = self._rows(
            numerators(schedules["momentum"], optimizer.momentum_bits, layout)
        )
        self._momentum = self._numerator / 2.0**optimizer.momentum_bits
        self._gain = optimizer.gain(self._momentum) * np.ones_like(self._momentum)
        self._buffers = [
            InformationBuffer(piece.stop - piece.start, optimizer.momentum_bits)
            for piece in self._pieces
        ]
        self._factor = np.empty(layout.size)
        self.integers = {slot: np.zeros(layout.size, dtype=np.int64) for slot in state}
        for slot, values in state.items():
            self._add(slot, values, np.full(len(self._pieces), 2.0**fraction_bits))

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        velocity = self.integers["velocity"]
        for buffer, piece, numerator in self._momenta(t):
            buffer.multiply(velocity[piece], numerator)
        self._add("velocity", gradient, -self._gain[:, t] * 2.0**self._fraction_bits)
        self._add("weights", velocity, self._learning_rate[:, t])

    def unstep(self, t: int, gradient_at: GradientAt) -> None:
        """Undo one step; see :class:`ExactRun`."""
        velocity = self.integers["velocity"]
        self._add("weights", velocity, -self._learning_rate[:, t])
        gradient = gradient_at(self.values("weights"))
        self._add("velocity", gradient, self._gain[:, t] * 2.0**self._fraction_bits)
        for buffer, piece, numerator in self._momenta(t):
            buffer.divide(velocity[piece], numerator)

    def pull_back(
        self,
        t: int,
        later: dict[str, Vector],
        gradient: Vector,
        pull_back_gradient: Pullback,
        adjoint: Adjoint,
    ) -> None:
        """Carry the adjoint back (the paper's Algorithm 2, corrected); see :class:`ExactRun`."""
        d_weights, d_velocity = adjoint.slots["weights"], adjoint.slots["velocity"]
        velocity = self.values("velocity")
        self._accumulate(adjoint, "learning_rate", t, self._dots(d_weights, later["velocity"]))
        d_velocity += self._spread(self._learning_rate[:, t]) * d_weights
        slopes = self._dots(d_velocity, velocity)
        if self._optimizer.dampening is None:
            slopes += self._dots(d_velocity, gradient)
        self._accumulate(adjoint, "momentum", t, slopes)
        cotangent = d_velocity * self._spread(-self._gain[:, t])
        d_velocity *= self._spread(self._momentum[:, t])
        to_weights, to_hyper = pull_back_gradient(cotangent)
        d_weights += to_weights
        adjoint.hyper += to_hyper

    def copy(self) -> ExactSGD:
        """Return an independent run in the same state."""
        other = copy.copy(self)
        other.integers = {slot: numbers.copy() for slot, numbers in self.integers.items()}
        other._buffers = [buffer.copy() for buffer in self._buffers]
        other._factor = np.empty_like(self._factor)
        return other

    def values(self, slot: str) -> Vector:
        """Return the weights or the velocity as real numbers."""
        return from_fixed(self.integers[slot], self._fraction_bits)

    @property
    def num_bits(self) -> int:
        """Bits of memory that the information buffers occupy."""
        return sum(buffer.num_bits for buffer in self._buffers)

    @property
    def information(self) -> float:
        """Bits of content: Σ log2(d/n) over weights and steps."""
        return sum(buffer.information for buffer in self._buffers)

    def _rows(self, schedule: NDArray) -> NDArray:
        """Give every piece its row of a schedule; a shared one is repeated without a copy."""
        return np.broadcast_to(schedule, (len(self._pieces), schedule.shape[1]))

    def _momenta(self, t: int) -> Iterator[tuple[InformationBuffer, slice, int]]:
        return zip(self._buffers, self._pieces, self._numerator[:, t].tolist(), strict=True)

    def _add(self, slot: str, values: NDArray, factors: Vector) -> None:
        """Add values, times a factor for each piece, to a slot; an overflow names the slot."""
        try:
            add_scaled(self.integers[slot], values, self._spread(factors))
        except RevlearnError as error:
            error.slot = slot
            raise

    def _spread(self, factors: Vector) -> float | Vector:
        """Return one factor for all weights, or a vector that holds each piece's factor.

        The vector is reused: it is good until the next call.
        """
        if len(factors) == 1:
            return float(factors[0])
        for piece, factor in zip(self._pieces, factors.tolist(), strict=True):
            self._factor[piece] = factor
        return self._factor

    def _dots(self, one: Vector, other: Vector) -> Vector:
        """Return the scalar product of two vectors, piece by piece."""
        return np.array([one[piece] @ other[piece] for piece in self._pieces])

    def _accumulate(self, adjoint: Adjoint, name: str, t: int, slopes: Vector) -> None:
        rows = adjoint.schedules[name]
        rows[:, t] += slopes if len(rows) == len(slopes) else slopes.sum()


def numerators(
    momentum: NDArray[np.float64], momentum_bits: int, layout: Layout | None = None
) -> NDArray[np.int64]:
    """Return n of the ratios n / 2**momentum_bits nearest to the momenta, at least 1.

    Parameters
    ----------
    momentum : ndarray, shape (rows, steps)
        One row for all leaves, or one for each.
    momentum_bits : int
        Bits of the denominator.
    layout : Layout, optional
        Names the leaves in errors.

    Returns
    -------
    ndarray of int64, shape (rows, steps)
        Numerators, from 1 to 2**momentum_bits.

    Raises
    ------
    ValueError
        If a momentum lies outside (0, 1], or is below 1 and would be rounded to 1.
    """
    denominator = 2.0**momentum_bits
    rounded = np.rint(momentum * denominator)

    def first(bad: NDArray[np.bool_]) -> str:
        row, step = np.argwhere(bad)[0]
        name = layout.name_as("momentum", row) if layout and len(momentum) > 1 else "momentum"
        return f"{name} is {momentum[row, step]} at step {step}"

    outside = ~((momentum > 0.0) & (momentum <= 1.0))
    if outside.any():
        raise ValueError(
            f"{first(outside)}; it must lie in (0, 1]. "
            "At 0 (sigmoid(x) is 0 below −37) each step would discard the whole velocity, 64 bits "
            "a weight, and nothing cheaper than storing it brings it back; above 1 the velocity "
            "would grow"
        )
    lost = (rounded == denominator) & (momentum < 1.0)
    if lost.any():
        raise ValueError(
            f"{first(lost)}, which {momentum_bits} bits round to 1: no friction, and no gradient. "
            f"Choose more bits, for example momentum_bits={min(momentum_bits + 8, 32)}, or 1 itself"
        )
    return np.maximum(rounded, 1).astype(np.int64)


@primitive
def _nearest_ratio(momentum, momentum_bits):
    return numerators(np.reshape(momentum, (1, 1)), momentum_bits)[0, 0] / 2.0**momentum_bits


# The derivative is taken at the ratio, as if it could move freely.
defvjp(_nearest_ratio, lambda ans, momentum, momentum_bits: lambda g: g, argnums=(0,))
