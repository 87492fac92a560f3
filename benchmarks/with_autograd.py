"""Contenders in autograd: unrolled, and the paper's method with Python's integers."""

from __future__ import annotations

import autograd.numpy as np
import numpy as onp
from autograd import grad, value_and_grad
from autograd.core import make_vjp

import revlearn as rl
from problems import DENOMINATOR, Problem, flat

UNIT = 2.0**52  # of fixed-point numbers, as in the paper


def losses(problem: Problem):
    """Return the training loss of (leaves, penalties, t), and the validation loss of leaves."""
    images, targets, held_out, held_out_targets = problem.digits

    def nll(leaves, images, targets):
        return rl.losses.nll(rl.models.mlp(problem.nest(leaves), images), targets)

    def loss(leaves, penalties, t):
        rows = slice(problem.first(t), problem.first(t) + problem.batch)
        penalty = sum(np.sum(p * (w * w)) for p, w in zip(penalties, leaves, strict=True))
        return nll(leaves, images[rows], targets[rows]) + penalty

    return loss, lambda leaves: nll(leaves, held_out, held_out_targets)


def plain(problem: Problem, steps: int):
    """Train and keep nothing."""
    loss, validation_loss = losses(problem)
    gradient_of = grad(loss)
    penalties = [np.exp(log) for log in problem.log_penalties]
    rates, momenta = problem.rates(steps), problem.momenta(steps)

    def run(steps=steps):
        weights = [leaf.copy() for leaf in problem.leaves]
        velocity = [np.zeros_like(leaf) for leaf in weights]
        for t in range(steps):
            for i, g in enumerate(gradient_of(weights, penalties, t)):
                velocity[i] = momenta[t, i] * velocity[i] - (1.0 - momenta[t, i]) * g
                weights[i] = weights[i] + rates[t, i] * velocity[i]
        return validation_loss(weights), None

    run(min(3, steps))
    return run


def unrolled(problem: Problem, steps: int):
    """Let autograd keep every step.

    Written out with one array for each leaf, which is faster than rl.estimators.unrolled.
    """
    loss, validation_loss = losses(problem)
    gradient_of = grad(loss)

    def prepared(steps):
        def objective(variables):
            rates, momenta, log_penalties = variables
            penalties = [np.exp(log) for log in log_penalties]
            weights = list(problem.leaves)
            velocity = [np.zeros_like(leaf) for leaf in weights]
            for t in range(steps):
                gradient = gradient_of(weights, penalties, t)
                for i in range(len(weights)):
                    momentum = momenta[t, i]
                    velocity[i] = momentum * velocity[i] - (1.0 - momentum) * gradient[i]
                    weights[i] = weights[i] + rates[t, i] * velocity[i]
            return validation_loss(weights)

        variables = (problem.rates(steps), problem.momenta(steps), problem.log_penalties)

        def run():
            value, gradient = value_and_grad(objective)(variables)
            return value, flat(*gradient)

        return run

    prepared(min(3, steps))()
    return prepared(steps)


def multiply(integers, buffer, n, d=DENOMINATOR):
    """Multiply by n/d in place; the buffer keeps what is lost (the paper's Algorithm 3)."""
    buffer *= d
    buffer += integers % d
    integers //= d
    integers *= n
    integers += (buffer % n).astype(onp.int64)
    buffer //= n


def divide(integers, buffer, n, d=DENOMINATOR):
    """Undo multiply."""
    buffer *= n
    buffer += integers % n
    integers //= n
    integers *= d
    integers += (buffer % d).astype(onp.int64)
    buffer //= d


def python_integers(problem: Problem, steps: int):
    """The paper's method: reverse training; each weight's buffer is one integer of Python.

    Gradient and Hessian-vector product come from one pass, and the ratio n/d stands for the
    momentum everywhere: both are better than in the paper's own code.
    """
    loss, validation_loss = losses(problem)
    gradient_of = grad(loss)
    value_and_slope = value_and_grad(validation_loss)
    penalties = [np.exp(log) for log in problem.log_penalties]
    rates, momenta = problem.rates(steps), problem.momenta(steps)
    numerators = onp.rint(momenta * DENOMINATOR).astype(int).tolist()
    leaves = range(len(problem.leaves))

    def fixed(values):
        return onp.rint(values * UNIT).astype(onp.int64)

    def run(steps=steps):
        weights = [fixed(leaf) for leaf in problem.leaves]
        velocity = [onp.zeros_like(leaf) for leaf in weights]
        buffers = [onp.zeros(leaf.shape, dtype=object) for leaf in weights]
        for t in range(steps):
            gradient = gradient_of([w / UNIT for w in weights], penalties, t)
            for i in leaves:
                multiply(velocity[i], buffers[i], numerators[t][i])
                velocity[i] -= fixed((1.0 - momenta[t, i]) * gradient[i])
                weights[i] += fixed(rates[t, i] * (velocity[i] / UNIT))

        value, d_weights = value_and_slope([w / UNIT for w in weights])
        d_velocity = [onp.zeros_like(dw) for dw in d_weights]
        d_penalties = [onp.zeros_like(dw) for dw in d_weights]
        d_rates, d_momenta = onp.zeros((2, steps, len(leaves)))
        for t in reversed(range(steps)):
            for i in leaves:
                later = velocity[i] / UNIT
                d_rates[t, i] = onp.vdot(d_weights[i], later)
                weights[i] -= fixed(rates[t, i] * later)
            arguments = ([w / UNIT for w in weights], penalties)
            pull_back, gradient = make_vjp(lambda both, t=t: gradient_of(*both, t), arguments)
            cotangents = []
            for i in leaves:
                velocity[i] += fixed((1.0 - momenta[t, i]) * gradient[i])
                divide(velocity[i], buffers[i], numerators[t][i])
                d_velocity[i] += rates[t, i] * d_weights[i]
                d_momenta[t, i] = onp.vdot(d_velocity[i], velocity[i] / UNIT + gradient[i])
                cotangents.append((momenta[t, i] - 1.0) * d_velocity[i])
                d_velocity[i] *= momenta[t, i]
            to_weights, to_penalties = pull_back(cotangents)
            for i in leaves:
                d_weights[i] += to_weights[i]
                d_penalties[i] += to_penalties[i]
        to_logs = [d * p for d, p in zip(d_penalties, penalties, strict=True)]
        return value, flat(d_rates, d_momenta, to_logs)

    run(min(3, steps))
    return run
