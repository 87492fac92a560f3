"""What training asks of a loss: its gradient, and the pullback of that gradient.

The *pullback* of the gradient takes a vector u to (uᵀ ∂g/∂w, uᵀ ∂g/∂θ): a Hessian-vector product,
and its counterpart for the hyperparameters. One pass computes both the gradient and its pullback.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import how_to_install
from ..parameters import Layout, Nest

Vector = NDArray[np.float64]
Loss = Callable[[Nest, Nest, int], Any]
Pullback = Callable[[Vector], tuple[Vector, Vector]]


class Gradients(Protocol):
    """Gradients of one loss, as flat vectors of float64, whatever computes them.

    What is handed in may be kept, and what is returned may share its memory: nobody changes either.
    """

    def gradient(self, weights: Vector, hyper: Vector, t: int) -> Vector:
        """Return ∇_w L(w, θ, t), shape (number of weights,)."""
        ...

    def gradient_and_pullback(
        self,
        weights: Vector,
        hyper: Vector,
        t: int,
        *,
        wrt_hyper: bool,
        known: Vector | None = None,
    ) -> tuple[Vector, Pullback]:
        """Return the gradient and its pullback, from one pass.

        Without `wrt_hyper` the pullback leaves the hyperparameters out and returns an empty
        vector for them. Where it is `known` which vector the pullback will be given, a framework
        that compiles can do both at once.
        """
        ...


class FrameworkLoss(ABC):
    """A loss that knows in which framework it is written.

    Made by :func:`revlearn.gradients.jax` and :func:`revlearn.gradients.torch`. It takes the place
    of a loss in :func:`revlearn.train` and :func:`revlearn.record`, and can be called like it.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)``, written in the framework, returns a scalar.
    """

    def __init__(self, loss: Loss):
        self.loss = loss

    def __call__(self, weights: Nest, hyper: Nest, t: int) -> Any:
        """Return the loss."""
        return self.loss(weights, hyper, t)

    @abstractmethod
    def gradients(self, weights: Layout, hyper: Layout, dtype: np.dtype) -> Gradients:
        """Return what computes the gradients, in floats of type `dtype`."""

    @abstractmethod
    def owns(self, leaf: Any) -> bool:
        """Say whether a leaf is an array of the framework."""

    @abstractmethod
    def is_live(self, leaf: Any) -> bool:
        """Say whether the framework follows an array of its own, to differentiate it."""

    @abstractmethod
    def to_numpy(self, leaf: Any) -> NDArray:
        """Return the values of an array of the framework."""

    @abstractmethod
    def from_numpy(self, flat: Vector) -> Any:
        """Return a vector as an array of the framework."""

    @abstractmethod
    def like(self, leaf: Any, model: Any) -> Any:
        """Return an array of the framework with the type, and on the device, of `model`.

        A model that is no array of floats of the framework leaves it as it is.
        """

    @abstractmethod
    def apply(self, function: Callable[[Sequence[Any]], Any], leaves: Sequence[Any]) -> Any:
        """Return ``function(leaves)`` so that the framework can differentiate it.

        Parameters
        ----------
        function : callable
            From a sequence of arrays to one vector, in ``autograd.numpy``.
        leaves : sequence
            Live arrays of the framework.
        """


def float_type(compute_dtype: Any) -> np.dtype:
    """Return the type of floats in which a loss is computed: float64 or float32.

    Raises
    ------
    ValueError
        If it is another type.

    Examples
    --------
    >>> float_type(np.float32)
    dtype('float32')
    """
    try:
        dtype = np.dtype(compute_dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.float64, np.float32):
        raise ValueError(
            f"compute_dtype must be numpy.float64 or numpy.float32, not {compute_dtype!r}: "
            "in shorter numbers gradients say too little about the hyperparameters"
        )
    return dtype


def refuse_value(value: Any, arrays: tuple[type, ...], t: int | None = None) -> None:
    """Raise unless a training loss returned a real scalar; `t` is the step, if known.

    Raises
    ------
    TypeError
        If it is none of the types `arrays`, and no float.
    ValueError
        If it is no scalar.
    """
    where = "" if t is None else f"at step {t} "
    if not isinstance(value, (float, np.floating, *arrays)):
        raise TypeError(
            f"the training loss must return a real number, {where}it returned "
            f"{type(value).__name__}"
        )
    shape = tuple(getattr(value, "shape", ()))
    if shape != ():
        raise ValueError(
            f"the training loss must return a scalar, {where}it returned shape {shape}: take a "
            "mean or a sum"
        )


def missing_extra(name: str) -> ImportError:
    """Return the error for a framework that is not installed."""
    return ImportError(f"losses written in {name} need it: {how_to_install(name)}")
