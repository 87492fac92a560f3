r"""A moving average of the weights, for any optimizer.

.. math:: a_{t+1} = \beta_t\,a_t + (1 - \beta_t)\,w_{t+1}, \qquad a_0 = w_0

The average follows the weights and never acts on them. On the way back it is undone first, while
the weights after the step are still there.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on
Control and Optimization 30, 1992, average with equal weights; the exponential average is that of
Tarvainen and Valpola, "Mean teachers are better role models", NIPS 2017, among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fixed_point import add_scaled, from_fixed, to_fixed
from ..gradients import Vector
from ..parameters import Layout
from ..rounding_buffer import RoundingBuffer
from .base import Optimizer
from .buffers import Buffer, Rounding
from .exact_run import Adjoint, ExactRun
from .ratios import nearest_ratio, ratios
from .wrapped import Wrapped, WrappedRun

DECAY_BITS = 24
DECAY = "average_decay"


class Averaged(Wrapped):
    """Another optimizer, and an exponential moving average of its weights, which training returns.

    Parameters
    ----------
    optimizer : Optimizer
        The rule whose weights are averaged.
    decay : schedule
        β, how much of the average is kept, in (1/2, 1]. Rounded to the nearest n/2**24. Among the
        schedules its name is ``"average_decay"``.

    Notes
    -----
    The average starts at the initial weights. It decays through a
    :class:`~revlearn.rounding_buffer.RoundingBuffer`: 2(1 − β) bits a weight and step, and an error
    of half a unit. An :class:`~revlearn.InformationBuffer` would discard 0.72 of that, but it
    takes a whole word a weight from the start, which a decay of 0.999 fills in 44,000 steps, and
    with a denominator of 2**24 it would leave noise of 4e-9 at each step.
    :meth:`Tape.rewind <revlearn.Tape.rewind>` shows the weights that were trained.

    Examples
    --------
    >>> import revlearn as rl
    >>> optimizer = Averaged(rl.SGD(0.1, momentum=0.5), decay=0.75)
    >>> final = rl.train(lambda w, hyper, t: 0.5 * w**2, 1.0, None, optimizer, steps=1)
    >>> float(final)  # 0.75 · 1 + 0.25 · 0.95
    0.9875
    """

    def __init__(self, optimizer: Optimizer, decay: Any):
        super().__init__(optimizer)
        if "average" in self.slots:
            raise ValueError("the optimizer keeps an average already")
        self.slots = (*self.slots, "average")
        self.schedules[DECAY] = decay
        self.result = "average"

    def fraction_bits(self, slot: str, fraction_bits: int) -> int:
        """Return the bits after the binary point; see :class:`Optimizer`."""
        return super().fraction_bits("weights" if slot == "average" else slot, fraction_bits)

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactAveraged:
        """Round the initial state to integers; see :class:`Optimizer`."""
        run = self.optimizer.start(
            {slot: values for slot, values in state.items() if slot != "average"},
            {name: rows for name, rows in schedules.items() if name != DECAY},
            layout,
            fraction_bits,
        )
        decay = ratios(schedules[DECAY], DECAY_BITS, layout, name=DECAY, above=0.5)
        pieces = layout.slices if len(decay) > 1 else [slice(0, layout.size)]
        bits = self.fraction_bits("average", fraction_bits)
        buffers = [RoundingBuffer(piece.stop - piece.start, DECAY_BITS) for piece in pieces]
        return ExactAveraged(run, to_fixed(state["average"], bits), bits, decay, pieces, buffers)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's state after a step of the other optimizer, and the average."""
        decay = nearest_ratio(rates[DECAY], DECAY_BITS, DECAY, 0.5)
        stepped = super().float_step(state, gradient, rates)
        average = decay * state["average"] + (1.0 - decay) * stepped["weights"]
        return stepped | {"average": average}


class ExactAveraged(WrappedRun):
    """A run of the other optimizer, with the average as integers and a buffer for each piece."""

    def __init__(
        self,
        run: ExactRun,
        average: NDArray[np.int64],
        fraction_bits: int,
        decay: NDArray[np.float64],
        pieces: Sequence[slice],
        buffers: Sequence[Buffer],
    ):
        super().__init__(run)
        self.integers = run.integers | {"average": average}
        self._bits, self._decay = fraction_bits, decay
        self._pieces, self._buffers = pieces, buffers

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step, the average last; see :class:`ExactRun`."""
        super().step(t, gradient)
        for piece, buffer, decay in self._each(t):
            buffer.multiply(self.integers["average"][piece], round(decay * 2**DECAY_BITS))
            self._add_weights(piece, 1.0 - decay)

    def undo_weights(self, t: int) -> None:
        """Take the average back, then the weights; see :class:`ExactRun`."""
        for piece, buffer, decay in self._each(t):
            self._add_weights(piece, decay - 1.0)
            buffer.divide(self.integers["average"][piece], round(decay * 2**DECAY_BITS))
        super().undo_weights(t)

    def _each(self, t: int) -> zip:
        return zip(self._pieces, self._buffers, self._decay[:, t].tolist(), strict=True)

    def _add_weights(self, piece: slice, share: float) -> None:
        # Both have the same unit, and the sum lies between the two: it does not overflow.
        add_scaled(self.integers["average"][piece], self.integers["weights"][piece], share)

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over the average, then the rest; see :class:`ExactRun`."""
        d_average, d_weights = adjoint.slots["average"], adjoint.slots["weights"]
        # a_t − w_{t+1} = (a_{t+1} − w_{t+1}) / β
        difference = self.values("average") - self.values("weights")
        slopes = np.zeros(len(self._pieces))
        for i, (piece, _, decay) in enumerate(self._each(t)):
            slopes[i] = d_average[piece] @ difference[piece] / decay
            d_weights[piece] += (1.0 - decay) * d_average[piece]
            d_average[piece] *= decay
        adjoint.accumulate(DECAY, t, slopes)
        super().pull_back_weights(t, adjoint)

    def _around(self, run: ExactRun, buffers: Sequence[Buffer]) -> ExactAveraged:
        average = self.integers["average"].copy()
        return ExactAveraged(run, average, self._bits, self._decay, self._pieces, buffers)

    def copy(self) -> ExactAveraged:
        """Return an independent run in the same state."""
        return self._around(self._run.copy(), [buffer.copy() for buffer in self._buffers])

    def without_buffers(self) -> ExactAveraged:
        """Return an independent run that keeps nothing; see :class:`ExactRun`."""
        return self._around(self._run.without_buffers(), [Rounding(DECAY_BITS)] * len(self._pieces))

    def restore(self, integers: dict[str, NDArray[np.int64]]) -> None:
        """Set the whole state; see :class:`ExactRun`."""
        self.integers["average"][...] = integers["average"]
        super().restore({slot: of for slot, of in integers.items() if slot != "average"})

    def values(self, slot: str) -> Vector:
        """Return ``"weights"`` or a slot as real numbers, freshly made."""
        if slot == "average":
            return from_fixed(self.integers["average"], self._bits)
        return super().values(slot)

    @property
    def num_bits(self) -> int:
        """Bits of memory that the buffers occupy."""
        return super().num_bits + sum(buffer.num_bits for buffer in self._buffers)

    @property
    def information(self) -> float:
        """Bits of content in the buffers, by theory."""
        return super().information + sum(buffer.information for buffer in self._buffers)
