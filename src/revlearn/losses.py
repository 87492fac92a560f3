"""Losses of classifiers, and penalties on weights."""

from __future__ import annotations

from typing import Any

import autograd.numpy as np
from numpy.typing import NDArray

from .parameters import Nest, named_leaves


def one_hot(labels: NDArray, classes: int = 10) -> NDArray:
    """Turn integer labels into rows of zeros with a single one, float64.

    Examples
    --------
    >>> one_hot(np.array([2, 0]), classes=3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    return np.eye(classes)[labels]


def nll(log_probabilities: Any, targets: NDArray) -> Any:
    """Return the mean negative log-likelihood, in nats.

    Parameters
    ----------
    log_probabilities : ndarray, shape (examples, classes)
    targets : ndarray, shape (examples, classes)
        One-hot labels.

    Examples
    --------
    >>> round(float(nll(np.log(np.array([[0.5, 0.5]])), np.array([[1.0, 0.0]]))), 4)
    0.6931
    """
    return -np.sum(log_probabilities * targets) / len(targets)


def accuracy(log_probabilities: NDArray, targets: NDArray) -> float:
    """Return the share of examples whose most probable class is right."""
    return float(np.mean(np.argmax(log_probabilities, axis=1) == np.argmax(targets, axis=1)))


def l2(weights: Nest, penalties: Any) -> Any:
    """Return Σ penalty · w² over all weights.

    Parameters
    ----------
    weights : nest
    penalties : scalar, or nest shaped like the weights
        Leaves are scalars or arrays of the shape of the leaf: a penalty per weight.

    Examples
    --------
    >>> float(l2({"W": np.array([1.0, 2.0]), "b": 3.0}, {"W": np.array([1.0, 0.5]), "b": 2.0}))
    21.0
    """
    leaves = dict(named_leaves(weights, ""))
    factors = dict(named_leaves(penalties, ""))
    if list(factors) == [""]:
        factors = dict.fromkeys(leaves, penalties)
    if factors.keys() != leaves.keys():
        raise ValueError(
            f"penalties has the leaves {list(factors)}, but the weights have {list(leaves)}"
        )
    return sum(np.sum(factors[name] * (leaf * leaf)) for name, leaf in leaves.items())
