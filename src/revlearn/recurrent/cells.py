"""The cell of a reversible recurrent network: gates as ratios, and the reversible GRU."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, defvjp_argnums, primitive
from numpy.random import RandomState

from ..models import tanh

GATE_BITS = 12  # gates are multiples of 1/4096
LAYERS = ("gate", "reset", "candidate")


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

    return [{name: layer() for name in LAYERS} for _ in range(2)]


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
    leaves = (half[layer][kind] for layer in LAYERS for kind in ("weights", "biases"))
    both = _gru(inputs, other, *leaves, lowest)
    return both[0], both[1]


def _parts(inputs, other, *weights_and_lowest):
    """Return what enters the layers, and the sigmoid of the gate, reset and candidate."""
    gate_w, gate_b, reset_w, reset_b, candidate_w, candidate_b, _ = weights_and_lowest
    joined = anp.concatenate([inputs, other], axis=-1)
    share = _sigmoid(anp.dot(joined, gate_w) + gate_b)
    reset = _sigmoid(anp.dot(joined, reset_w) + reset_b)
    reset_joined = anp.concatenate([inputs, reset * other], axis=-1)
    candidate = tanh(anp.dot(reset_joined, candidate_w) + candidate_b)
    return joined, reset_joined, share, reset, candidate


def _rounded(share, lowest):
    return ratio(lowest + (1.0 - lowest) * share)


@primitive
def _gru(*arguments):
    *_, share, _, candidate = _parts(*arguments)
    gate = _rounded(share, arguments[-1])
    return np.stack([gate, (1.0 - gate) * candidate])


def _vjp_of_the_gru(argnums, ans, arguments, kwargs):
    inputs, other, gate_w, _, reset_w, _, candidate_w, _, lowest = arguments

    def pull_back(cotangent):
        # Computed again, for a long run would otherwise keep five arrays a step.
        joined, reset_joined, share, reset, candidate = _parts(*arguments)
        gate, (to_gate, to_addition) = _rounded(share, lowest), (cotangent[0], cotangent[1])
        to_candidate = to_addition * (1.0 - gate) * (1.0 - candidate**2)
        through = anp.dot(to_candidate, candidate_w.T)  # to what entered the candidate
        width = inputs.shape[-1]
        to_reset = through[..., width:] * other * reset * (1.0 - reset)
        slope = (1.0 - lowest) * share * (1.0 - share)
        to_share = (to_gate - to_addition * candidate) * slope
        to_joined = anp.dot(to_share, gate_w.T) + anp.dot(to_reset, reset_w.T)
        parts = [
            to_joined[..., :width] + through[..., :width],
            to_joined[..., width:] + through[..., width:] * reset,
        ]
        entered = ((joined, to_share), (joined, to_reset), (reset_joined, to_candidate))
        for into, out in entered:
            columns = anp.reshape(out, (-1, out.shape[-1]))
            rows = anp.reshape(into, (-1, into.shape[-1]))
            parts += [anp.dot(rows.T, columns), anp.sum(columns, axis=0)]
        return [parts[argnum] for argnum in argnums]

    return pull_back


# One operation for autograd, not two dozen: tracing them takes most of the time of a small cell.
defvjp_argnums(_gru, _vjp_of_the_gru)


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * tanh(0.5 * x)
