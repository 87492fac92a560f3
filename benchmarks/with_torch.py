"""Contenders in PyTorch, on the processor, run eagerly."""

from __future__ import annotations

import torch

from problems import Problem, flat

torch.set_num_threads(1)


def nll(leaves, images, targets):
    """Mean negative log-likelihood of a perceptron with tanh units."""
    *hidden, (weights, biases) = list(zip(leaves[::2], leaves[1::2], strict=True))
    for inner, shift in hidden:
        images = torch.tanh(torch.addmm(shift, images, inner))
    scores = torch.addmm(biases, images, weights)
    return -torch.sum(torch.log_softmax(scores, 1) * targets) / len(targets)


def losses(problem: Problem):
    """Return the training loss of (leaves, penalties, t), and the validation loss of leaves."""
    images, targets, held_out, held_out_targets = map(torch.from_numpy, problem.digits)

    def loss(leaves, penalties, t):
        rows = slice(problem.first(t), problem.first(t) + problem.batch)
        penalty = sum(torch.sum(p * (w * w)) for p, w in zip(penalties, leaves, strict=True))
        return nll(leaves, images[rows], targets[rows]) + penalty

    return loss, lambda leaves: nll(leaves, held_out, held_out_targets)


def plain(problem: Problem, steps: int):
    """Train and keep nothing; the updates work in place."""
    loss, validation_loss = losses(problem)
    rates, momenta = problem.rates(steps).tolist(), problem.momenta(steps).tolist()
    penalties = [torch.exp(torch.from_numpy(log)) for log in problem.log_penalties]

    def run(steps=steps):
        weights = [torch.tensor(leaf, requires_grad=True) for leaf in problem.leaves]
        velocity = [torch.zeros_like(leaf) for leaf in weights]
        for t in range(steps):
            gradient = torch.autograd.grad(loss(weights, penalties, t), weights)
            with torch.no_grad():
                for i, w in enumerate(weights):
                    velocity[i].mul_(momenta[t][i]).sub_(gradient[i], alpha=1.0 - momenta[t][i])
                    w.add_(velocity[i], alpha=rates[t][i])
        with torch.no_grad():
            return float(validation_loss(weights)), None

    run(min(3, steps))
    return run


def unrolled(problem: Problem, steps: int):
    """Let PyTorch keep every step."""
    loss, validation_loss = losses(problem)

    def run(steps=steps):
        schedules = [
            torch.tensor(rows, requires_grad=True)
            for rows in (problem.rates(steps), problem.momenta(steps))
        ]
        logs = [torch.tensor(log, requires_grad=True) for log in problem.log_penalties]
        penalties = [torch.exp(log) for log in logs]
        # Cut once: the derivative of an index is a whole array of zeros for each use.
        rates, momenta = ([row.unbind() for row in rows.unbind()] for rows in schedules)
        weights = [torch.tensor(leaf, requires_grad=True) for leaf in problem.leaves]
        velocity = [torch.zeros_like(leaf) for leaf in weights]
        for t in range(steps):
            gradient = torch.autograd.grad(loss(weights, penalties, t), weights, create_graph=True)
            velocity = [
                m * v - (1.0 - m) * g
                for m, v, g in zip(momenta[t], velocity, gradient, strict=True)
            ]
            weights = [w + a * v for w, a, v in zip(weights, rates[t], velocity, strict=True)]
        value = validation_loss(weights)
        d_rates, d_momenta, *d_logs = torch.autograd.grad(value, [*schedules, *logs])
        return float(value.detach()), flat(d_rates, d_momenta, d_logs)

    run(min(3, steps))
    return run


def loss_for_revlearn(problem: Problem):
    """Return the training loss of (nest of weights, nest of penalties, t)."""
    loss, _ = losses(problem)

    def nested(weights, penalties, t):
        leaves, factors = (
            [layer[name] for layer in nest for name in ("weights", "biases")]
            for nest in (weights, penalties)
        )
        return loss(leaves, factors, t)

    return nested
