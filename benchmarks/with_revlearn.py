"""Revlearn as a contender: exact reversal with a loss in any framework, and its checkpoints."""

from __future__ import annotations

from functools import partial

import autograd.numpy as np
from autograd import value_and_grad

import revlearn as rl
from problems import Problem, flat
from revlearn.parameters import map_leaves, named_leaves


def contender(loss_of, train):
    def prepare(problem: Problem, steps: int):
        loss = loss_of(problem)
        _, _, held_out, held_out_targets = problem.digits

        def objective(variables, steps):
            rates, momenta, log_penalties = variables
            penalties = map_leaves(np.exp, log_penalties)
            optimizer = rl.SGD(rates, momenta)
            weights = train(loss, problem.layers, penalties, optimizer, steps)
            return rl.losses.nll(rl.models.mlp(weights, held_out), held_out_targets)

        def prepared(steps):
            rates, momenta = problem.rates(steps).T, problem.momenta(steps).T
            variables = tuple(map(problem.nest, (rates, momenta, problem.log_penalties)))

            def run():
                value, gradient = value_and_grad(partial(objective, steps=steps))(variables)
                rates, momenta, logs = ([leaf for _, leaf in named_leaves(g, "")] for g in gradient)
                return value, flat(np.stack(rates, 1), np.stack(momenta, 1), logs)

            return run

        prepared(min(3, steps))()  # the gradients are compiled here, where the framework compiles
        return prepared(steps)

    return prepare


def autograd_loss(problem: Problem):
    images, targets, _, _ = problem.digits

    def loss(weights, penalties, t):
        rows = slice(problem.first(t), problem.first(t) + problem.batch)
        log_probabilities = rl.models.mlp(weights, images[rows])
        return rl.losses.nll(log_probabilities, targets[rows]) + rl.losses.l2(weights, penalties)

    return loss


def jax_loss(problem: Problem):
    from with_jax import loss_for_revlearn

    return rl.gradients.jax(loss_for_revlearn(problem))


def torch_loss(problem: Problem):
    from with_torch import loss_for_revlearn

    return rl.gradients.torch(loss_for_revlearn(problem))


with_autograd = contender(autograd_loss, rl.train)
with_jax = contender(jax_loss, rl.train)
with_torch = contender(torch_loss, rl.train)


def checkpointed(checkpoints, loss_of=autograd_loss):
    """Revlearn's own checkpoints, where this version has them."""

    def prepare(problem: Problem, steps: int):
        train = partial(rl.estimators.checkpointed.train, checkpoints=checkpoints)
        return contender(loss_of, train)(problem, steps)

    return prepare


def stated_bits(problem: Problem, steps: int) -> int:
    """Return the bits that the information buffers of a run occupy.

    They follow from the ratios alone, so a loss that costs nothing will do.
    """
    momenta = problem.nest(problem.momenta(steps).T)
    tape = rl.record(
        lambda weights, hyper, t: 0.0 * weights[0]["biases"][0],
        problem.layers,
        None,
        rl.SGD(0.0, momenta),
        steps,
    )
    return tape.num_bits
