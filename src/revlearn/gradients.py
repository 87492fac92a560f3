"""Where the training gradient and its pullback come from.

The *pullback* of the gradient takes a vector u to (uᵀ ∂g/∂w, uᵀ ∂g/∂θ): a Hessian-vector product,
and its counterpart for the hyperparameters. One pass computes both the gradient and its pullback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from autograd.core import make_vjp
from autograd.extend import vspace
from autograd.tracer import isbox
from numpy.typing import NDArray

from .parameters import Layout, Nest, _take, plain

Vector = NDArray[np.float64]
Loss = Callable[[Nest, Nest, int], Any]
Pullback = Callable[[Vector], tuple[Vector, Vector]]


class AutogradGradients:
    """Gradients of a loss written in ``autograd.numpy``, as flat vectors.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar.
    weights, hyper : Layout
        Layouts of the two nests.
    """

    def __init__(self, loss: Loss, weights: Layout, hyper: Layout):
        self._loss, self._weights, self._hyper = loss, weights, hyper

    def gradient(self, weights: Vector, hyper: Vector, t: int) -> Vector:
        """Return ∇_w L(w, θ, t), shape (number of weights,)."""
        return self._gradient(weights, self._hyper.unflatten(hyper), t)

    def gradient_and_pullback(
        self, weights: Vector, hyper: Vector, t: int, *, wrt_hyper: bool
    ) -> tuple[Vector, Pullback]:
        """Return the gradient and its pullback, from one pass.

        Without `wrt_hyper` the pullback leaves the hyperparameters out and returns an empty
        vector for them.
        """
        size = weights.size
        # One vector for both, so that autograd sees one variable and adds in place.
        joint = np.concatenate([weights, hyper]) if wrt_hyper else weights
        fixed_hyper = None if wrt_hyper else self._hyper.unflatten(hyper)

        def gradient_at(joint):
            if not wrt_hyper:
                return self._gradient(joint, fixed_hyper, t)
            variable = self._hyper.unflatten(_take(joint, size, joint.size, hyper.shape))
            return self._gradient(_take(joint, 0, size, weights.shape), variable, t)

        pull_back, gradient = make_vjp(gradient_at, joint)

        def split(vector):
            both = pull_back(vector)
            return both[:size], both[size:]

        return gradient, split

    def _gradient(self, weights: Any, hyper: Nest, t: int) -> Any:
        pull_back, value = make_vjp(
            lambda flat: self._loss(self._weights.unflatten(flat), hyper, t), weights
        )
        if not isinstance(plain(value), (float, np.floating, np.ndarray)):
            raise TypeError(
                f"the training loss must return a real number, at step {t} it returned "
                f"{type(plain(value)).__name__}"
            )
        if np.shape(plain(value)) != ():
            raise ValueError(
                f"the training loss must return a scalar, at step {t} it returned shape "
                f"{np.shape(plain(value))}: take a mean or a sum"
            )
        gradient = pull_back(vspace(value).ones())
        if isbox(gradient) and not isbox(weights):
            raise ValueError(
                "the training loss uses a value that is being differentiated but was not handed "
                "to it: pass it in `hyper`, so that its hypergradient is not lost"
            )
        return gradient
