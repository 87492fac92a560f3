"""Losses written in JAX: traced at the start of each run, compiled where the trace is a new one.

What a loss closes over can change between two runs, in place or by assignment, and compiled code
would not notice. The trace does. The arrays in it are arguments of what is compiled, so that other
data of the same shapes cost no compilation.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..parameters import Layout
from .base import Loss, refuse_value


@dataclass(frozen=True)
class Program:
    """The compiled functions of one loss, for one kind of arguments.

    Attributes
    ----------
    text : str
        What was traced.
    captured : list of jax.Array
        Arrays that the loss closes over, as they were when it was traced; the last of the
        arguments `given` below.
    inner : list of ndarray
        Copies of those that functions compiled inside the loss close over. They are part of what
        is compiled.
    gradient : callable
        ``gradient(weights, hyper, *given)`` of flat vectors returns one. `given` are the step, the
        constants among the hyperparameters, and `captured`.
    with_product : callable
        ``with_product(cotangent, weights, hyper, *given, wrt_hyper=…)`` returns it with the
        products of its pullback.
    with_pullback : callable
        ``with_pullback(weights, hyper, *given, wrt_hyper=…)`` returns it with its pullback, a
        pytree.
    apply : callable
        ``apply(pullback, cotangent)``.
    """

    text: str
    captured: list[Any]
    inner: list[NDArray]
    gradient: Callable[..., Any]
    with_product: Callable[..., Any]
    with_pullback: Callable[..., Any]
    apply: Callable[..., Any]


# By the address of a loss, or of the object that it is a method of. What was compiled goes with it.
_PROGRAMS: dict[int, dict[Any, Program]] = {}


def _programs_of(loss: Loss) -> dict[Any, Program]:
    """Return the programs of a loss, the same dict for the same loss."""
    owner = getattr(loss, "__self__", loss)  # a bound method is made anew each time
    place = id(owner)
    if place not in _PROGRAMS:
        try:
            weakref.finalize(owner, _PROGRAMS.pop, place, None).atexit = False
        except TypeError:  # it cannot be referred to weakly
            return {}
        _PROGRAMS[place] = {}
    return _PROGRAMS[place]


def program(
    loss: Loss, layouts: tuple[Layout, Layout], weights: NDArray, hyper: NDArray, *given: Any
) -> Program:
    """Trace a loss, and return what is compiled for it.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` of nests.
    layouts : tuple of Layout
        Those of weights and hyperparameters.
    weights, hyper : ndarray
        Flat vectors of the type that the loss is to be given.
    *given : value
        Step, and constants among the hyperparameters.
    """
    import jax

    def value(weights: Any, hyper: Any, t: Any, constants: Any) -> Any:
        nests = layouts[0].unflatten(weights), layouts[1].unflatten(hyper, constants)
        with explaining():
            result = loss(*nests, t)
        refuse_value(result, (np.ndarray, jax.Array))
        return result

    traced = jax.make_jaxpr(value)(weights, hyper, *given)
    _refuse_traced(traced.consts)
    programs = _programs_of(loss)
    kind = getattr(loss, "__func__", None), *(layout.key for layout in layouts), weights.dtype
    text, inner = _text(traced.jaxpr), list(_inner_constants(traced.jaxpr))
    fresh = _compile(traced.jaxpr)
    if "custom_" in text:
        # Rules for derivatives are functions, of which a text shows nothing: follow them.
        derivative = jax.make_jaxpr(lambda *given: fresh.with_product(*given, wrt_hyper=True))(
            np.zeros_like(weights), weights, hyper, *given, list(traced.consts)
        )
        text += _text(derivative.jaxpr)
        inner += [*derivative.consts, *_inner_constants(derivative.jaxpr)]
    contents, found = list(map(_contents, inner)), programs.get(kind)
    if (
        found is None
        or found.text != text
        or not all(map(_same, found.inner, contents))
        or "callback" in text  # what it calls may be another function
    ):
        found = replace(fresh, text=text, inner=[constant.copy() for constant in contents])
    held = found.captured or [None] * len(traced.consts)
    captured = [
        _frozen(constant, variable.aval.dtype, before)
        for constant, variable, before in zip(
            traced.consts, traced.jaxpr.constvars, held, strict=True
        )
    ]
    _refuse_traced(captured)
    programs[kind] = found = replace(found, captured=captured)
    return found


def _text(jaxpr: Any) -> str:
    """Return what is traced as a text, without addresses."""
    return re.sub(r"0x[0-9a-fA-F]+", "", str(jaxpr))


def _compile(jaxpr: Any) -> Program:
    """Return what compiles a traced loss, once it is called."""
    import jax

    def value(weights: Any, hyper: Any, t: Any, constants: Any, captured: Any) -> Any:
        flat = jax.tree.leaves((weights, hyper, t, constants))
        return jax.core.eval_jaxpr(jaxpr, captured, *flat)[0]

    gradient = jax.grad(value)

    def with_pullback(weights: Any, hyper: Any, *given: Any, wrt_hyper: bool) -> Any:
        if wrt_hyper:
            return jax.vjp(lambda w, h: gradient(w, h, *given), weights, hyper)
        return jax.vjp(lambda w: gradient(w, hyper, *given), weights)

    def with_product(cotangent: Any, *arguments: Any, wrt_hyper: bool) -> Any:
        found, pullback = with_pullback(*arguments, wrt_hyper=wrt_hyper)
        return found, *pullback(cotangent)

    return Program(
        "",
        [],
        [],
        jax.jit(gradient),
        jax.jit(with_product, static_argnames="wrt_hyper"),
        jax.jit(with_pullback, static_argnames="wrt_hyper"),
        jax.jit(lambda pullback, cotangent: pullback(cotangent)),
    )


def _inner_constants(jaxpr: Any) -> Iterator[Any]:
    """Yield the arrays that are part of the functions which a traced function calls."""
    import jax

    for equation in jaxpr.eqns:
        for parameter in jax.tree.leaves(equation.params):
            if hasattr(parameter, "eqns"):
                yield from getattr(parameter, "consts", ())
                yield from _inner_constants(parameter)


def _contents(constant: Any) -> NDArray:
    import jax

    _refuse_traced([constant])
    if jax.numpy.issubdtype(constant.dtype, jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    return np.asarray(constant)


def _refuse_traced(constants: Iterable[Any]) -> None:
    import jax

    if any(isinstance(constant, jax.core.Tracer) for constant in constants):
        raise TracedError


def _frozen(constant: Any, dtype: Any, before: Any) -> Any:
    """Return an array as one that nobody can change: the one `before`, where it is the same."""
    import jax

    if isinstance(constant, jax.Array):
        return constant
    values = np.asarray(constant, dtype=dtype)
    if before is not None and _same(np.asarray(before), values):
        return before
    return jax.numpy.array(values)


def _same(first: NDArray, second: NDArray) -> bool:
    """Say whether two arrays are the same bits."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    words = f"u{min(first.dtype.itemsize, 8)}"
    one, other = (np.ascontiguousarray(array).view(words) for array in (first, second))
    return np.array_equal(one, other)


class TracedError(Exception):
    """What is computed is being traced by someone."""


_ONCE = (
    "it is compiled once for all steps, so that t, weights and hyperparameters have no value yet"
)


@contextmanager
def explaining() -> Iterator[None]:
    """Say what to do instead, where a loss asks for a value that tracing does not have."""
    import jax

    conversions = jax.errors.TracerIntegerConversionError, jax.errors.TracerArrayConversionError
    try:
        yield
    except (TypeError, IndexError) as error:
        if isinstance(error, jax.errors.TracerBoolConversionError):
            slip = "branches in Python on a traced value"
            advice = "take jax.numpy.where or jax.lax.cond, or close over a flag that stays"
        elif isinstance(error, jax.errors.NonConcreteBooleanIndexError):
            slip = "picks entries by a traced mask"
            advice = "take jax.numpy.where(mask, values, 0.0), which keeps the shape"
        elif isinstance(error, jax.errors.ConcretizationTypeError):
            slip = "makes a Python number of a traced value"
            advice = (
                "take the functions of jax.numpy, jax.lax.fori_loop for a loop, and for lengths "
                "and shapes numbers that the loss closes over"
            )
        elif isinstance(error, conversions) or "Tracer" in str(error):
            slip = "hands a traced value to numpy, or indexes with one"
            advice = (
                "make JAX's arrays of the data once, outside of the loss, images = "
                "jnp.asarray(images), and index these; take slices with "
                "jax.lax.dynamic_slice_in_dim(images, start, length), functions from jax.numpy, "
                "and random numbers with jax.random.fold_in(key, t)"
            )
        else:
            raise
        raise TypeError(f"the training loss {slip}: {_ONCE}. Instead, {advice}") from error
