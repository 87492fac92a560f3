"""The cell of a reversible recurrent network: gates as ratios, and the reversible GRU."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from numpy.random import RandomState

from ..models import tanh

GATE_BITS = 12  # gates are multiples of 1/4096


@primitive
def ratio(gate):
    """Return gates as they are used: the nearest n / 2**12 from 1 / 2**12 on.

    The derivative is that of the gate, as if the ratio could take any value.

    Examples
    --------
    >>> ratio(np.array([0.5, 0.9, 1e-9])) * 2**12
    array([2.048e+03, 3.686e+03, 1.000e+00])
    """
    return np.maximum(np.rint(gate * 2.0**GATE_BITS), 1.0) * 2.0**-GATE_BITS


defvjp(ratio, lambda ans, gate: lambda g: g)


def init_gru(inputs: int, units: int, random: RandomState) -> list[dict[str, dict[str, Any]]]:
    """Draw the weights of both halves of a reversible GRU, with variance 1 / (number of inputs).

    Parameters
    ----------
    inputs : int
        Numbers that enter at each step.
    units : int
        Size of the hidden state, both halves together: even.
    random : numpy.random.RandomState
        Where the numbers come from.

    Returns
    -------
    list of dict
        For each half ``"gate"``, ``"reset"`` and ``"candidate"``, and for each of these
        ``{"weights": (inputs + units / 2, units / 2), "biases": (units / 2,)}``.

    Examples
    --------
    >>> halves = init_gru(3, 8, RandomState(0))
    >>> halves[1]["gate"]["weights"].shape
    (7, 4)
    """
    if units % 2:
        raise ValueError(f"units must be even, for there are two halves, not {units}")
    half = units // 2

    def layer() -> dict[str, Any]:
        weights = random.randn(inputs + half, half) / np.sqrt(inputs + half)
        return {"weights": weights, "biases": np.zeros(half)}

    return [{name: layer() for name in ("gate", "reset", "candidate")} for _ in range(2)]


def gru(half: dict[str, dict[str, Any]], inputs: Any, other: Any, lowest: float = 0.5) -> Any:
    r"""Return the gate and the addition of the reversible GRU, for use in a cell.

    .. math::

        z &= a + (1 - a)\,\sigma(W_z [x; h] + b_z), \qquad r = \sigma(W_r [x; h] + b_r) \\
        u &= (1 - z) \odot \tanh(W_g [x; r \odot h] + b_g)

    with h the other half. MacKay, Vicol, Ba and Grosse (2018), equations 5 to 7.

    Parameters
    ----------
    half : dict
        One of the two that :func:`init_gru` returns.
    inputs : ndarray, shape (sequences, inputs)
        What enters at this step.
    other : ndarray, shape (sequences, units / 2)
        The other half of the hidden state.
    lowest : float
        a, the smallest gate. At each step −log2(a) bits a number are forgotten, at most.

    Returns
    -------
    tuple of ndarray, shapes (sequences, units / 2)
        z, as a ratio, and u.

    Examples
    --------
    >>> halves = init_gru(3, 8, RandomState(0))
    >>> gate, addition = gru(halves[0], np.ones((5, 3)), np.zeros((5, 4)))
    >>> gate.shape, bool(gate.min() >= 0.5)
    ((5, 4), True)
    """

    def layer(name: str, other: Any) -> Any:
        joined = anp.concatenate([inputs, other], axis=-1)
        return anp.dot(joined, half[name]["weights"]) + half[name]["biases"]

    gate = ratio(lowest + (1.0 - lowest) * _sigmoid(layer("gate", other)))
    candidate = tanh(layer("candidate", _sigmoid(layer("reset", other)) * other))
    return gate, (1.0 - gate) * candidate


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * tanh(0.5 * x)
