"""Checks of numbers, written once."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import NonFiniteError

Name = str | Callable[[int], str]


def whole_number(value: Any, name: str, least: int, most: int | None = None) -> int:
    """Return a whole number as an ``int``; numpy's integers are welcome.

    Parameters
    ----------
    value : int
        What a caller gave.
    name : str
        What the caller calls it.
    least : int
        The smallest that it may be.
    most : int, optional
        The largest.

    Raises
    ------
    TypeError
        If it is no integer: a float, even 5.0.
    ValueError
        If it is smaller, or larger.

    Examples
    --------
    >>> whole_number(np.int64(5), "steps", 0)
    5
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, not {value!r}: write int(…), or // for /, around what "
            "made it"
        ) from None
    if number < least or (most is not None and number > most):
        allowed = f"be {least} or more" if most is None else f"lie in {least}..{most}"
        raise ValueError(f"{name} must {allowed}, not {number}")
    return number


def first_not_finite(values: NDArray) -> int | None:
    """Return the position, in the flat array, of the first NaN or infinity; None without any.

    Examples
    --------
    >>> first_not_finite(np.array([1.0, np.inf, np.nan])), first_not_finite(np.ones(3))
    (1, None)
    """
    # A sum is faster than a look at each number. It is not finite if one of them is not; it may
    # also have overflowed.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return None
    finite = np.isfinite(values)
    return None if finite.all() else int(np.argmin(finite))


def refuse_derivatives(values: NDArray, t: int, name: Name) -> None:
    """Raise unless derivatives that came back over step `t` are finite.

    Parameters
    ----------
    values : ndarray
        The derivatives.
    t : int
        The step.
    name : str or callable
        Of what is differentiated; or from a position in the flat array to the name of the number.

    Raises
    ------
    NonFiniteError
        If one is not; it names the step and the first of them.
    """
    bad = first_not_finite(values)
    if bad is not None:
        raise NonFiniteError(
            f"the derivative is {values.flat[bad]}. Either there is none here (a root, a norm or a "
            "logarithm at 0, in the loss or in its gradient), or the run is chaotic and "
            "derivatives outgrew all floats: then try a smaller learning rate or step size, or "
            "fewer steps"
        ).at(step=t, leaf=name if isinstance(name, str) else name(bad))


def refuse_outer_derivative(values: NDArray, name: Name) -> None:
    """Raise unless the derivative that is to be carried back through a run is finite.

    Parameters
    ----------
    values : ndarray
        Derivative of the objective with respect to what the run returned.
    name : str or callable
        As for :func:`refuse_derivatives`.

    Raises
    ------
    NonFiniteError
        If it is not; it names the first number.
    """
    bad = first_not_finite(values)
    if bad is not None:
        raise NonFiniteError(
            f"the derivative with respect to what the run returned is {values.flat[bad]}, before "
            "the way back began: the objective is not finite there, or not differentiable"
        ).at(leaf=name if isinstance(name, str) else name(bad))


def length(vector: NDArray) -> float:
    """Return the Euclidean norm of a vector of any scale: squares neither overflow nor vanish.

    Examples
    --------
    >>> length(np.array([3.0, 4.0])), round(length(np.array([3e200, 4e200])) / 1e200, 9)
    (5.0, 5.0)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = float(vector @ vector)
    if 1e-280 < square < 1e280:
        return float(np.sqrt(square))
    largest = float(np.max(np.abs(vector), initial=0.0))
    if not 0.0 < largest < np.inf:
        return largest
    return largest * float(np.linalg.norm(vector / largest))


def differ_by_rounding(one: NDArray, other: NDArray, tolerance: float, least: float = 0.0) -> bool:
    """Say whether two vectors differ by at most `tolerance` times the length of the second.

    Parameters
    ----------
    one, other : ndarray
        Vectors of any scale.
    tolerance : float
        Relative difference that is allowed.
    least : float
        Length of a difference that is allowed all the same.

    Examples
    --------
    >>> differ_by_rounding(np.array([1e200, 1.0]), np.array([1e200, 2.0]), 1e-9)
    True
    >>> differ_by_rounding(np.array([1e200, 1.0]), np.array([1.1e200, 1.0]), 1e-9)
    False
    """
    return length(one - other) <= max(tolerance * length(other), least)
