"""Gradients of losses written in JAX, compiled, and hypergradients of JAX's arrays.

JAX is imported where it is used: this module can be imported without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..parameters import Layout, as_aligned
from .base import FrameworkLoss, Loss, Pullback, Vector, missing_extra
from .bridge import value_and_pullback
from .jax_programs import Program, TracedError, program


class JaxLoss(FrameworkLoss):
    """A loss written in JAX; made by :func:`revlearn.gradients.jax`.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar. It is compiled, with `t` traced.
    """

    def __init__(self, loss: Loss):
        try:
            import jax  # noqa: F401
        except ImportError:
            raise missing_extra("jax") from None
        super().__init__(loss)

    @property
    def _jax(self) -> Any:
        import jax  # an attribute that holds a module could not be pickled

        return jax

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
        """Return the values of an array; a random key as it is."""
        if self._jax.numpy.issubdtype(leaf.dtype, self._jax.dtypes.extended):
            return leaf
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
            wanted = [
                i
                for i, primal in enumerate(primals)
                if primal.perturbed and self._is_float(primal.value)
            ]
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
            # None is the derivative of an integer.
            for i, cotangent in zip(wanted, pull_back(self.to_numpy(d_result)), strict=True):
                cotangents[int(i)] = self.from_numpy(cotangent)
            return tuple(cotangents)

        training.defvjp(forward, backward, symbolic_zeros=True)
        # Of one type inside; the derivative of the cast gives each array its own.
        return training(*(leaf.astype(float) if self._is_float(leaf) else leaf for leaf in leaves))


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
        self._loss, self._layouts, self._dtype = loss, (weights, hyper), dtype
        self._program: Program | None = None
        self._constants: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        # What is compiled cannot be copied; it is made anew where it is asked for.
        return self.__dict__ | {"_program": None, "_constants": []}

    def gradient(self, weights: Vector, hyper: Vector, t: int) -> Vector:
        """Return ∇_w L(w, θ, t), shape (number of weights,)."""
        with self._mode():
            program, arguments = self._ready(weights, hyper, t)
            return _plain(program.gradient(*arguments))

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
        with self._mode():
            program, arguments = self._ready(weights, hyper, t)
            if known is not None:
                found = program.with_product(self._typed(known), *arguments, wrt_hyper=wrt_hyper)
                gradient, *product = map(_plain, found)
                return gradient, lambda _: (product[0], product[1] if wrt_hyper else np.zeros(0))
            found, pullback = program.with_pullback(*arguments, wrt_hyper=wrt_hyper)
            gradient = _plain(found)

        def pull_back(vector: Vector) -> tuple[Vector, Vector]:
            with self._mode():
                product = map(_plain, program.apply(pullback, self._typed(vector)))
                return next(product), next(product, np.zeros(0))

        return gradient, pull_back

    def _ready(self, weights: Vector, hyper: Vector, t: int) -> tuple[Program, list[Any]]:
        """Return what is compiled, and its arguments."""
        arguments: list[Any] = [self._typed(weights), self._typed(hyper), t]
        if self._program is None:
            constants = self._layouts[1].constants
            self._constants = [_whole(value, name) for name, value in constants.items()]
            self._program = program(self._loss, self._layouts, *arguments, self._constants)
        return self._program, [*arguments, self._constants, self._program.captured]

    def _typed(self, vector: Vector) -> NDArray:
        return as_aligned(vector, self._dtype)

    @contextmanager
    def _mode(self) -> Iterator[None]:
        import jax

        wide = jax.enable_x64(True) if self._dtype == np.float64 else nullcontext()
        try:
            with wide:
                yield
        except (jax.errors.UnexpectedTracerError, TracedError):
            raise ValueError(
                "the training loss uses a value that is being differentiated or traced but was not "
                "handed to it: pass it in `hyper`, so that its hypergradient is not lost. Or "
                "training was called inside jax.jit, vmap or scan: take that off, the training "
                "loss is compiled anyway"
            ) from None


def _whole(value: Any, name: str) -> Any:
    """Return a constant for JAX, which without its 64-bit mode would cut integers off."""
    import jax

    if isinstance(value, (int, np.integer, np.ndarray)):
        numbers = np.asarray(value)
        cut = numbers.astype(jax.dtypes.canonicalize_dtype(numbers.dtype))
        if not np.array_equal(cut, numbers):
            raise ValueError(
                f"{name} holds {numbers[cut != numbers][0]}, which does not fit the 32 bits that "
                "JAX has with compute_dtype=numpy.float32: hand on a smaller number, or switch "
                "jax_enable_x64 on"
            )
    return jax.numpy.array(value) if isinstance(value, np.ndarray) else value


def _plain(vector: Any) -> Vector:
    import jax

    if isinstance(vector, jax.core.Tracer):
        raise TracedError
    return np.asarray(vector, dtype=np.float64)
