"""Training unrolled: autograd keeps every step. Simple, and memory grows with the weights × steps.

The reference that exact reversal is held against.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad

from ..gradients import Loss
from ..optimizers import Optimizer
from ..parameters import Layout, Nest, map_leaves, named_leaves, read_only
from ..schedules import expand_all


def train(
    loss: Loss,
    weights: Nest,
    hyper: Nest,
    optimizer: Optimizer,
    steps: int,
    *,
    velocity: Nest = None,
    square: Nest = None,
) -> Nest:
    """Train in floats, and let autograd differentiate every step.

    Takes the arguments of :func:`revlearn.train` and returns the same weights, up to rounding.
    Derivatives of all orders exist.

    Returns
    -------
    nest
        Final weights.

    Examples
    --------
    >>> from autograd import grad
    >>> import revlearn as rl
    >>> def objective(rate):
    ...     optimizer = rl.SGD(rate, momentum=0.5)
    ...     return train(lambda w, hyper, t: 0.5 * w**2, 1.0, None, optimizer, steps=1)
    >>> float(grad(objective)(0.1))
    -0.5
    """
    layout = Layout(weights, "weights")
    schedules = expand_all(optimizer, layout, steps)
    state: dict[str, Any] = {
        slot: layout.unflatten(np.zeros(layout.size)) for slot in optimizer.slots
    }
    state["weights"] = state[optimizer.result] = layout.unflatten(layout.flatten(weights))
    for slot, nest in {"velocity": velocity, "square": square}.items():
        if nest is not None:
            state[slot] = layout.unflatten(layout.flatten(nest, slot))
    lent = map_leaves(read_only, hyper)
    gradient_of = grad(lambda w, t: loss(w, lent, t))
    for t in range(steps):
        shared = {name: rows[0, t] for name, rows in schedules.items()}
        flat = layout.flatten(gradient_of(state["weights"], t))
        gradient = layout.unflatten(optimizer.transformed(flat, shared))
        leaves = {slot: _leaves(nest) for slot, nest in state.items()}
        stepped = [
            optimizer.float_step(
                {slot: leaves[slot][i] for slot in state},
                leaf_gradient,
                {name: rows[i if len(rows) > 1 else 0, t] for name, rows in schedules.items()},
            )
            for i, leaf_gradient in enumerate(_leaves(gradient))
        ]
        state = {
            slot: layout.unflatten(
                anp.concatenate([anp.reshape(leaf[slot], (-1,)) for leaf in stepped])
            )
            for slot in state
        }
    return state[optimizer.result]


def _leaves(nest: Nest) -> list[Any]:
    return [leaf for _, leaf in named_leaves(nest, "")]
