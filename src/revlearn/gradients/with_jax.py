"""Gradients of losses written in JAX, compiled, and hypergradients of JAX's arrays.

JAX is imported where it is used: this module can be imported without it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..parameters import Layout, as_aligned
from .base import FrameworkLoss, Loss, Pullback, Vector, missing_extra, refuse_value
from .bridge import value_and_pullback


class JaxLoss(FrameworkLoss):
    """A loss written in JAX; made by :func:`revlearn.gradients.jax`.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar. It is compiled, with `t` traced.
    """

    def __init__(self, loss: Loss):
        try:
            import jax
        except ImportError:
            raise missing_extra("jax") from None
        super().__init__(loss)
        self._jax = jax

    def gradients(self, weights: Layout, hyper: Layout, dtype: np.dtype) -> JaxGradients:
        """Return what computes the gradients; see :class:`FrameworkLoss`."""
        return JaxGradients(self.loss, weights, hyper, dtype)

    def owns(self, leaf: Any) -> bool:
        """Say whether a leaf is an array of JAX."""
        return isinstance(leaf, self._jax.Array)

    def is_live(self, leaf: Any) -> bool:
        """Say whether an array is being traced."""
        return isinstance(leaf, self._jax.core.Tracer)

    def to_numpy(self, leaf: Any) -> NDArray:
        """Return the values of an array."""
        values = np.asarray(leaf)
        return values.astype(np.float64) if self._is_float(leaf) else values

    def from_numpy(self, flat: Vector) -> Any:
        """Return a vector as an array of JAX: float32, unless its 64-bit mode is on."""
        return self._jax.numpy.array(flat)

    def like(self, leaf: Any, model: Any) -> Any:
        """Return an array with the type of another."""
        return leaf.astype(model.dtype) if self.owns(model) and self._is_float(model) else leaf

    def _is_float(self, leaf: Any) -> bool:
        return self._jax.numpy.issubdtype(leaf.dtype, self._jax.numpy.floating)

    def apply(self, function: Callable[[Sequence[Any]], Any], leaves: Sequence[Any]) -> Any:
        """Return ``function(leaves)`` as one operation with a derivative of its own."""
        # JAX runs both passes at once, in Python, unless something traces them. What the second
        # needs of the first is no array, so that it waits here. The operation is made anew for
        # each call, and goes with the graph that uses it.
        pull_back: Any = None

        def evaluate(values: Sequence[Any], wanted: list[int]) -> Any:
            nonlocal pull_back
            if any(self.is_live(value) for value in values):
                raise NotImplementedError(
                    "training cannot be traced: it runs in Python and compiles the training loss "
                    "itself. Take jax.jit, vmap, scan and checkpoint off what calls revlearn.train "
                    "(inside the training loss they are welcome). Second derivatives through "
                    "training are not implemented"
                )
            result, pull_back = value_and_pullback(
                function, [self.to_numpy(value) for value in values], wanted
            )
            return self.from_numpy(result)

        @self._jax.custom_vjp
        def training(*values):
            return evaluate(values, [])

        def forward(*primals):
            wanted = [i for i, primal in enumerate(primals) if primal.perturbed]
            return evaluate([primal.value for primal in primals], wanted), tuple(wanted)

        def backward(wanted, d_result):
            cotangents: list[Any] = [None] * len(leaves)
            if isinstance(d_result, self._jax.custom_derivatives.SymbolicZero):
                return tuple(cotangents)
            if self.is_live(d_result):
                raise NotImplementedError(
                    "the derivative of training cannot be traced (jax.jacrev, vmap or jit of a "
                    "jax.vjp, a second derivative): call the function that jax.vjp returns once "
                    "for each row, in a loop"
                )
            for i, cotangent in zip(wanted, pull_back(self.to_numpy(d_result)), strict=True):
                cotangents[int(i)] = self.from_numpy(cotangent)
            return tuple(cotangents)

        training.defvjp(forward, backward, symbolic_zeros=True)
        # Of one type inside; the derivative of the cast gives each array its own.
        return training(*(leaf.astype(float) for leaf in leaves))


class JaxGradients:
    """Gradients of a loss written in JAX, as flat vectors of numpy.

    float64 needs JAX's 64-bit mode. It is switched on around the calls, with the context manager
    ``jax.enable_x64``, and is as before after them; for float32 it is left as it is.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar.
    weights, hyper : Layout
        Layouts of the two nests.
    dtype : dtype
        Type of the floats that the loss is given: float64 or float32.
    """

    def __init__(self, loss: Loss, weights: Layout, hyper: Layout, dtype: np.dtype):
        # What was compiled refers to the loss weakly: it is held here.
        self._loss, self._functions = loss, compiled(loss)
        self._weights, self._hyper, self._dtype = weights, hyper, dtype

    def gradient(self, weights: Vector, hyper: Vector, t: int) -> Vector:
        """Return ∇_w L(w, θ, t), shape (number of weights,)."""
        with self._mode():
            arguments = self._typed(weights), self._typed(hyper), t
            return _plain(self._functions.gradient(*arguments, self._layouts))

    def gradient_and_pullback(
        self,
        weights: Vector,
        hyper: Vector,
        t: int,
        *,
        wrt_hyper: bool,
        known: Vector | None = None,
    ) -> tuple[Vector, Pullback]:
        """Return the gradient and its pullback, from one pass; see :class:`Gradients`."""
        arguments = self._typed(weights), self._typed(hyper), t
        options = {"layouts": self._layouts, "wrt_hyper": wrt_hyper}
        if known is not None:
            with self._mode():
                found = self._functions.with_product(*arguments, self._typed(known), **options)
                gradient, *product = map(_plain, found)
            return gradient, lambda _: (product[0], product[1] if wrt_hyper else np.zeros(0))
        with self._mode():
            found, pullback = self._functions.with_pullback(*arguments, **options)
            gradient = _plain(found)

        def pull_back(vector: Vector) -> tuple[Vector, Vector]:
            with self._mode():
                product = map(_plain, self._functions.apply(pullback, self._typed(vector)))
                return next(product), next(product, np.zeros(0))

        return gradient, pull_back

    @property
    def _layouts(self) -> tuple[Layout, Layout]:
        return self._weights, self._hyper

    def _typed(self, vector: Vector) -> NDArray:
        return as_aligned(vector, self._dtype)

    @contextmanager
    def _mode(self) -> Iterator[None]:
        import jax

        wide = jax.enable_x64(True) if self._dtype == np.float64 else nullcontext()
        with wide, _explaining_tracers():
            yield


@dataclass(frozen=True)
class Compiled:
    """The compiled functions of one loss.

    Attributes
    ----------
    gradient : callable
        ``gradient(weights, hyper, t, layouts)`` of flat vectors returns one.
    with_product : callable
        ``with_product(weights, hyper, t, cotangent, layouts=…, wrt_hyper=…)`` returns it with the
        products of its pullback.
    with_pullback : callable
        ``with_pullback(weights, hyper, t, layouts=…, wrt_hyper=…)`` returns it with its pullback,
        a pytree.
    apply : callable
        ``apply(pullback, cotangent)``.
    """

    gradient: Callable[..., Any]
    with_product: Callable[..., Any]
    with_pullback: Callable[..., Any]
    apply: Callable[..., Any]


# A loss is compiled once, however often it is wrapped; what was compiled goes when the loss goes.
_COMPILED: weakref.WeakKeyDictionary[Loss, Compiled] = weakref.WeakKeyDictionary()


def compiled(loss: Loss) -> Compiled:
    """Return the compiled functions of a loss, the same ones for the same loss."""
    try:
        return _COMPILED[loss]
    except KeyError:
        functions = _COMPILED[loss] = _compile(weakref.ref(loss))
        return functions
    except TypeError:  # it has no hash, or cannot be referred to weakly
        return _compile(lambda: loss)


def _compile(loss_of: Callable[[], Loss | None]) -> Compiled:
    import jax

    def value(weights: Any, hyper: Any, t: Any, layouts: tuple[Layout, Layout]) -> Any:
        loss = loss_of()
        assert loss is not None  # JaxGradients holds it
        result = loss(layouts[0].unflatten(weights), layouts[1].unflatten(hyper), t)
        refuse_value(result, (np.ndarray, jax.Array))
        return result

    gradient = jax.grad(value)

    def with_pullback(
        weights: Any, hyper: Any, t: Any, layouts: tuple[Layout, Layout], wrt_hyper: bool
    ) -> Any:
        if wrt_hyper:
            return jax.vjp(lambda w, h: gradient(w, h, t, layouts), weights, hyper)
        return jax.vjp(lambda w: gradient(w, hyper, t, layouts), weights)

    def with_product(weights: Any, hyper: Any, t: Any, cotangent: Any, **options: Any) -> Any:
        found, pullback = with_pullback(weights, hyper, t, **options)
        return found, *pullback(cotangent)

    fixed = ("layouts", "wrt_hyper")
    return Compiled(
        jax.jit(gradient, static_argnames="layouts"),
        jax.jit(with_product, static_argnames=fixed),
        jax.jit(with_pullback, static_argnames=fixed),
        jax.jit(lambda pullback, cotangent: pullback(cotangent)),
    )


@contextmanager
def _explaining_tracers() -> Iterator[None]:
    import jax

    try:
        yield
    except (jax.errors.UnexpectedTracerError, _TracedError):
        raise ValueError(
            "the training loss uses a value that is being differentiated or traced but was not "
            "handed to it: pass it in `hyper`, so that its hypergradient is not lost. Or training "
            "was called inside jax.jit, vmap or scan: take that off, the training loss is compiled "
            "anyway"
        ) from None


class _TracedError(Exception):
    """A gradient is traced by someone."""


def _plain(vector: Any) -> Vector:
    import jax

    if isinstance(vector, jax.core.Tracer):
        raise _TracedError
    return np.asarray(vector, dtype=np.float64)
