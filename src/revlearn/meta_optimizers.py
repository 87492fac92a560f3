"""Meta-optimizers: rules that turn a hypergradient into a step. Public under ``rl.meta``."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .optimizers import Optimizer

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


def refuse_optimizer(optimizer: Any) -> None:
    """Raise if something is no meta-optimizer.

    Raises
    ------
    TypeError
        If it is a rule of training, for example; the message says what to use.
    """
    named = optimizer if isinstance(optimizer, type) else type(optimizer)
    same = {kind.__name__: kind for kind in (SGD, RMSprop, Adam)}.get(named.__name__, SGD)
    use = f"use meta.{same.__name__}(step_size=…) or another of revlearn.meta"
    if issubclass(named, Optimizer):
        raise TypeError(
            f"{named.__module__.partition('.')[0]}.{named.__name__} is a rule of training. A "
            f"descent on hyperparameters takes a meta-optimizer: {use}"
        )
    methods = (getattr(optimizer, name, None) for name in ("start", "step"))
    if named is optimizer or not is_dataclass(optimizer) or not all(map(callable, methods)):
        raise TypeError(f"{optimizer!r:.100} is no meta-optimizer: {use}")


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
