"""The loss of a recurrent network as one differentiable operation, and unrolled in floats."""

from __future__ import annotations

from math import isqrt
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import make_vjp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import isbox

from ..operation import Operation
from ..parameters import Nest, read_only
from .state import Cell, Setup, StepLoss
from .tape import RecurrentTape


def total_loss(cell: Cell, loss: StepLoss, weights: Nest, start: Any, steps: int) -> Any:
    """Run a recurrent network, and return its loss, differentiable, without storing its states.

    The run is one operation for autograd. Its derivative runs the network backwards, bit for bit,
    and on the way takes the pullbacks of the cell, twice a step, and of the loss.

    Parameters
    ----------
    cell : callable
        ``cell(weights, half, other, t)`` returns gate and addition of half 0 or 1 at step `t`,
        both shaped like the other half that it is given, written in ``autograd.numpy``. Gates lie
        in (0, 1] and are rounded by :func:`ratio`. It must give the same bits each time.
    loss : callable
        ``loss(weights, hidden, t)``, a scalar that depends on the hidden state after step `t`; 0.0
        at steps that do not count.
    weights : nest
        Any nesting of dicts, lists, tuples and arrays.
    start : ndarray, shape (…, units)
        Initial hidden state. The first and the last units / 2 of the last axis are its halves.
    steps : int
        Number of steps, 0 or more.

    Returns
    -------
    float
        Sum of the losses of all steps. Derivatives flow to `weights` and `start`.

    Raises
    ------
    ValueError
        If a gate lies outside (0, 1], or a shape does not fit.
    NonFiniteError
        If a gate, an addition or a loss is not finite; it names the step.
    FixedPointOverflowError
        If a number of the hidden state leaves ±128.
    ReversalError
        On the way back, if a cell does not give the same bits as on the way forth.

    Examples
    --------
    >>> from autograd import grad
    >>> x = np.array([1.0, 0.0, 0.0])
    >>> def cell(weights, half, other, t):
    ...     return 0.5 * np.ones(1), weights * other + x[t]
    >>> def loss(weights, hidden, t):
    ...     return anp.sum(hidden) if t == 2 else 0.0
    >>> total_loss(cell, loss, 0.25, np.zeros(2), 3)
    1.1806640625
    >>> float(grad(lambda w: total_loss(cell, loss, w, np.zeros(2), 3))(0.25))
    3.95703125
    """
    setup = Setup(cell, loss, weights, start, steps)
    operation = Operation(
        lambda *flat: RecurrentTape(setup, *flat),
        lambda tape: tape.loss,
        lambda tape, d_loss, wanted: tape.pull_back(d_loss, last=True),
        "revlearn.recurrent.unrolled_loss has them",
    )
    return operation(*setup.flatten(weights, start))


def record(cell: Cell, loss: StepLoss, weights: Nest, start: Any, steps: int) -> RecurrentTape:
    """Run a recurrent network, and return a tape that can be run backwards.

    Takes the arguments of :func:`total_loss`.

    Returns
    -------
    RecurrentTape
        The final state, and what it takes to return to the first.

    Raises
    ------
    TypeError
        If an argument is being differentiated: use :func:`total_loss` for that.

    Examples
    --------
    >>> def cell(weights, half, other, t):
    ...     return 0.9 * np.ones(other.shape), 0.1 * np.tanh(weights * other)
    >>> start = np.array([[0.5, -0.25, 1.0, 0.0]])
    >>> tape = record(cell, lambda weights, hidden, t: 0.0, 2.0, start, steps=100)
    >>> for t, hidden in tape.rewind():
    ...     pass
    >>> t, hidden
    (0, array([[ 0.5 , -0.25,  1.  ,  0.  ]]))
    """
    setup = Setup(cell, loss, weights, start, steps)
    arguments = setup.flatten(weights, start)
    if any(isbox(argument) for argument in arguments):
        raise TypeError("record keeps a run, it cannot be differentiated: call total_loss instead")
    return RecurrentTape(setup, *arguments)


def unrolled_loss(
    cell: Cell,
    loss: StepLoss,
    weights: Nest,
    start: Any,
    steps: int,
    *,
    checkpoints: bool = False,
) -> Any:
    """Run a recurrent network in floats: ordinary backpropagation through time, by autograd.

    Takes the arguments of :func:`total_loss` and returns the same, up to rounding. Every step is
    stored; with `checkpoints` only about √steps states are, and the steps between are taken again.

    Returns
    -------
    float
        Sum of the losses of all steps.

    Examples
    --------
    >>> def cell(weights, half, other, t):
    ...     return 0.5 * np.ones(1), weights * other + 1.0 * (t == 0)
    >>> def loss(weights, hidden, t):
    ...     return anp.sum(hidden) if t == 2 else 0.0
    >>> float(unrolled_loss(cell, loss, 0.25, np.zeros(2), 3))
    1.1806640625
    """
    setup = Setup(cell, loss, weights, start, steps)
    flat_weights, start = setup.flatten(weights, start)
    stretch = _taken_again if checkpoints else _unrolled
    length = isqrt(max(steps - 1, 0)) + 1 if checkpoints else max(steps, 1)
    state = anp.concatenate([start, np.zeros(1)])
    for begin in range(0, steps, length):
        state = stretch(flat_weights, state, setup, begin, min(begin + length, steps))
    return state[-1]


def _unrolled(weights: Any, state: Any, setup: Setup, begin: int, stop: int) -> Any:
    """Take some steps in floats; the state is one half after the other, and the loss so far."""
    nest, size = setup.weights.unflatten(read_only(weights)), setup.hidden.size
    halves = [setup.shaped(half) for half in anp.split(state[:size], 2)]
    total = state[size:]
    for t in range(begin, stop):
        for half in (0, 1):
            gate, addition = setup.cell(nest, half, halves[1 - half], t)
            halves[half] = gate * halves[half] + addition
        total = total + setup.loss(nest, halves, t)
    return anp.concatenate([*(anp.ravel(half) for half in halves), total])


@primitive
def _taken_again(weights: Any, state: Any, setup: Setup, begin: int, stop: int) -> Any:
    """Take some steps, and keep only the state before them."""
    return _unrolled(weights, state, setup, begin, stop)


def _vjp_of_a_stretch(argnums, ans, args, kwargs):
    weights, state, *rest = args

    def pull_back(cotangent):
        # Only now are the steps taken again. Autograd's checkpoint would do so on the way forth.
        both = anp.concatenate([weights, state])

        def of(both):
            return _unrolled(*anp.split(both, [weights.size]), *rest)

        parts = anp.split(make_vjp(of, both)[0](cotangent), [weights.size])
        return [parts[argnum] for argnum in argnums]

    return pull_back


defvjp_argnums(_taken_again, _vjp_of_a_stretch)
