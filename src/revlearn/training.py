"""Training as one differentiable operation, and training kept for a look backwards."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from autograd.tracer import isbox
from numpy.typing import NDArray

from .fixed_point import FRACTION_BITS
from .gradients import FrameworkLoss, Loss, Vector
from .gradients.bridge import as_numpy, train_across
from .operation import Operation
from .optimizers import Adjoint, Optimizer
from .parameters import Layout, Nest
from .setup import Callback, Setup
from .tape import Tape, record_run


def train(
    loss: Loss,
    weights: Nest,
    hyper: Nest,
    optimizer: Optimizer,
    steps: int,
    *,
    velocity: Nest = None,
    square: Nest = None,
    fraction_bits: int = FRACTION_BITS,
    callback: Callback | None = None,
    spill_to: str | os.PathLike[str] | None = None,
    compute_dtype: Any = np.float64,
) -> Nest:
    r"""Train, and return the final weights, differentiable with respect to everything.

    Training is one operation for autograd. Its derivative runs training backwards, bit for bit,
    and on the way takes one gradient with its pullback per step.

    Parameters
    ----------
    loss : callable
        Training loss ``loss(weights, hyper, t)``, a scalar written in ``autograd.numpy``; `t`
        is the step and picks the minibatch. It must give the same bits each time it is called
        with the same arguments. Or a loss written in another framework, wrapped by
        :func:`revlearn.gradients.jax` or :func:`revlearn.gradients.torch`.
    weights : nest
        Initial weights: any nesting of dicts, lists, tuples and arrays.
    hyper : nest or None
        What the loss depends on beside the weights: penalties, training images, … Integers,
        booleans and random keys (labels, masks) are handed on as they are, without a derivative.
    optimizer : Optimizer
        Update rule with its schedules, for example :class:`revlearn.SGD`.
    steps : int
        Number of steps, 0 or more.
    velocity : nest, optional
        Initial velocity, nested like the weights. Zero by default.
    square : nest, optional
        Initial mean square of the gradients, for optimizers that keep one. Zero by default.
    fraction_bits : int, optional
        Weights and velocities are 64-bit fixed-point numbers with this many bits after the
        point. The default 52 gives a range of ±2048 and a resolution of 2.2e-16.
    callback : callable, optional
        ``callback(t, weights, velocity, gradient)`` is called before each step's update, with
        the state before it and the gradient there, in numpy.
    spill_to : path, optional
        Existing folder. Information buffers put all but one word per weight into a temporary file
        there, so that a run may be longer than memory allows.
    compute_dtype : dtype, optional
        ``numpy.float32`` computes the loss, its gradients and their pullbacks in single precision,
        which is faster. State, update and reversal are as exact as before. On digits, with 16,000
        weights, hypergradients differ from those in float64 by 4e-8 of their length after 10
        steps, 3e-7 after 100 and 3e-6 after 1000, and by more near chaos. Data that the loss
        closes over must be float32, too, or numpy promotes everything to float64 (and PyTorch
        refuses).

    Returns
    -------
    nest
        Final weights, or their average with :class:`revlearn.Averaged`, numpy's. Where an argument
        holds arrays of the framework of the loss, they are the framework's, with the types of the
        initial weights.

    Raises
    ------
    ValueError
        If a schedule or an initial velocity does not fit the weights or the number of steps.
    NonFiniteError
        If an initial value or a gradient is not finite; on the way back, if a hypergradient is not.
        It names the step at which that arose.
    FixedPointOverflowError
        If a weight or a velocity leaves the fixed-point range.
    ReversalError
        On the way back, if a gradient is not the same bits as on the way forth.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through
    Reversible Learning", ICML 2015.

    Examples
    --------
    The derivative of the final weight with respect to the learning rate of each of three steps:

    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> import revlearn as rl
    >>> def loss(w, hyper, t):
    ...     return 0.5 * hyper * w**2
    >>> def objective(rates):
    ...     return rl.train(loss, 1.0, 2.0, rl.SGD(rates, momentum=0.5), steps=3)
    >>> np.round(grad(objective)(np.array([0.1, 0.2, 0.3])), 6)
    array([-0.41, -0.98, -1.32])
    """
    return differentiable(
        record_run,
        loss,
        weights,
        hyper,
        optimizer,
        steps,
        velocity=velocity,
        square=square,
        fraction_bits=fraction_bits,
        callback=callback,
        spill_to=spill_to,
        compute_dtype=compute_dtype,
    )


def record(
    loss: Loss,
    weights: Nest,
    hyper: Nest,
    optimizer: Optimizer,
    steps: int,
    *,
    velocity: Nest = None,
    square: Nest = None,
    fraction_bits: int = FRACTION_BITS,
    callback: Callback | None = None,
    spill_to: str | os.PathLike[str] | None = None,
    compute_dtype: Any = np.float64,
) -> Tape:
    """Train, and return a tape that can be run backwards. Arguments as for :func:`train`.

    Returns
    -------
    Tape
        The final state, and what it takes to return to the first.

    Raises
    ------
    TypeError
        If an argument is being differentiated: use :func:`train` for that.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import revlearn as rl
    >>> def loss(w, hyper, t):
    ...     return np.sum(w["a"] ** 2) + np.cos(w["b"])
    >>> start = {"a": np.array([1.0, 2.0]), "b": np.array(0.5)}
    >>> tape = rl.record(loss, start, None, rl.SGD(learning_rate=0.1, momentum=0.9), steps=100)
    >>> for t, weights, velocity in tape.rewind():
    ...     pass
    >>> t, bool(np.all(weights["a"] == start["a"])), float(velocity["b"])
    (0, True, 0.0)
    """
    nests = _nests(weights, hyper, optimizer, velocity, square)
    if isinstance(loss, FrameworkLoss):
        nests = as_numpy(loss, nests)
    setup, arguments = _prepare(
        loss,
        nests,
        optimizer,
        steps,
        fraction_bits=fraction_bits,
        callback=callback,
        spill_to=spill_to,
        compute_dtype=compute_dtype,
    )
    if any(isbox(argument) for argument in arguments):
        raise TypeError("record keeps a run, it cannot be differentiated: call train instead")
    return record_run(setup, *arguments)


class FinishedRun(Protocol):
    """What one way of training leaves, so that a derivative can be carried back through it."""

    @property
    def final_weights(self) -> Vector:
        """Final weights as one flat vector."""
        ...

    def pull_back(self, d_weights: Vector, *, wrt_hyper: bool, last: bool) -> Adjoint:
        """Carry a derivative with respect to the final weights back; see :class:`Tape`."""
        ...


def differentiable(
    way: Callable[..., FinishedRun],
    loss: Loss,
    weights: Nest,
    hyper: Nest,
    optimizer: Optimizer,
    steps: int,
    *,
    velocity: Nest = None,
    square: Nest = None,
    **options: Any,
) -> Nest:
    """Train in one of the ways that there are, as one operation for autograd.

    Takes the arguments of :func:`train`, after `way`: a callable from a setup and flat arrays to a
    finished run. Loss and arrays may be those of another framework.

    Returns
    -------
    nest
        Final weights.
    """
    given = _nests(weights, hyper, optimizer, velocity, square)

    def final_weights(nests: dict[str, Nest]) -> Any:
        setup, arguments = _prepare(loss, nests, optimizer, steps, **options)
        place_of_hyper = len(setup.slots)

        def pull_back(
            finished: FinishedRun, d_weights: Vector, wanted: Sequence[int]
        ) -> list[NDArray]:
            wrt_hyper = place_of_hyper in wanted
            adjoint = finished.pull_back(d_weights, wrt_hyper=wrt_hyper, last=True)
            slots = [adjoint.slots[slot] for slot in setup.slots]
            return [*slots, adjoint.hyper, *adjoint.schedules.values()]

        operation = Operation(
            lambda *flat: way(setup, *flat),
            lambda finished: finished.final_weights,
            pull_back,
            "revlearn.estimators.unrolled.train has them",
        )
        return operation(*arguments)

    if isinstance(loss, FrameworkLoss):
        return train_across(loss, final_weights, given)
    return Layout(weights, "weights").unflatten(final_weights(given))


def _nests(
    weights: Nest, hyper: Nest, optimizer: Optimizer, velocity: Nest, square: Nest
) -> dict[str, Nest]:
    """Return every nest that hypergradients flow to."""
    return {
        "weights": weights,
        "hyper": hyper,
        "schedules": getattr(optimizer, "schedules", None),
        "velocity": velocity,
        "square": square,
    }


def _prepare(
    loss: Loss, nests: dict[str, Nest], optimizer: Optimizer, steps: int, **options: Any
) -> tuple[Setup, list[Any]]:
    """Return the setup of a run, and its flat arguments, from the nests of `_nests`."""
    if isinstance(optimizer, Optimizer):  # or else Setup refuses it
        optimizer = copy.copy(optimizer)
        optimizer.schedules = nests["schedules"]
    setup = Setup(loss, nests["weights"], nests["hyper"], optimizer, steps, **options)
    start = {slot: nests[slot] for slot in ("velocity", "square")}
    return setup, setup.flatten(nests["weights"], nests["hyper"], **start)
