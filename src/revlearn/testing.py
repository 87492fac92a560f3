"""Checks for losses and objectives of your own.

A loss can be run backwards if it gives the same bits for the same arguments. An objective's
hypergradient is right if it predicts what small changes of the hyperparameters do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .gradients import Loss, Vector
from .objectives import flattened
from .optimizers import SGD, Optimizer
from .parameters import Nest
from .training import record

_ROUNDING = 2.0**-48  # of a value, and of what it depends on: some roundings of 2**-53 each


def check_reversible(
    loss: Loss,
    weights: Nest,
    hyper: Nest = None,
    optimizer: Optimizer | None = None,
    steps: int = 20,
    **options: Any,
) -> None:
    """Train, rewind, and raise unless every step came back bit for bit.

    Parameters
    ----------
    loss : callable
        Training loss, as for :func:`revlearn.train`.
    weights : nest
        Initial weights.
    hyper : nest or None
        What the loss depends on beside the weights.
    optimizer : Optimizer, optional
        By default SGD with learning rate 0.1 and momentum 0.9.
    steps : int
        Number of steps.
    **options : object
        Passed on to :func:`revlearn.record`.

    Raises
    ------
    ReversalError
        At the first step, counted from the end, whose gradient came out differently.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> check_reversible(lambda w, hyper, t: np.sum(np.cos(w)), np.arange(3.0))
    """
    optimizer = optimizer or SGD(learning_rate=0.1, momentum=0.9)
    for _ in record(loss, weights, hyper, optimizer, steps, **options).rewind():
        pass


def check_hypergradient(
    objective: Callable[[Nest], Any],
    hyper: Nest,
    *,
    directions: int = 3,
    step: float = 1e-2,
    rtol: float = 1e-2,
    seed: int = 0,
) -> None:
    r"""Raise unless a hypergradient agrees with finite differences along random directions.

    Along each direction d, drawn from the normal distribution and scaled to length √(number of
    hyperparameters), the slope ∇f · d is compared with the five-point difference

    .. math:: \frac{8\,[f(x+hd) - f(x-hd)] - [f(x+2hd) - f(x-2hd)]}{12\,h}

    whose error is of order h⁴. The default step is wide because momentum is rounded to a ratio:
    below 2**-17 a change of one momentum does nothing. Where that is coarse, near γ = 1 for
    example, make the ratio finer with ``SGD(..., momentum_bits=24)`` and the step smaller.

    Beside `rtol`, rounding is allowed for: with ε = 2⁻⁴⁸, the largest size F of the values and
    their range V, it is ε (3F / 2h + max(\|x\|, 2h) V / h²). At an optimum nothing else is left.

    Parameters
    ----------
    objective : callable
        ``objective(hyper)``, a scalar, differentiable by autograd. One in JAX or PyTorch is
        handed over as ``rl.gradients.jax(objective)`` or ``rl.gradients.torch(objective)``.
    hyper : nest
        Where to compare.
    directions : int
        Number of random directions.
    step : float
        h, in the units of the hyperparameters.
    rtol : float
        Largest accepted difference, relative to the larger of the two slopes.
    seed : int
        Seed of the directions.

    Raises
    ------
    AssertionError
        If slopes differ, or one is not finite; the message gives both.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import revlearn as rl
    >>> def objective(hyper):
    ...     optimizer = rl.SGD(np.exp(hyper["log_rate"]), rl.sigmoid(hyper["logit_momentum"]))
    ...     return rl.train(lambda w, h, t: np.cos(w), 1.0, None, optimizer, steps=5)
    >>> check_hypergradient(objective, {"log_rate": -1.0, "logit_momentum": 0.5})
    """
    flat, _, start = flattened(objective, hyper)
    value, gradient = flat.value_and_gradient(start)
    random = np.random.RandomState(seed)
    for i in range(directions):
        direction = random.randn(start.size)
        direction *= np.sqrt(start.size) / np.linalg.norm(direction)
        values = {k: flat.value(start + k * step * direction) for k in (-2, -1, 1, 2)}
        difference = 8 * (values[1] - values[-1]) - (values[2] - values[-2])
        expected, found = difference / (12 * step), float(gradient @ direction)
        allowed = rtol * max(abs(found), abs(expected))
        allowed += _rounding(np.array([value, *values.values()]), start, step)
        if not (np.isfinite(expected) and abs(found - expected) <= allowed):
            raise AssertionError(
                f"direction {i}: the hypergradient's slope is {found:.6g}, finite differences with "
                f"step {step:g} give {expected:.6g}. Check that the loss uses autograd.numpy "
                "throughout. If it does, try another step; with a smaller one give the optimizer "
                "momentum_bits=24, since momentum is rounded. Where training is chaotic, neither "
                "number means much"
            )


def _rounding(values: Vector, start: Vector, step: float) -> float:
    """Return by how much rounding may change a five-point difference, or a slope close by."""
    size = max(float(np.max(np.abs(start), initial=0.0)), 2.0 * step)
    of_values = 1.5 * float(np.max(np.abs(values))) / step
    # Numbers are rounded to their size, which moves a slope by that times the curvature.
    return _ROUNDING * (of_values + size * float(np.ptp(values)) / step**2)
