"""Which exact way to a hypergradient fits into a given memory, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import training
from ..checks import whole_number
from .checkpointed import steps_taken
from .checkpointed import train as train_checkpointed

# A gradient with its pullback, in gradients: 1.7 with PyTorch, 1.8 with JAX, 2.4 with autograd,
# measured on a perceptron of four layers.
_PULLBACK = 2.4
_STATE = 16  # bytes a weight: a fixed-point weight and velocity
_WORD, _SPILL = 8, 4  # bytes a weight: the word of an information buffer, what it spills
_FIRST_SPILL = 48  # bits a weight at which it does
_DENOMINATOR = 2.0**16  # of the ratio that momentum is rounded to


@dataclass(frozen=True)
class Choice:
    """A way to take a hypergradient.

    Attributes
    ----------
    checkpoints : int or None
        States to be kept; None for exact reversal.
    memory : int
        Bytes beyond the state and its adjoint, which every way needs. Buffers spill at a bound, so
        that those of reversal may hold 4 bytes a weight more or less at times.
    gradients : float
        Cost, in training gradients for each step. Training alone costs 1.
    """

    checkpoints: int | None
    memory: int
    gradients: float

    @property
    def train(self) -> Callable[..., Any]:
        """The function to train with: :func:`revlearn.train`, or its counterpart."""
        if self.checkpoints is None:
            return training.train
        return partial(train_checkpointed, checkpoints=self.checkpoints)


def choose(num_parameters: int, steps: int, momentum: ArrayLike, memory: float) -> Choice:
    r"""Return the exact way that takes the least time in a given memory.

    Exact reversal needs 8 bytes a weight and, from 316 steps at momentum 0.9 on, 4 for every 32
    bits that :math:`\sum_t \log_2(1/\gamma_t)` grows by; checkpointing 16 for each state that it
    keeps. Of two ways that take the same time it is the one of less memory.

    Parameters
    ----------
    num_parameters : int
        Number of weights, P.
    steps : int
        Number of steps, T.
    momentum : float, or ndarray of shape (steps,)
        γ, in (0, 1]; rounded as :class:`revlearn.SGD` rounds it, which below 2**-16 is up.
    memory : float
        Bytes to be had for what grows with the method; infinite if there is no limit.

    Returns
    -------
    Choice
        Way, memory, and time.

    Raises
    ------
    ValueError
        If not even one state fits, or an argument makes no sense.

    Examples
    --------
    A million weights, ten thousand steps, momentum 0.9:

    >>> choose(10**6, 10**4, 0.9, memory=1e9)
    Choice(checkpoints=None, memory=196000000, gradients=3.4)
    >>> choose(10**6, 10**4, 0.9, memory=1e8)
    Choice(checkpoints=6, memory=96000000, gradients=11.46)
    """
    num_parameters = whole_number(num_parameters, "num_parameters", 1)
    steps = whole_number(steps, "steps", 1)
    if np.isnan(memory):
        raise ValueError("memory must be a number of bytes, not nan; infinity is no limit")
    factors = np.broadcast_to(np.asarray(momentum, dtype=np.float64), (steps,))
    if not ((factors > 0.0) & (factors <= 1.0)).all():
        raise ValueError("momentum must lie in (0, 1]")
    # Between the two largest ratios a momentum needs more bits, and is not far from exact.
    rounded = np.maximum(np.rint(factors * _DENOMINATOR), 1.0) / _DENOMINATOR
    bits = -float(np.log2(np.where(rounded < 1.0, rounded, factors)).sum())
    spills = math.ceil(max(0.0, bits - _FIRST_SPILL) / (8 * _SPILL))
    reversal = Choice(None, num_parameters * (_WORD + _SPILL * spills), 1.0 + _PULLBACK)
    ways = [reversal]
    each = _STATE * num_parameters
    states = int(min(max(memory, 0), each * steps) // each)
    if states:
        taken = (steps_taken(steps, states) + 1) / steps
        ways.append(Choice(states, each * states, round(taken + _PULLBACK, 2)))
    ways = [way for way in ways if way.memory <= memory]
    if not ways:
        raise ValueError(
            f"{memory:.3g} bytes hold no state of {num_parameters} weights: give at least "
            f"{min(each, reversal.memory)}, or let exact reversal spill to "
            "disk (spill_to=)"
        )
    return min(ways, key=lambda way: (way.gradients, way.memory))
