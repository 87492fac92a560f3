"""Gradients of losses written in ``autograd.numpy``."""

from __future__ import annotations

from typing import Any

import numpy as np
from autograd.core import make_vjp
from autograd.extend import vspace
from autograd.tracer import isbox

from ..errors import closed_over
from ..parameters import Layout, Nest, _take, plain, read_only
from .base import Loss, Pullback, Vector, float_type, refuse_value


class AutogradGradients:
    """Gradients of a loss written in ``autograd.numpy``, as flat vectors.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar.
    weights, hyper : Layout
        Layouts of the two nests.
    dtype : dtype
        Type of the floats that the loss is given: float64 or float32.
    """

    def __init__(self, loss: Loss, weights: Layout, hyper: Layout, dtype: Any = np.float64):
        self._loss, self._weights, self._hyper = loss, weights, hyper
        self._dtype = float_type(dtype)

    def gradient(self, weights: Vector, hyper: Vector, t: int) -> Vector:
        """Return ∇_w L(w, θ, t), shape (number of weights,)."""
        fixed_hyper = self._hyper.unflatten(self._lent(hyper))
        return self._double(self._gradient(self._lent(weights), fixed_hyper, t))

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
        vector for them.
        """
        size, shape, hyper_shape = weights.size, weights.shape, hyper.shape  # not the vectors
        # One vector for both, so that autograd sees one variable and adds in place.
        parts = [weights, hyper] if wrt_hyper else [weights]
        joint = read_only(np.concatenate(parts, dtype=self._dtype))
        fixed_hyper = None if wrt_hyper else self._hyper.unflatten(self._lent(hyper))

        def gradient_at(joint):
            if not wrt_hyper:
                return self._gradient(joint, fixed_hyper, t)
            variable = self._hyper.unflatten(_take(joint, size, joint.size, hyper_shape))
            return self._gradient(_take(joint, 0, size, shape), variable, t)

        pull_back, gradient = make_vjp(gradient_at, joint)

        def split(vector):
            both = self._double(pull_back(self._cast(vector)))
            return both[:size], both[size:]

        return self._double(gradient), split

    def _cast(self, vector: Vector) -> Any:
        return vector.astype(self._dtype, copy=False)

    def _lent(self, vector: Vector) -> Any:
        # To the loss, which must not change it.
        return read_only(self._cast(vector))

    def _double(self, vector: Any) -> Vector:
        # What a loss promoted by its data is rounded to its type all the same.
        return self._cast(vector).astype(np.float64, copy=False)

    def _gradient(self, weights: Any, hyper: Nest, t: int) -> Any:
        try:
            pull_back, value = make_vjp(
                lambda flat: self._loss(self._weights.unflatten(flat), hyper, t), weights
            )
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ValueError(
                f"at step {t} the training loss changes an array in place that is read-only, as "
                "weights and hyperparameters are: make a new one, np.clip(x, 0.0, 1.0), or copy it"
            ) from error
        refuse_value(plain(value), (np.ndarray,), t)
        gradient = pull_back(vspace(value).ones())
        if isbox(gradient) and not isbox(weights):
            raise closed_over("training loss", "hyper")
        return gradient
