"""Contenders in JAX: scans, with and without checkpoints. The whole run is one compiled program."""

from __future__ import annotations

from math import isqrt

import jax
import jax.numpy as jnp
from jax import lax

from problems import Problem, flat

jax.config.update("jax_enable_x64", True)
# One thread, as everywhere: JAX would have another one run what it compiled.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def nll(leaves, images, targets):
    """Mean negative log-likelihood of a perceptron with tanh units."""
    *hidden, (weights, biases) = list(zip(leaves[::2], leaves[1::2], strict=True))
    for inner, shift in hidden:
        images = jnp.tanh(images @ inner + shift)
    return -jnp.sum(jax.nn.log_softmax(images @ weights + biases) * targets) / len(targets)


def training_loss(problem: Problem):
    """Return the loss of (leaves, penalties, t, images, targets)."""

    def loss(leaves, penalties, t, images, targets):
        first = problem.first(t)
        rows = (lax.dynamic_slice_in_dim(all_, first, problem.batch) for all_ in (images, targets))
        penalty = sum(jnp.sum(p * (w * w)) for p, w in zip(penalties, leaves, strict=True))
        return nll(leaves, *rows) + penalty

    return loss


def training(problem: Problem, scan):
    """Return the final weights as a function of (variables, start, digits)."""
    gradient_of = jax.grad(training_loss(problem))

    def train(variables, start, digits):
        rates, momenta, log_penalties = variables
        images, targets, _, _ = digits
        penalties = [jnp.exp(log) for log in log_penalties]

        def step(state, now):
            weights, velocity = state
            rates, momenta, t = now
            gradient = gradient_of(weights, penalties, t, images, targets)
            velocity = [
                m * v - (1.0 - m) * g for m, v, g in zip(momenta, velocity, gradient, strict=True)
            ]
            weights = [w + a * v for w, a, v in zip(weights, rates, velocity, strict=True)]
            return (weights, velocity), None

        state = (start, [jnp.zeros_like(leaf) for leaf in start])
        return scan(step, state, (rates, momenta, jnp.arange(len(rates))))[0]

    return train


def compiled(problem: Problem, steps: int, function):
    """Compile for these shapes, and return what runs it."""
    variables = (problem.rates(steps), problem.momenta(steps), problem.log_penalties)
    arguments = jax.tree.map(jnp.asarray, (variables, problem.leaves, problem.digits))
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def plain(problem: Problem, steps: int):
    """Train and keep nothing: one scan, which is as fast as a loop over a compiled step."""
    train = compiled(problem, steps, training(problem, plain_scan))
    held_out = [jnp.asarray(array) for array in problem.digits[2:]]

    # The validation loss is not in the program: alone, without a gradient, XLA makes one piece of
    # it that takes a second on the large problem, and 0.1 s operation by operation.
    def run():
        return float(nll(train(), *held_out)), None

    nll(jax.tree.map(jnp.asarray, problem.leaves), *held_out)
    return run


def contender(scan):
    def prepare(problem: Problem, steps: int):
        train = training(problem, scan)

        def objective(variables, start, digits):
            return nll(train(variables, start, digits), *digits[2:])

        value_and_gradient = compiled(problem, steps, jax.value_and_grad(objective))

        def run():
            value, gradient = value_and_gradient()
            return float(value), flat(*gradient)

        return run

    return prepare


def plain_scan(step, state, rows):
    return lax.scan(step, state, rows)[0]


def remat_scan(step, state, rows):
    """Keep the state before each step, and take the step again on the way back."""
    # Inside a scan nothing can be shared between the two, so XLA need not be kept from it.
    return plain_scan(jax.checkpoint(step, prevent_cse=False), state, rows)


def root_scan(step, state, rows, inner=plain_scan):
    """Keep the state before each of √T blocks of √T steps; run a block again on the way back."""
    steps = len(rows[0])
    length = isqrt(steps)
    while steps % length:
        length -= 1
    blocks = [row.reshape(steps // length, length, *row.shape[1:]) for row in rows]

    def block(state, rows):
        return inner(step, state, rows), None

    return remat_scan(block, state, tuple(blocks))


def two_level_scan(step, state, rows):
    """√T blocks, and inside a block each step again."""
    return root_scan(step, state, rows, inner=remat_scan)


unrolled = contender(plain_scan)
remat = contender(remat_scan)
root = contender(root_scan)
two_level = contender(two_level_scan)


def loss_for_revlearn(problem: Problem):
    """Return the training loss of (nest of weights, nest of penalties, t)."""
    loss = training_loss(problem)
    images, targets = (jnp.asarray(array) for array in problem.digits[:2])

    def nested(weights, penalties, t):
        leaves, factors = (
            [layer[name] for layer in nest for name in ("weights", "biases")]
            for nest in (weights, penalties)
        )
        return loss(leaves, factors, t, images, targets)

    return nested
