"""Seeds, data and initial weights as the paper's authors had them."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from .datasets import Digits, mnist
from .parameters import Layout, Nest

_TRAINING_IMAGES = 60_000


def random_state(key: object) -> RandomState:
    """Return the random numbers that the authors' code draws under a key.

    The seed is the first eight hexadecimal digits of the md5 of ``str(key)``.

    Parameters
    ----------
    key : object
        A tuple of integers, a name, …

    Examples
    --------
    >>> random_state((0, 0)).get_state()[1][0]
    np.uint32(3147814774)
    """
    digest = hashlib.md5(str(key).encode(), usedforsecurity=False).hexdigest()
    return RandomState(int(digest[:8], 16))


def mnist_splits(*sizes: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return consecutive rows of MNIST as pairs (images, one-hot targets).

    Pixels are divided by 255, and the mean of the 60,000 training images is subtracted.

    Parameters
    ----------
    *sizes : int
        Numbers of rows. ``(10_000, 10_000, 10_000)`` are training rows 0–9999, 10000–19999 and
        20000–29999.
    """
    return _centred(mnist(), _TRAINING_IMAGES, sizes)


def _centred(
    digits: Digits, training: int, sizes: tuple[int, ...]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    mean = digits.pixels[:training].mean(axis=0) / 255.0
    return [(part.images - mean, part.targets) for part in digits.split(*sizes)]


def scaled_normal(random: RandomState, like: Nest, scales: Nest) -> Nest:
    """Draw weights for a nest from one ``randn`` and multiply each leaf by its scale.

    Parameters
    ----------
    random : RandomState
        Where the numbers come from.
    like : nest
        Shapes, in the authors' order: weights 1, biases 1, weights 2, …
    scales : nest
        A factor for each leaf, nested like `like`; boxes of autograd pass through.
    """
    layout = Layout(like, "weights")
    normal = layout.unflatten(random.randn(layout.size))
    return _times(normal, scales)


def _times(nest: Nest, factors: Nest) -> Nest:
    if isinstance(nest, dict):
        return {key: _times(nest[key], factors[key]) for key in nest}
    if isinstance(nest, (list, tuple)):
        return type(nest)([_times(leaf, factors[i]) for i, leaf in enumerate(nest)])
    return nest * factors
