"""Revlearn as a contender: exact reversal with a loss in any framework, and its checkpoints."""

from __future__ import annotations

from functools import partial

import autograd.numpy as np
from autograd import value_and_grad

import revlearn as rl
from problems import Problem, flat
from revlearn.parameters import map_leaves, named_leaves


def validation_loss(problem: Problem):
    _, _, held_out, held_out_targets = problem.digits
    return lambda weights: rl.losses.nll(rl.models.mlp(weights, held_out), held_out_targets)


def reversed_training(loss_of):
    """Train, take the gradient of the validation loss, and carry it back: three calls.

    In one expression, `rl.train` inside of `value_and_grad`, autograd would keep all that the
    validation loss computed until the way back is over.
    """

    def prepare(problem: Problem, steps: int):
        loss, value_and_slope = loss_of(problem), value_and_grad(validation_loss(problem))

        def judge(weights):
            value, slope = value_and_slope(weights)
            return value, leaves(slope)

        def prepared(steps):
            rates, momenta = problem.rates(steps).T, problem.momenta(steps).T
            optimizer = rl.SGD(problem.nest(rates), problem.nest(momenta))

            def run():
                penalties = problem.nest(map(np.exp, problem.log_penalties))
                tape = rl.record(loss, problem.layers, penalties, optimizer, steps)
                del penalties  # the tape has its own
                value, *d_weights = judge(tape.weights)
                adjoint = tape.pull_back(d_weights.pop(), last=True)  # so that it can go
                d_rates, d_momenta = adjoint.schedules.values()
                d_logs = adjoint.hyper * np.exp(leaves(problem.nest(problem.log_penalties)))
                return value, flat(d_rates.T, d_momenta.T, [d_logs])

            return run

        prepared(min(3, steps))()  # the gradients are compiled here, where the framework compiles
        return prepared(steps)

    return prepare


def leaves(nest) -> np.ndarray:
    """Return all leaves as one vector."""
    return np.concatenate([leaf.reshape(-1) for _, leaf in named_leaves(nest, "")])


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


with_autograd = reversed_training(autograd_loss)
with_jax = reversed_training(jax_loss)
with_torch = reversed_training(torch_loss)


def checkpointed(checkpoints):
    """Revlearn's own checkpoints: training as one operation of autograd."""

    def prepare(problem: Problem, steps: int):
        loss, value_of = autograd_loss(problem), validation_loss(problem)

        def objective(variables, steps):
            rates, momenta, logs = map(problem.nest, variables)
            optimizer, penalties = rl.SGD(rates, momenta), map_leaves(np.exp, logs)
            train = partial(rl.estimators.checkpointed.train, checkpoints=checkpoints)
            return value_of(train(loss, problem.layers, penalties, optimizer, steps))

        def prepared(steps):
            schedules = (problem.rates(steps), problem.momenta(steps))
            variables = (*(list(rows.T) for rows in schedules), problem.log_penalties)

            def run():
                value, gradient = value_and_grad(partial(objective, steps=steps))(variables)
                rates, momenta, logs = gradient
                return value, flat(np.stack(rates, 1), np.stack(momenta, 1), logs)

            return run

        prepared(min(3, steps))()
        return prepared(steps)

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
