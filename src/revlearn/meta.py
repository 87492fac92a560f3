"""Descent on hyperparameters: meta-optimizers, and a loop that can be interrupted.

One *meta-iteration* is a whole training run, its hypergradient, and one step of a meta-optimizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from autograd import value_and_grad
from numpy.typing import NDArray

from .errors import NonFiniteError
from .parameters import Layout, Nest
from .progress import progress
from .results import replacing

Vector = NDArray[np.float64]
State = dict[str, Vector]


class MetaOptimizer(Protocol):
    """A rule that turns a hypergradient into a step: a dataclass, so that it can be compared."""

    def start(self, size: int) -> State:
        """Return the state before the first step."""
        ...

    def step(self, x: Vector, gradient: Vector, state: State, i: int) -> tuple[Vector, State]:
        """Return the hyperparameters and the state after step `i`, counted from 0."""
        ...


@dataclass(frozen=True)
class SGD:
    """Gradient descent: v ← mass·v − (1 − mass)·g, then x ← x + step_size·v.

    Parameters
    ----------
    step_size : float
        In units of hyperparameters per unit of hypergradient.
    mass : float
        Momentum, in [0, 1).
    """

    step_size: float
    mass: float = 0.0

    def start(self, size: int) -> State:
        """Return a velocity of zero."""
        return {"velocity": np.zeros(size)}

    def step(self, x: Vector, gradient: Vector, state: State, i: int) -> tuple[Vector, State]:
        """Return the hyperparameters and the velocity after one step."""
        velocity = self.mass * state["velocity"] - (1.0 - self.mass) * gradient
        return x + self.step_size * velocity, {"velocity": velocity}


@dataclass(frozen=True)
class RMSprop:
    """Steps divided by a running root mean square of the hypergradient.

    Parameters
    ----------
    step_size : float
        In units of the hyperparameters.
    decay : float
        How much of the running mean square is kept.
    epsilon : float
        Added to the root.
    """

    step_size: float
    decay: float = 0.9
    epsilon: float = 1e-8

    def start(self, size: int) -> State:
        """Return a mean square of one, so that first steps are short."""
        return {"square": np.ones(size)}

    def step(self, x: Vector, gradient: Vector, state: State, i: int) -> tuple[Vector, State]:
        """Return the hyperparameters and the mean square after one step."""
        square = self.decay * state["square"] + (1.0 - self.decay) * gradient**2
        return x - self.step_size * gradient / (np.sqrt(square) + self.epsilon), {"square": square}


@dataclass(frozen=True)
class Adam:
    """Adam as published: bias-corrected running means of the hypergradient and of its square.

    Parameters
    ----------
    step_size : float
        In units of the hyperparameters.
    beta1, beta2 : float
        How much of the running mean and of the mean square is kept.
    epsilon : float
        Added to the root.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    step_size: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self, size: int) -> State:
        """Return means of zero."""
        return {"mean": np.zeros(size), "square": np.zeros(size)}

    def step(self, x: Vector, gradient: Vector, state: State, i: int) -> tuple[Vector, State]:
        """Return the hyperparameters and both means after one step."""
        return self._step(x, gradient, state, i, self.beta1)

    def _step(
        self, x: Vector, gradient: Vector, state: State, i: int, kept: float
    ) -> tuple[Vector, State]:
        mean = kept * state["mean"] + (1.0 - kept) * gradient
        square = self.beta2 * state["square"] + (1.0 - self.beta2) * gradient**2
        corrected_mean = mean / (1.0 - self.beta1 ** (i + 1))
        corrected_square = square / (1.0 - self.beta2 ** (i + 1))
        step = self.step_size * corrected_mean / (np.sqrt(corrected_square) + self.epsilon)
        return x - step, {"mean": mean, "square": square}


@dataclass(frozen=True)
class VanishingMomentumAdam(Adam):
    """What the paper's authors ran under the name of Adam, for comparison with their figures.

    The momentum is beta1·vanishing**i: from the second step on there is in effect none, while the
    bias correction still divides by 1 − beta1**(i+1). Under a steady hypergradient the second step
    is five times the nominal length, 1/(1 − 0.9²). See the errata in the book.

    Parameters
    ----------
    step_size : float
        In units of the hyperparameters.
    beta1, beta2, epsilon : float
        As for :class:`Adam`, with the authors' values.
    vanishing : float
        Factor of the momentum from step to step.
    """

    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-4
    vanishing: float = 1e-4

    def step(self, x: Vector, gradient: Vector, state: State, i: int) -> tuple[Vector, State]:
        """Return the hyperparameters and both means after one step."""
        return self._step(x, gradient, state, i, self.beta1 * self.vanishing**i)


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
    """

    hyper: Nest
    values: Vector
    gradient_norms: Vector


def minimize(
    objective: Callable[[Nest, int], Any],
    hyper: Nest,
    optimizer: MetaOptimizer,
    steps: int,
    *,
    checkpoint: str | Path | None = None,
    callback: Callable[[int, Nest, float, Nest], None] | None = None,
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
    callback : callable, optional
        ``callback(i, hyper, value, hypergradient)`` before each step; not called again for
        meta-iterations that the checkpoint holds.

    Returns
    -------
    Descent
        Last hyperparameters and the history of values.

    Raises
    ------
    ValueError
        If the checkpoint belongs to other initial hyperparameters or another meta-optimizer, or
        holds more meta-iterations than asked for.
    NonFiniteError
        If a hypergradient is not finite; the checkpoint stays at the step before.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> import revlearn as rl
    >>> def objective(log_rate, i):
    ...     final = rl.train(lambda w, h, t: w**2, 1.0, None, rl.SGD(np.exp(log_rate), 0.5), 5)
    ...     return final**2
    >>> descent = minimize(objective, -3.0, SGD(step_size=0.5), steps=10)
    >>> bool(descent.values[-1] < descent.values[0])
    True
    """
    layout = Layout(hyper, "hyper")
    x = layout.flatten(hyper)
    claim = _claim(layout, x, optimizer)
    state, values, norms = optimizer.start(layout.size), np.zeros(0), np.zeros(0)
    if checkpoint is not None and Path(checkpoint).exists():
        x, state, values, norms = _read(Path(checkpoint), claim)
    if len(values) > steps:
        raise ValueError(f"{checkpoint} holds {len(values)} meta-iterations, more than {steps}")

    value_and_hypergradient = value_and_grad(lambda x, i: objective(layout.unflatten(x), i))

    def so_far() -> str:
        return f"loss {values[-1]:.4g}, gradient {norms[-1]:.2g}" if values.size else ""

    for i in progress(range(len(values), steps), steps - len(values), "descent", so_far):
        value, gradient = value_and_hypergradient(x, i)
        if not np.isfinite(gradient).all():
            bad = int(np.argmin(np.isfinite(gradient)))
            raise NonFiniteError(
                f"the hypergradient of meta-iteration {i} is {gradient[bad]}. Training is at the "
                "edge of divergence: take a shorter step or start from smaller learning rates"
            ).at(leaf=layout.name_of(bad))
        if callback is not None:
            callback(i, layout.unflatten(x), float(value), layout.unflatten(gradient))
        x, state = optimizer.step(x, gradient, state, i)
        values = np.append(values, float(value))
        norms = np.append(norms, np.linalg.norm(gradient))
        if checkpoint is not None:
            _write(Path(checkpoint), claim, x, state, values, norms)
    return Descent(layout.unflatten(x), values, norms)


def _claim(layout: Layout, start: Vector, optimizer: MetaOptimizer) -> str:
    """Write down whose checkpoint it is: names, start and meta-optimizer."""
    return json.dumps(
        {
            "hyperparameters": list(zip(layout.names, layout.shapes, strict=True)),
            "start": hashlib.sha256(start.tobytes()).hexdigest(),
            "optimizer": [type(optimizer).__name__, asdict(optimizer)],  # type: ignore[call-overload]
        }
    )


def _write(path: Path, claim: str, x: Vector, state: State, values: Vector, norms: Vector) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"state_{name}": value for name, value in state.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, claim=np.array(claim), x=x, values=values, norms=norms, **arrays)


def _read(path: Path, claim: str) -> tuple[Vector, State, Vector, Vector]:
    with np.load(path, allow_pickle=False) as arrays:
        held, asked = json.loads(str(arrays["claim"])), json.loads(claim)
        if held != asked:
            differing = [name for name in asked if held.get(name) != asked[name]]
            raise ValueError(
                f"{path} is the checkpoint of another descent ({' and '.join(differing)} differ). "
                "Delete it, or name another file"
            )
        state = {
            name.removeprefix("state_"): arrays[name]
            for name in arrays.files
            if name.startswith("state_")
        }
        return arrays["x"], state, arrays["values"], arrays["norms"]
