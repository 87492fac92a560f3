"""Small networks: softmax regression and multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, primitive
from numpy.random import RandomState

from .parameters import Layout, plain


def init_mlp(sizes: Sequence[int], random: RandomState, scale: float = 1.0) -> list[dict[str, Any]]:
    """Draw the weights and biases of a multilayer perceptron from a normal distribution.

    One draw of all numbers at once, layer by layer, weights (row-major) before biases.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of units: inputs, hidden layers, outputs. Two sizes make softmax regression.
    random : numpy.random.RandomState
        Where the numbers come from.
    scale : float
        Standard deviation.

    Returns
    -------
    list of dict
        For each layer ``{"weights": (inputs, outputs), "biases": (outputs,)}``.

    Examples
    --------
    >>> layers = init_mlp([784, 10], RandomState(0))
    >>> layers[0]["weights"].shape, layers[0]["biases"].shape
    ((784, 10), (10,))
    """
    shapes = [
        {"weights": np.zeros((inputs, outputs)), "biases": np.zeros(outputs)}
        for inputs, outputs in pairwise(sizes)
    ]
    layout = Layout(shapes, "weights")
    return layout.unflatten(scale * random.randn(layout.size))


def mlp(layers: Sequence[dict[str, Any]], inputs: Any) -> Any:
    """Return the log-probabilities of a perceptron with tanh hidden layers.

    Parameters
    ----------
    layers : sequence of dict
        As from :func:`init_mlp`.
    inputs : ndarray, shape (examples, inputs)

    Returns
    -------
    ndarray, shape (examples, classes)
        Rows whose exponentials sum to one.

    Examples
    --------
    >>> layers = init_mlp([4, 3, 2], RandomState(0))
    >>> np.exp(mlp(layers, np.ones((5, 4)))).sum(axis=1)
    array([1., 1., 1., 1., 1.])
    """
    *hidden, output = layers
    for layer in hidden:
        inputs = tanh(np.dot(inputs, layer["weights"]) + layer["biases"])
    return log_softmax(np.dot(inputs, output["weights"]) + output["biases"])


@primitive
def tanh(x):
    """Return the hyperbolic tangent; its derivative reuses the result, 1 − tanh².

    Autograd's own divides by cosh², which costs more and overflows for large arguments.
    """
    return onp.tanh(x)


@primitive
def _tanh_pullback(g, ans):
    return g * (1.0 - ans * ans)


# One operation, not three, for autograd to trace when it differentiates the gradient.
defvjp(tanh, lambda ans, x: lambda g: _tanh_pullback(g, ans))
defvjp(
    _tanh_pullback,
    lambda _, g, ans: lambda u: _tanh_pullback(u, ans),
    lambda _, g, ans: lambda u: -2.0 * u * g * ans,
)


def log_softmax(scores: Any) -> Any:
    """Return log-probabilities of scores, over the last axis.

    Examples
    --------
    >>> np.exp(log_softmax(np.array([1000.0, 1000.0])))
    array([0.5, 0.5])
    """
    # The shift cancels, so it needs no derivative.
    shifted = scores - plain(scores).max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
