"""Chains as one differentiable operation, and chains kept for a look backwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd.tracer import isbox
from numpy.typing import NDArray

from ..checks import whole_number
from ..errors import NonFiniteError
from ..fixed_point import FRACTION_BITS
from ..gradients import AutogradGradients, Vector
from ..operation import Operation
from ..parameters import Layout, Nest, plain
from ..schedules import real_numbers
from .dynamics import noise
from .recording import Recording, Setup, Term

Potential = Callable[[Any, Nest, int], Any]
_MOMENTUM = 4  # its place among the flat arguments


class Outcome(NamedTuple):
    """What :func:`run` returns; gradients flow from each of the three.

    Attributes
    ----------
    position, velocity : ndarray, shape (chains, dimensions)
        The final state.
    total : ndarray
        The sum of the term over all transitions, of the shape that the term has.
    """

    position: Any
    velocity: Any
    total: Any


def run(
    potential: Potential,
    position: Any,
    hyper: Nest,
    step_size: Any,
    momentum: Any,
    transitions: int,
    *,
    seed: int,
    leaps: int = 1,
    velocity: Any = None,
    term: Term | None = None,
    fraction_bits: int = FRACTION_BITS,
) -> Outcome:
    r"""Run Markov chains, and return where they end and a sum along the way, differentiable.

    All transitions are one operation for autograd. Its derivative runs the chains backwards, bit
    for bit, and keeps the leaps of one transition at a time.

    Parameters
    ----------
    potential : callable
        ``potential(position, hyper, t)``, written in ``autograd.numpy``: minus the logarithm of
        the density of each chain, shape (chains,), or their sum. `t` is the transition. It must
        give the same bits each time it is called with the same arguments, and no chain may
        influence another.
    position : array, shape (chains, dimensions)
        Where the chains start.
    hyper : nest or None
        What potential and term depend on beside the state.
    step_size : scalar, or array that broadcasts to (transitions, dimensions)
        h, any finite number. One for each coordinate is a diagonal mass matrix,
        :math:`M_{ii} = h^2 / h_i^2`.
    momentum : scalar, or array of shape (transitions,)
        γ, the share of the velocity that survives a refreshment, in (0, 1], rounded to the nearest
        ratio n / 2**16. With a friction c it is exp(−c h). At 1 there is no refreshment, and the
        derivative with respect to it does not exist: it is refused.
    transitions : int
        Number of transitions, 0 or more.
    seed : int
        Seed of all noise, from 0 to 2**32 − 1.
    leaps : int, optional
        Steps of the leapfrog in each transition.
    velocity : array, shape (chains, dimensions), optional
        By default drawn from the standard normal distribution.
    term : callable, optional
        ``term(before, after, hyper, t)`` is summed over the transitions. Both are a :class:`State`:
        after the refreshment, and after the leaps. It returns a number or an array, for example
        one number for each chain.
    fraction_bits : int, optional
        Bits after the point; 52 give positions and velocities a range of ±2048.

    Returns
    -------
    Outcome
        Final positions and velocities, and the total.

    Raises
    ------
    ValueError
        If shapes do not fit, or a momentum lies outside (0, 1].
    NonFiniteError
        If a start, a gradient or a term is not finite; on the way back, if a derivative is not.
    FixedPointOverflowError
        If a position or a velocity leaves the range.
    ReversalError
        On the way back, if a gradient is not the same bits as on the way forth.

    References
    ----------
    A. M. Horowitz, "A generalized guided Monte Carlo algorithm", Physics Letters B 268, 1991.
    R. M. Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, 2011.

    Examples
    --------
    How far the squared jumps, summed along a thousand transitions, depend on the step size:

    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> def potential(x, hyper, t):
    ...     return 0.5 * np.sum(x**2, axis=1)
    >>> def jumps(before, after, hyper, t):
    ...     return np.sum((after.position - before.position) ** 2)
    >>> def objective(step):
    ...     x = np.zeros((2, 3))
    ...     return run(potential, x, None, step, 0.9, 1000, seed=0, term=jumps).total
    >>> round(float(grad(objective)(0.5)))
    4417
    """
    setup, arguments = _prepare(
        potential,
        position,
        hyper,
        step_size,
        momentum,
        transitions,
        seed=seed,
        leaps=leaps,
        velocity=velocity,
        term=term,
        fraction_bits=fraction_bits,
    )
    operation = Operation(
        lambda *flat: Recording(setup, *flat), _flat_outcome, _pull_back, "unroll the chains"
    )
    flat, size = operation(*arguments), setup.shape[0] * setup.shape[1]
    (recording,) = operation.finished
    return Outcome(
        anp.reshape(flat[:size], setup.shape),
        anp.reshape(flat[size : 2 * size], setup.shape),
        anp.reshape(flat[2 * size :], np.shape(recording.total)),
    )


def record(
    potential: Potential,
    position: Any,
    hyper: Nest,
    step_size: Any,
    momentum: Any,
    transitions: int,
    **options: Any,
) -> Recording:
    """Run Markov chains, and return a recording that can be run backwards.

    Parameters
    ----------
    potential, position, hyper, step_size, momentum, transitions, **options : object
        As for :func:`run`.

    Returns
    -------
    Recording
        The final state, and what it takes to return to the first.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> start = np.ones((4, 2))
    >>> recording = record(lambda x, hyper, t: np.sum(x**4), start, None, 0.1, 0.9, 200, seed=0)
    >>> for t, state in recording.rewind():
    ...     pass
    >>> t, bool(np.all(state.position == start))
    (0, True)
    """
    setup, arguments = _prepare(
        potential, position, hyper, step_size, momentum, transitions, **options
    )
    if any(isbox(argument) for argument in arguments):
        raise TypeError("record keeps chains, it cannot be differentiated: call run instead")
    return Recording(setup, *arguments)


def _prepare(
    potential: Potential,
    position: Any,
    hyper: Nest,
    step_size: Any,
    momentum: Any,
    transitions: int,
    *,
    seed: int,
    leaps: int = 1,
    velocity: Any = None,
    term: Term | None = None,
    fraction_bits: int = FRACTION_BITS,
) -> tuple[Setup, list[Any]]:
    """Return what is fixed, and the flat arguments that derivatives flow to."""
    shape = np.shape(plain(position))
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"position has shape {shape}; it must be (chains, dimensions)")
    transitions = whole_number(transitions, "transitions", 0)
    leaps, seed = whole_number(leaps, "leaps", 1), whole_number(seed, "seed", 0, 2**32 - 1)
    fraction_bits = whole_number(fraction_bits, "fraction_bits", 1, 62)
    place, layout = Layout(position, "position"), Layout(hyper, "hyper", only_floats=True)

    def energy(position: Any, hyper: Nest, t: int) -> Any:
        return anp.sum(potential(position, hyper, t))

    gradients = AutogradGradients(energy, place, layout)
    setup = Setup(shape, layout, gradients, term, transitions, leaps, seed, fraction_bits)
    if velocity is None:
        velocity = noise(seed, -1, place.size).reshape(shape)
    return setup, [
        place.flatten(position),
        place.flatten(velocity, "velocity"),
        layout.flatten(hyper),
        _spread(step_size, "step_size", (transitions, shape[1])),
        _spread(momentum, "momentum", (transitions,)),
    ]


def _spread(schedule: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Return a schedule broadcast to its full shape, checked."""
    numbers = real_numbers(schedule, name)
    try:
        fits = np.broadcast_shapes(numbers.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {numbers.shape}, which does not broadcast to {shape}")
    return schedule * np.ones(shape)


def _flat_outcome(recording: Recording) -> Vector:
    return np.concatenate([np.ravel(part) for part in (*recording.state, recording.total)])


def _pull_back(recording: Recording, derivative: Vector, wanted: Sequence[int]) -> list[NDArray]:
    size = recording.state.position.size
    d_total = derivative[2 * size :].reshape(np.shape(recording.total))
    adjoint = recording.pull_back(
        derivative[:size], derivative[size : 2 * size], d_total, last=True
    )
    parts = [*adjoint.slots.values(), adjoint.hyper, *adjoint.schedules.values()]
    if _MOMENTUM in wanted and not np.isfinite(parts[_MOMENTUM]).all():
        raise NonFiniteError(
            "the momentum has no derivative at 1, where nothing is refreshed: give it as a "
            "constant, or choose at most 1 − 2**-16"
        ).at(step=int(np.flatnonzero(~np.isfinite(parts[_MOMENTUM]))[-1]))
    return parts
