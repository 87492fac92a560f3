"""Learning rates and momenta over time, shared by all leaves or one for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
from autograd.tracer import isbox
from numpy.typing import NDArray

from .parameters import Layout, named_leaves, plain

if TYPE_CHECKING:
    from .optimizers.base import Optimizer


def expand(schedule: Any, name: str, layout: Layout, steps: int) -> Any:
    """Return a schedule as an array of one row for all leaves, or one row for each.

    Parameters
    ----------
    schedule : scalar, array of shape (steps,), or nest shaped like the weights
        The leaves of a nest are scalars or arrays of shape (steps,).
    name : str
        Name in errors, for example ``"learning_rate"``.
    layout : Layout
        Layout of the weights.
    steps : int
        Number of training steps.

    Returns
    -------
    ndarray of float64, shape (1, steps) or (number of leaves, steps)
        A box of autograd where the schedule holds one.

    Raises
    ------
    ValueError
        If a schedule is not of length `steps`, a nest has other leaves than the weights,
        or a value is not finite.
    """
    if not isinstance(plain(schedule), (dict, list, tuple)):
        return _row(schedule, name, steps)
    rows = dict(named_leaves(schedule, name))
    expected = [layout.name_as(name, i) for i in range(len(layout.names))]
    if set(rows) != set(expected):
        raise ValueError(
            f"{name} is a nest with the leaves {list(rows)}, but the weights ask for {expected}. "
            "A schedule of one value per step must be an array: wrap it in numpy.array"
        )
    # Not stack, of which autograd keeps a copy of every row.
    return anp.concatenate([_row(rows[leaf], leaf, steps) for leaf in expected])


def expand_all(optimizer: Optimizer, layout: Layout, steps: int) -> dict[str, Any]:
    """Return every schedule of an optimizer, expanded, and those that it derives from them."""
    given = {
        name: expand(schedule, name, layout, steps)
        for name, schedule in optimizer.schedules.items()
    }
    return given | optimizer.derived(given)


def real_numbers(values: Any, name: str) -> NDArray:
    """Return the numbers of a schedule, without the boxes of autograd.

    Raises
    ------
    TypeError
        If it is a function of the step, or holds anything but real numbers.
    ValueError
        If a number is not finite.
    """
    if callable(values):
        raise TypeError(
            f"{name} is a function; a schedule is a number, or an array of one number per step: "
            "numpy.array([f(t) for t in range(steps)])"
        )
    numbers = np.asarray(plain(values))
    if numbers.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, not {values!r}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds {numbers[~np.isfinite(numbers)][0]}, not a finite number")
    return numbers


def _row(values: Any, name: str, steps: int) -> Any:
    numbers = real_numbers(values, name)
    if numbers.shape not in ((), (steps,)):
        raise ValueError(
            f"{name} has shape {numbers.shape}; it must be a scalar or have shape ({steps},), "
            "one value per step"
        )
    # A copy: the caller may change the array before the run is undone. Not so while autograd
    # follows it.
    row = values if isbox(values) else numbers.astype(np.float64)
    whole = numbers.shape and numbers.dtype == np.float64
    return anp.reshape(row if whole else row * np.ones(steps), (1, steps))


def sigmoid(x: Any) -> Any:
    """Map real numbers to (0, 1), elementwise: 1 / (1 + exp(−x)).

    Examples
    --------
    >>> float(sigmoid(0.0))
    0.5
    """
    return 0.5 * (anp.tanh(0.5 * x) + 1.0)


def logit(p: Any) -> Any:
    """Map (0, 1) to real numbers, elementwise: log(p / (1 − p)), the inverse of sigmoid.

    Examples
    --------
    >>> round(float(logit(0.9)), 4)
    2.1972
    """
    return anp.log(p) - anp.log1p(-p)
