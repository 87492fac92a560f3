"""Descent on hyperparameters: a loop that can be interrupted.

One *meta-iteration* is a whole training run, its hypergradient, and one step of a meta-optimizer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from autograd import value_and_grad
from numpy.typing import ArrayLike, NDArray

from .errors import NonFiniteError
from .meta_optimizers import SGD, Adam, MetaOptimizer, RMSprop, State, VanishingMomentumAdam, Vector
from .parameters import Layout, Nest
from .progress import progress
from .results import plain_json
from .whole_files import replacing

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


@dataclass
class _SoFar:
    """The descent up to some meta-iteration: what a checkpoint holds."""

    x: Vector
    state: State
    values: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    kept: dict[str, list[NDArray]] = field(default_factory=dict)
    seconds: float = 0.0


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
        meta-iteration and picks the seed, if seeds are to change.
    hyper : nest
        Where to start.
    optimizer : MetaOptimizer
        For example :class:`SGD` or :class:`Adam` of this module.
    steps : int
        Number of meta-iterations, those before an interruption included.
    checkpoint : str or Path, optional
        File that holds the descent so far, replaced as a whole after each meta-iteration. If it
        exists, the descent goes on from there and arrives at the same bits as one that was never
        interrupted. With more `steps` a finished descent goes on, too.
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
    NonFiniteError
        If a hypergradient is not finite; the checkpoint stays at the step before.

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
    layout = Layout(hyper, "hyper")
    start = layout.flatten(hyper)
    claim = _claim(layout, start, optimizer, settings)
    so_far = _SoFar(start, optimizer.start(layout.size))
    if checkpoint is not None and Path(checkpoint).exists():
        so_far = _read(Path(checkpoint), claim)
    done = len(so_far.values)
    if done > steps:
        raise ValueError(f"{checkpoint} holds {done} meta-iterations, more than {steps}")

    value_and_hypergradient = value_and_grad(lambda x, i: objective(layout.unflatten(x), i))

    def summary() -> str:
        return f"loss {so_far.values[-1]:.4g}, gradient {so_far.norms[-1]:.2g}"

    for i in progress(range(done, steps), steps - done, "descent", summary):
        started = time.process_time()
        value, gradient = value_and_hypergradient(so_far.x, i)
        if not np.isfinite(gradient).all():
            bad = int(np.argmin(np.isfinite(gradient)))
            raise NonFiniteError(
                f"the hypergradient of meta-iteration {i} is {gradient[bad]}. Training is at the "
                "edge of divergence: take a shorter step or start from smaller learning rates"
            ).at(leaf=layout.name_of(bad))
        if callback is not None:
            nests = layout.unflatten(so_far.x), layout.unflatten(gradient)
            _keep(so_far.kept, callback(i, nests[0], float(value), nests[1]) or {}, i)
        so_far.x, so_far.state = optimizer.step(so_far.x, gradient, so_far.state, i)
        so_far.values.append(float(value))
        so_far.norms.append(float(np.linalg.norm(gradient)))
        so_far.seconds += time.process_time() - started
        if checkpoint is not None:
            _write(Path(checkpoint), claim, so_far)
    return Descent(
        layout.unflatten(so_far.x),
        np.array(so_far.values),
        np.array(so_far.norms),
        {name: np.stack(arrays) for name, arrays in so_far.kept.items()},
        so_far.seconds,
    )


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
        if array.dtype.hasobject:
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


def _write(path: Path, claim: str, so_far: _SoFar) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"state_{name}": value for name, value in so_far.state.items()}
    arrays |= {f"kept_{name}": np.stack(values) for name, values in so_far.kept.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            claim=np.array(claim),
            x=so_far.x,
            values=np.array(so_far.values),
            norms=np.array(so_far.norms),
            seconds=np.array(so_far.seconds),
            **arrays,
        )


def _read(path: Path, claim: str) -> _SoFar:
    with np.load(path, allow_pickle=False) as arrays:
        held, asked = json.loads(str(arrays["claim"])), json.loads(claim)
        if held != asked:
            differing = [name for name in asked if held.get(name) != asked[name]]
            raise ValueError(
                f"{path} is the checkpoint of another descent ({' and '.join(differing)} differ). "
                "Delete it, or name another file"
            )

        def named(prefix: str) -> dict[str, NDArray]:
            names = [name for name in arrays.files if name.startswith(prefix)]
            return {name.removeprefix(prefix): arrays[name] for name in names}

        return _SoFar(
            arrays["x"],
            named("state_"),
            arrays["values"].tolist(),
            arrays["norms"].tolist(),
            {name: list(stack) for name, stack in named("kept_").items()},
            float(arrays["seconds"]),
        )
