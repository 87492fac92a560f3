"""The integer state of chains, stepped forwards and backwards bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import RevlearnError
from ..fixed_point import add_scaled, checksum, from_fixed, to_fixed
from ..gradients import Vector
from ..information_buffer import InformationBuffer
from ..optimizers.ratios import ratios

_MOMENTUM_BITS = 16

GradientAt = Callable[[Vector], Vector]


class State(NamedTuple):
    """Where all chains are, and how fast.

    Attributes
    ----------
    position : ndarray, shape (chains, dimensions)
        x.
    velocity : ndarray, shape (chains, dimensions)
        v, in units of its standard deviation.
    """

    position: Any
    velocity: Any


def noise(seed: int, t: int, size: int) -> Vector:
    """Return the standard normal numbers of transition `t`; −1 is for the velocity at the start.

    Examples
    --------
    >>> [bool(np.all(noise(0, t, 5) == noise(0, 3, 5))) for t in (3, 4)]
    [True, False]
    """
    # A generator that counts: it is at the numbers of any transition at once.
    return np.random.RandomState(np.random.Philox(key=seed, counter=[0, t + 1, 0, 0])).randn(size)


class ExactChains:
    """Positions and velocities as integers, and the buffer that makes refreshment reversible.

    Parameters
    ----------
    position, velocity : ndarray, shape (chains × dimensions,)
        The state at the start, flat, chain by chain.
    step_size : ndarray, shape (transitions, dimensions)
        h.
    momentum : ndarray, shape (transitions,)
        γ, rounded to ratios here.
    seed : int
        Seed of the noise.
    leaps : int
        Steps of the leapfrog in a transition.
    fraction_bits : int
        Bits after the binary point.
    """

    def __init__(
        self,
        position: Vector,
        velocity: Vector,
        step_size: NDArray[np.float64],
        momentum: Vector,
        seed: int,
        leaps: int,
        fraction_bits: int,
    ):
        self.fraction_bits, self.leaps, self._seed = fraction_bits, leaps, seed
        self.integers = {
            "position": to_fixed(position, fraction_bits),
            "velocity": to_fixed(velocity, fraction_bits),
        }
        self.momentum = ratios(momentum[None], _MOMENTUM_BITS)[0]
        self.step_size, self._chains = step_size, position.size // step_size.shape[1]
        self.buffer = InformationBuffer(position.size, _MOMENTUM_BITS)

    def copy(self) -> ExactChains:
        """Return independent chains in the same state."""
        other = ExactChains.__new__(ExactChains)
        other.__dict__.update(self.__dict__)
        other.integers = {slot: numbers.copy() for slot, numbers in self.integers.items()}
        other.buffer = self.buffer.copy()
        return other

    def refresh(self, t: int) -> None:
        """Multiply the velocity by a ratio, and make up for what it lost with noise."""
        self.buffer.multiply(self.integers["velocity"], self._numerator(t))
        self._add_noise(t, 1.0)

    def undo_refresh(self, t: int) -> None:
        """Take the same noise away, and divide."""
        self._add_noise(t, -1.0)
        self.buffer.divide(self.integers["velocity"], self._numerator(t))

    def _numerator(self, t: int) -> int:
        return round(self.momentum[t] * 2**_MOMENTUM_BITS)

    def leapfrog(self, t: int, gradient_at: GradientAt) -> None:
        """Take the leaps of transition `t`; neighbouring halves of steps are taken at once."""
        h = self.steps(t)
        self._drift(0.5 * h)
        for share in self.shares():
            self._kick(h, gradient_at(self.values("position")))
            self._drift(share * h)

    def undo_leapfrog(self, t: int, gradient_at: GradientAt) -> None:
        """Undo each line of :meth:`leapfrog`, the last one first."""
        h = self.steps(t)
        for share in reversed(self.shares()):
            self._drift(-share * h)
            self._kick(-h, gradient_at(self.values("position")))
        self._drift(-0.5 * h)

    def shares(self) -> list[float]:
        """Return which share of a step the positions move after each kick."""
        return [1.0] * (self.leaps - 1) + [0.5]

    def steps(self, t: int) -> Vector:
        """Return the step size of every number at transition `t`."""
        return np.tile(self.step_size[t], self._chains)

    def scale_of_noise(self, t: int) -> float:
        """Return √(1 − γ²)."""
        return float(np.sqrt(1.0 - self.momentum[t] ** 2))

    def values(self, slot: str) -> Vector:
        """Return positions or velocities as real numbers, flat, freshly made."""
        return from_fixed(self.integers[slot], self.fraction_bits)

    def checksum(self) -> int:
        """Return a checksum of the state."""
        return checksum(*self.integers.values())

    def _drift(self, factors: Vector) -> None:
        self._add("position", self.integers["velocity"], factors)

    def _kick(self, steps: Vector, gradient: Vector) -> None:
        self._add("velocity", gradient, -steps * 2.0**self.fraction_bits)

    def _add_noise(self, t: int, sign: float) -> None:
        scale = sign * self.scale_of_noise(t) * 2.0**self.fraction_bits
        if scale:
            size = self.integers["velocity"].size
            self._add("velocity", noise(self._seed, t, size), scale)

    def _add(self, slot: str, values: NDArray, factors: float | Vector) -> None:
        try:
            add_scaled(self.integers[slot], values, factors)
        except RevlearnError as error:
            error.slot = slot
            raise
