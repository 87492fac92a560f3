"""The work of every contender: train a perceptron on digits, differentiate a validation loss.

Variables are a learning rate and a momentum for each step and leaf, and the log of a penalty for
each weight. All are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import revlearn as rl
from revlearn.parameters import map_leaves, named_leaves

PENALTY = 1e-4  # of every weight
# Momenta are ratios with this denominator, as rl.SGD rounds them. Given exactly, all contenders
# differentiate the same function.
DENOMINATOR = 65536


@dataclass(frozen=True)
class Problem:
    """A network, its digits, and where its variables stand.

    Leaves are in the order weights, biases, layer by layer. Rates and momenta have the shape
    (steps, leaves).
    """

    sizes: tuple[int, ...]
    batch: int
    examples: int
    held_out: int
    scale: float
    steps: int  # unless told otherwise

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """The initial weights, as rl.models.mlp takes them."""
        return rl.models.init_mlp(self.sizes, np.random.RandomState(0), scale=self.scale)

    @cached_property
    def leaves(self) -> list[np.ndarray]:
        return [leaf.copy() for _, leaf in named_leaves(self.layers, "")]

    @cached_property
    def digits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Images and targets to train on, and those to validate on."""
        train, held_out = rl.datasets.mnist_subset().split(self.examples, self.held_out)
        return train.images, train.targets, held_out.images, held_out.targets

    @cached_property
    def log_penalties(self) -> list[np.ndarray]:
        return [np.full(leaf.shape, np.log(PENALTY)) for leaf in self.leaves]

    def first(self, t: Any) -> Any:
        """Return the first row of the minibatch of step `t`."""
        return self.batch * t % self.examples

    def rates(self, steps: int) -> np.ndarray:
        """Rates around 0.3. Those of a shorter run are the first of a longer one."""
        return np.random.RandomState(1).uniform(0.25, 0.35, size=(steps, len(self.leaves)))

    def momenta(self, steps: int) -> np.ndarray:
        """Ratios around 0.9."""
        drawn = np.random.RandomState(2).uniform(0.88, 0.92, size=(steps, len(self.leaves)))
        return np.rint(drawn * DENOMINATOR) / DENOMINATOR

    def nest(self, leaves: Any) -> list[dict[str, Any]]:
        """Nest one thing for each leaf like the weights."""
        rest = iter(leaves)
        return map_leaves(lambda _: next(rest), self.layers)

    def parts(self, gradient: np.ndarray, steps: int) -> dict[str, np.ndarray]:
        """Cut a flat gradient into what it is the gradient of."""
        count = steps * len(self.leaves)
        rates, momenta, penalties = np.split(gradient, [count, 2 * count])
        return {"rates": rates, "momenta": momenta, "penalties": penalties}


def flat(rates: Any, momenta: Any, log_penalties: Any) -> np.ndarray:
    """Return the gradient of all variables as one vector; penalties come leaf by leaf."""
    parts = [rates, momenta, *log_penalties]
    return np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in parts])


PROBLEMS = {
    "small": Problem((784, 50, 50, 50, 10), 250, 4000, 1000, scale=0.1, steps=1000),
    "large": Problem((784, 1000, 1000, 10), 250, 4000, 1000, scale=0.03, steps=100),
    # For the tests.
    "tiny": Problem((784, 6, 5, 10), 20, 200, 100, scale=0.1, steps=6),
}
