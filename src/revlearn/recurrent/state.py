"""What is fixed about a run of a recurrent network, and its state as integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import autograd.numpy as anp
import numpy as np
from numpy.typing import NDArray

from ..checks import whole_number
from ..errors import FixedPointOverflowError, NonFiniteError, RevlearnError
from ..fixed_point import add_scaled, checksum, from_fixed, to_fixed
from ..gradients import Vector
from ..gradients.base import refuse_value
from ..information_buffer import InformationBuffer
from ..parameters import Layout, Nest, plain
from .cells import GATE_BITS, ratio

Cell = Callable[[Nest, int, Any, int], tuple[Any, Any]]
StepLoss = Callable[[Nest, Any, int], Any]

FRACTION_BITS = 56  # a range of ±128; each product adds noise below 2**-44


class Setup:
    """What is fixed about a run: cell, loss, number of steps, and where things lie.

    Made of the arguments of :func:`total_loss`.
    """

    def __init__(self, cell: Cell, loss: StepLoss, weights: Nest, start: Any, steps: int):
        self._cell, self._loss, self.steps = cell, loss, whole_number(steps, "steps", 0)
        self.weights, self.hidden = Layout(weights, "weights"), Layout(start, "hidden")
        self.shape = np.shape(plain(start))
        if not self.shape or self.shape[-1] % 2:
            raise ValueError(
                f"the initial hidden state has shape {self.shape}: its last axis must be of even "
                "length, for it holds both halves"
            )
        self.half_shape = (*self.shape[:-1], self.shape[-1] // 2)

    def flatten(self, weights: Nest, start: Any) -> tuple[Any, Any]:
        """Return flat weights, and the initial hidden state, one half after the other."""
        first, second = anp.split(self.hidden.flatten(start).reshape(self.shape), 2, axis=-1)
        halves = anp.concatenate([anp.ravel(first), anp.ravel(second)])
        return self.weights.flatten(weights), halves

    def shaped(self, half: Any) -> Any:
        """Return a flat half in its shape."""
        return half.reshape(self.half_shape)

    def join(self, halves: Any) -> Any:
        """Return the hidden state, shaped like the initial one, from both halves."""
        return anp.concatenate([self.shaped(half) for half in halves], axis=-1)

    def cell(self, weights: Nest, half: int, other: Any, t: int) -> tuple[Any, Any]:
        """Return the gates of a half step, as ratios, and what is added."""
        gate, addition = self._cell(weights, half, other, t)
        for name, array in (("gate", gate), ("addition", addition)):
            if np.shape(plain(array)) != self.half_shape:
                raise ValueError(
                    f"at step {t} the cell returned a {name} of shape {np.shape(plain(array))} "
                    f"for half {half}, expected {self.half_shape}"
                )
        values = plain(gate)
        if not (values.min(initial=1.0) > 0.0 and values.max(initial=1.0) <= 1.0):
            bad = int(np.argmin((values > 0.0) & (values <= 1.0)))
            message = f"the gate is {values.flat[bad]}; it must lie in (0, 1]"
            if np.isnan(values.flat[bad]):
                raise NonFiniteError(message).at(step=t, leaf=self.name_of(half, bad))
            raise ValueError(f"at step {t}, leaf {self.name_of(half, bad)}: {message}")
        return ratio(gate), addition

    def loss(self, weights: Nest, halves: Any, t: int) -> Any:
        """Return the loss of one step."""
        value = self._loss(weights, self.join(halves), t)
        refuse_value(plain(value), (np.ndarray,), t)
        return value

    def name_of(self, half: int, index: int) -> str:
        """Return the name of a number of a half, as one of the hidden state."""
        *rest, last = np.unravel_index(index, self.half_shape)
        place = (*rest, last + half * self.half_shape[-1])
        return self.hidden.name_of(int(np.ravel_multi_index(place, self.shape)))

    def located(
        self, error: RevlearnError, half: int, index: int, t: int | None = None
    ) -> RevlearnError:
        """Return an error that says where it happened."""
        if isinstance(error, FixedPointOverflowError):
            error.message += f" ±{2 ** (63 - FRACTION_BITS)}: let gates below 1 hold it back"
        return error.at(step=t, leaf=self.name_of(half, index))


class State:
    """Both halves as integers, and the buffers that make their decay reversible.

    Parameters
    ----------
    start : ndarray
        One half after the other.
    """

    def __init__(self, start: Vector):
        self.integers = to_fixed(start, FRACTION_BITS).reshape(2, -1)
        self.buffers = [InformationBuffer(half.size, GATE_BITS) for half in self.integers]

    def values(self, half: int) -> Vector:
        """Return a half as real numbers, freshly made."""
        return from_fixed(self.integers[half], FRACTION_BITS)

    def both(self) -> NDArray[np.float64]:
        """Return both halves, shape (2, numbers of a half)."""
        return from_fixed(self.integers, FRACTION_BITS)

    def step(self, half: int, gate: NDArray, addition: NDArray) -> None:
        """Decay a half, and add to it."""
        self.buffers[half].multiply(self.integers[half], _numerators(gate))
        add_scaled(self.integers[half], np.ravel(addition), 2.0**FRACTION_BITS)

    def unstep(self, half: int, gate: NDArray, addition: NDArray) -> None:
        """Undo :meth:`step`."""
        add_scaled(self.integers[half], np.ravel(addition), -(2.0**FRACTION_BITS))
        self.buffers[half].divide(self.integers[half], _numerators(gate))

    @property
    def checksum(self) -> int:
        """Checksum of both halves."""
        return checksum(self.integers.reshape(-1))

    def copy(self) -> Self:
        """Return an independent state."""
        other = type(self)(np.zeros(0))
        other.integers = self.integers.copy()
        other.buffers = [buffer.copy() for buffer in self.buffers]
        return other


def _numerators(gate: NDArray) -> NDArray[np.int64]:
    return (np.ravel(gate) * 2.0**GATE_BITS).astype(np.int64)
