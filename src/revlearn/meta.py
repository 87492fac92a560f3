"""Descent on hyperparameters: a loop that can be interrupted.

One *meta-iteration* is a whole training run, its hypergradient, and one step of a meta-optimizer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import first_not_finite, length, whole_number
from .errors import NonFiniteError
from .meta_checkpoint import Checkpoint, SoFar
from .meta_optimizers import (
    SGD,
    Adam,
    MetaOptimizer,
    RMSprop,
    State,
    VanishingMomentumAdam,
    Vector,
    refuse_optimizer,
)
from .objectives import flattened
from .parameters import Layout, Nest
from .progress import progress
from .results import plain_json

__all__ = [
    "SGD",
    "Adam",
    "Descent",
    "MetaOptimizer",
    "RMSprop",
    "VanishingMomentumAdam",
    "minimize",
]

Callback = Callable[[int, Nest, float, Nest], Mapping[str, ArrayLike] | None]


@dataclass(frozen=True)
class Descent:
    """What :func:`minimize` returns.

    Attributes
    ----------
    hyper : nest
        Hyperparameters after the last step.
    values : ndarray, shape (steps,)
        The objective before each step.
    gradient_norms : ndarray, shape (steps,)
        Euclidean norm of the hypergradient before each step.
    kept : dict of str to ndarray, shapes (steps, …)
        What the callback returned, stacked over the meta-iterations.
    seconds : float
        Processor time, also that before an interruption: what an idle core would have taken.
    """

    hyper: Nest
    values: Vector
    gradient_norms: Vector
    kept: dict[str, NDArray]
    seconds: float


def minimize(
    objective: Callable[[Nest, int], Any],
    hyper: Nest,
    optimizer: MetaOptimizer,
    steps: int,
    *,
    checkpoint: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
) -> Descent:
    """Descend along hypergradients.

    Parameters
    ----------
    objective : callable
        ``objective(hyper, i)``, a scalar that autograd can differentiate; `i` is the
        meta-iteration and picks the seed, if seeds are to change. An objective in JAX or PyTorch
        is handed over as ``rl.gradients.jax(objective)`` or ``rl.gradients.torch(objective)``. It
        is given `hyper` as arrays of float64 of that framework, and is not compiled as a whole,
        so that it may call :func:`revlearn.train`.
    hyper : nest
        Where to start.
    optimizer : MetaOptimizer
        For example :class:`SGD` or :class:`Adam` of this module.
    steps : int
        Number of meta-iterations, those before an interruption included.
    checkpoint : str or Path, optional
        File that holds the descent so far, replaced as a whole after each meta-iteration. If it
        exists, the descent goes on from there and arrives at the same bits as one that was never
        interrupted. With more `steps` a finished descent goes on, too. Beside it lies a second
        file, of that name and ``.history``, with the values and what the callback returned. It
        grows by one record at each meta-iteration, and belongs to the first: copy both.
    settings : mapping, optional
        What the objective depends on beside its arguments: data, sizes, seeds. Kept in the
        checkpoint and compared, since a change of the objective itself would go unnoticed.
    callback : callable, optional
        ``callback(i, hyper, value, hypergradient)`` before each step. The arrays that it returns,
        by name, are kept in the checkpoint and in :attr:`Descent.kept`, so that it is not called
        again for meta-iterations that the checkpoint holds.

    Returns
    -------
    Descent
        Last hyperparameters and the history of values.

    Raises
    ------
    ValueError
        If the checkpoint belongs to other initial hyperparameters, another meta-optimizer or
        other settings, or holds more meta-iterations than asked for; or if the callback returns
        other names or shapes than before.
    TypeError
        If the optimizer is a rule of training such as :class:`revlearn.SGD`, the objective is
        written in JAX or PyTorch and does not say so, or `steps` is not a whole number.
    NonFiniteError
        If an objective's value or a hypergradient is not finite, or a step of the meta-optimizer
        overflows; the checkpoint stays at the step before. What the callback returns may hold NaN.
    DataError
        If a file of the checkpoint is damaged, or cannot be written: what is stored stays.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import revlearn as rl
    >>> def objective(log_rate, i):
    ...     final = rl.train(lambda w, h, t: w**2, 1.0, None, rl.SGD(np.exp(log_rate), 0.5), 5)
    ...     return final**2
    >>> def callback(i, log_rate, value, hypergradient):
    ...     return {"rate": np.exp(log_rate)}
    >>> descent = minimize(objective, -3.0, SGD(step_size=0.5), steps=10, callback=callback)
    >>> bool(descent.values[-1] < descent.values[0])
    True
    >>> descent.kept["rate"].shape, round(float(descent.kept["rate"][0]), 4)
    ((10,), 0.0498)
    """
    refuse_optimizer(optimizer)
    steps = whole_number(steps, "steps", 0)
    flat, layout, start = flattened(objective, hyper)
    so_far = SoFar(start, optimizer.start(layout.size))
    file = None
    if checkpoint is not None:
        file = Checkpoint(Path(checkpoint), _claim(layout, start, optimizer, settings))
        if file.path.exists():
            so_far = file.read(so_far)
    if so_far.kept and callback is None:
        raise ValueError(
            f"{checkpoint} keeps what a callback returned ({', '.join(so_far.kept)}): hand the "
            "callback over again, so that nothing is missing from now on"
        )
    done = len(so_far.values)
    if done > steps:
        raise ValueError(f"{checkpoint} holds {done} meta-iterations, more than {steps}")

    def summary() -> str:
        return f"loss {so_far.values[-1]:.4g}, gradient {so_far.norms[-1]:.2g}"

    for i in progress(range(done, steps), steps - done, "descent", summary):
        started = time.process_time()
        value, gradient = flat.value_and_gradient(so_far.x, i)
        _refuse_nonfinite(value, gradient, layout, i)
        if callback is not None:
            nests = layout.unflatten(so_far.x), layout.unflatten(gradient)
            _keep(so_far.kept, callback(i, nests[0], value, nests[1]) or {}, i)
        x, state = optimizer.step(so_far.x, gradient, so_far.state, i)
        _refuse_step(x, state, layout, i)
        so_far.x, so_far.state = x, state
        so_far.values.append(value)
        so_far.norms.append(length(gradient))
        so_far.seconds += time.process_time() - started
        if file is not None:
            file.write(so_far)
    return Descent(
        layout.unflatten(so_far.x),
        np.array(so_far.values),
        np.array(so_far.norms),
        {name: np.stack(arrays) for name, arrays in so_far.kept.items()},
        so_far.seconds,
    )


def _refuse_nonfinite(value: float, gradient: Vector, layout: Layout, i: int) -> None:
    remedy = (
        "Training is at the edge of divergence: take a shorter step or start from smaller learning "
        "rates"
    )
    bad = first_not_finite(gradient)
    if bad is not None:
        raise NonFiniteError(
            f"the hypergradient of meta-iteration {i} is {gradient[bad]}. {remedy}"
        ).at(leaf=layout.name_of(bad))
    if not np.isfinite(value):
        raise NonFiniteError(f"the objective at meta-iteration {i} is {value}. {remedy}")


def _refuse_step(x: Vector, state: State, layout: Layout, i: int) -> None:
    """Raise if a step of the meta-optimizer overflowed."""
    for name, array in {"hyperparameters": x, **state}.items():
        bad = first_not_finite(array)
        if bad is not None:
            raise NonFiniteError(
                f"the meta-optimizer's {name} after meta-iteration {i}: {np.ravel(array)[bad]}. "
                "The hypergradient is too large for it: take a shorter step, or divide the "
                "objective by a constant"
            ).at(leaf=layout.name_of(bad) if np.size(array) == layout.size else None)


def _keep(kept: dict[str, list[NDArray]], arrays: Mapping[str, ArrayLike], i: int) -> None:
    """Append what the callback returned, if it has the names and shapes of the times before."""
    found = {name: np.array(array) for name, array in arrays.items()}
    if i == 0:
        kept.update({name: [] for name in found})
    before = {name: earlier[0].shape for name, earlier in kept.items() if earlier}
    shapes = {name: array.shape for name, array in found.items()}
    if kept.keys() != found.keys() or (before and before != shapes):
        raise ValueError(
            f"the callback must return the same names and shapes each time: {before} before, "
            f"{shapes} at meta-iteration {i}"
        )
    for name, array in found.items():
        if array.dtype.hasobject or not isinstance(name, str):
            raise TypeError(f"the callback's {name!r} is not an array of numbers or strings")
        kept[name].append(array)


def _claim(
    layout: Layout, start: Vector, optimizer: MetaOptimizer, settings: Mapping[str, Any] | None
) -> str:
    """Write down whose checkpoint it is: names, start, meta-optimizer and settings."""
    return plain_json(
        {
            "hyperparameters": list(zip(layout.names, layout.shapes, strict=True)),
            "start": hashlib.sha256(start.tobytes()).hexdigest(),
            "optimizer": [type(optimizer).__name__, asdict(optimizer)],  # type: ignore[call-overload]
            "settings": dict(settings or {}),
        }
    )
