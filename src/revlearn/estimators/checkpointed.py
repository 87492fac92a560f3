r"""Training with checkpoints: a few states are kept, the others are computed again.

With room for s states, any state among up to

.. math:: \beta(s, r) = \binom{s + r}{s}

steps can be had in order, latest first, such that no step is taken more than r times (Griewank and
Walther, "Algorithm 799: revolve", ACM Transactions on Mathematical Software, 2000). One state for
each step is full storage (r = 1). With r = 2 some :math:`\sqrt{2T}` states are enough, and with
:math:`\log_2 T` states r grows like :math:`\log_2 T`, too.

The state is the fixed-point one of :func:`revlearn.train`, but nothing that its products discard is
kept, so that they are rounded: results differ from those of exact reversal in the last bits.
"""

from __future__ import annotations

import operator
from functools import partial
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..checks import whole_number
from ..fixed_point import FRACTION_BITS
from ..gradients import Loss, Vector
from ..optimizers import Adjoint, ExactRun, Optimizer
from ..parameters import Nest
from ..progress import progress
from ..setup import Setup, forwards
from ..training import differentiable

Checkpoints = int | Literal["all", "sqrt", "log"]


def train(
    loss: Loss,
    weights: Nest,
    hyper: Nest,
    optimizer: Optimizer,
    steps: int,
    *,
    checkpoints: Checkpoints = "sqrt",
    velocity: Nest = None,
    square: Nest = None,
    fraction_bits: int = FRACTION_BITS,
    compute_dtype: Any = np.float64,
) -> Nest:
    """Train, and differentiate with the help of checkpoints.

    Takes the arguments of :func:`revlearn.train`, and `checkpoints`: how many states are kept at a
    time, the first one included and beside the one that is worked on. It is a number; or ``"all"``,
    as many as steps; or ``"sqrt"``, as few as take no step more than twice; or ``"log"``, the
    logarithm to base two of the steps, and one.

    Returns
    -------
    nest
        Final weights.

    Examples
    --------
    >>> from autograd import grad
    >>> import revlearn as rl
    >>> def objective(rate):
    ...     optimizer = rl.SGD(rate, momentum=0.5)
    ...     return train(lambda w, hyper, t: 0.5 * w**2, 1.0, None, optimizer, steps=1)
    >>> float(grad(objective)(0.1))
    -0.5
    """
    steps = whole_number(steps, "steps", 0)
    return differentiable(
        partial(Checkpointed, states=count(checkpoints, steps)),
        loss,
        weights,
        hyper,
        optimizer,
        steps,
        velocity=velocity,
        square=square,
        fraction_bits=fraction_bits,
        compute_dtype=compute_dtype,
    )


def count(checkpoints: Checkpoints, steps: int) -> int:
    """Return how many states are kept at a time.

    Raises
    ------
    ValueError
        If `checkpoints` is none of the three words, and no whole number from 1 on.

    Examples
    --------
    >>> [count(checkpoints, 1000) for checkpoints in ("all", "sqrt", "log", 7)]
    [1000, 44, 11, 7]
    """
    if isinstance(checkpoints, str) and checkpoints in ("all", "sqrt", "log"):
        steps = max(steps, 1)
        if checkpoints == "all":
            return steps
        if checkpoints == "log":
            return (steps - 1).bit_length() + 1
        return next(s for s in range(1, steps + 1) if comb(s + 2, s) >= steps)
    try:
        states = operator.index(checkpoints)  # type: ignore[arg-type]
    except TypeError:
        states = 0
    if states < 1:
        raise ValueError(
            "checkpoints must be 'all', 'sqrt', 'log' or a whole number from 1 on, not "
            f"{checkpoints!r}"
        )
    return states


def repetitions(steps: int, states: int) -> int:
    """Return r: how often the most repeated step is taken, training included.

    Examples
    --------
    >>> repetitions(1000, 1000), repetitions(1000, 44), repetitions(1000, 11)
    (1, 2, 4)
    """
    return next(r for r in range(1, steps + 2) if comb(states + r, states) >= steps)


def steps_taken(steps: int, states: int) -> int:
    """Return how many steps it takes to have every state of a run in order, latest first.

    Examples
    --------
    >>> steps_taken(1000, 1000), steps_taken(1000, 44), steps_taken(1000, 11)
    (999, 1954, 3545)
    """
    r = repetitions(steps, states)
    return r * steps - comb(states + r, states + 1)


def distance(steps: int, free: int) -> int:
    """Return after how many of the next steps to keep a state, if `free` more may be kept.

    With the state at the beginning there are s = free + 1. The steps left of the new state are then
    taken back with all of them, those right of it with one less.
    """
    s = free + 1
    r = repetitions(steps, s)
    return max(1, min(comb(s + r - 1, s), steps - comb(s + r - 2, s - 1)))


class Checkpointed:
    """A finished run of which some states are kept: what :class:`Tape` is for exact reversal.

    Parameters
    ----------
    setup : Setup
        What is fixed about the run.
    *arguments : ndarray
        Its flat arrays.
    states : int
        How many states are kept at a time.
    """

    def __init__(self, setup: Setup, *arguments: NDArray, states: int):
        run, self._hyper, self._schedule_shapes = setup.start(*arguments)
        self._setup, self._states = setup, states
        self._run = run.without_buffers()
        self._kept: list[tuple[int, dict[str, NDArray[np.int64]]]] = []
        following: int | None = 0
        for t, _ in forwards(setup, self._run, self._hyper):
            if t in (following, setup.steps - 1):  # the last is the first to be taken back
                following = self._keep(t, setup.steps)
        self.final_weights = self._run.values(setup.optimizer.result)

    def pull_back(
        self, d_weights: Vector, *, wrt_hyper: bool = True, last: bool = False
    ) -> Adjoint:
        """Carry a derivative with respect to the final weights back; see :class:`Tape`."""
        setup = self._setup
        num_hyper = self._hyper.size if wrt_hyper else 0
        adjoint = setup.adjoint(d_weights, num_hyper, self._schedule_shapes)
        from_training = [] if last else list(self._kept)
        for t in progress(range(setup.steps)[::-1], setup.steps, "backwards"):
            self._pull_back_step(t, adjoint, wrt_hyper)
            setup.refuse_step(adjoint, t)
        setup.refuse_end(adjoint)
        self._kept = from_training  # for another derivative of the same run
        return adjoint

    def _pull_back_step(self, t: int, adjoint: Adjoint, wrt_hyper: bool) -> None:
        """Carry the adjoint back over one step."""
        # A function of its own, so that what a gradient keeps goes before the next one is taken.
        self._return_to(t)
        run = self._run
        before = _copies(run)
        gradient, pull_back_gradient = self._setup.gradients.gradient_and_pullback(
            run.values("weights"), self._hyper, t, wrt_hyper=wrt_hyper
        )
        run.step(t, gradient)
        run.pull_back_weights(t, adjoint)
        run.restore(before)
        del before  # the products need its room
        cotangent = run.pull_back_slots(t, gradient, adjoint, run.cotangent(t, adjoint))
        adjoint.add(*pull_back_gradient(cotangent))

    def _return_to(self, t: int) -> None:
        """Bring the run to the state before step `t`, keeping states on the way."""
        while self._kept[-1][0] > t:
            self._kept.pop()
        here, integers = self._kept[-1]
        self._run.restore(integers)
        following = self._following(t + 1)
        for i in range(here, t):
            if i == following:
                following = self._keep(i, t + 1)
            weights = self._run.values("weights")
            self._run.step(i, self._setup.gradients.gradient(weights, self._hyper, i))
        if t == following:
            self._keep(t, t + 1)

    def _keep(self, t: int, stop: int) -> int | None:
        """Keep the state before step `t`; return at which step to keep the next."""
        self._kept.append((t, _copies(self._run)))
        return self._following(stop)

    def _following(self, stop: int) -> int | None:
        here, free = self._kept[-1][0], self._states - len(self._kept)
        return here + distance(stop - here, free) if free > 0 and stop - here > 1 else None


def _copies(run: ExactRun) -> dict[str, NDArray[np.int64]]:
    return {slot: numbers.copy() for slot, numbers in run.integers.items()}
