"""The schedule editor's built-in problem, trained by revlearn, and a schedule learned on it.

Run as a script, it writes ``golden/schedule_editor.json`` and prints the learned schedule.
"""

import json
from pathlib import Path

import autograd.numpy as np
import numpy as onp
from autograd import value_and_grad

import revlearn as rl
from revlearn.widgets import schedule_editor as editor

GOLDEN = Path(__file__).parent / "golden/schedule_editor.json"
STEPS = editor.STEPS
IMAGES, TARGETS = editor.digits()
LOWEST, HIGHEST = {"learning_rate": 0.1, "momentum": 0.3}, {"learning_rate": 20, "momentum": 0.995}
WARPS = {"learning_rate": (np.log, np.exp), "momentum": (rl.logit, rl.sigmoid)}


def nll(weights, images, targets):
    return rl.losses.nll(rl.models.mlp(weights, images), targets)


def training_loss(weights, hyper, t):
    first = t * editor.BATCH % editor.TRAINING
    rows = slice(first, first + editor.BATCH)
    return nll(weights, IMAGES[rows], TARGETS[rows])


def trained(rates, momenta):
    """Train with two layers' rates and momenta."""
    nests = [[{"weights": s, "biases": s} for s in both] for both in (rates, momenta)]
    return rl.train(training_loss, editor.initial_weights(), None, rl.SGD(*nests), STEPS)


def final_loss(rates, momenta):
    held_out = slice(editor.TRAINING, None)
    return nll(trained(rates, momenta), IMAGES[held_out], TARGETS[held_out])


def by_step(points):
    """Return the schedules of points, by numpy's own interpolation."""
    made = {}
    for kind, (warp, back) in WARPS.items():
        made[kind] = []
        for schedule in points[kind]:
            at, values = onp.array(schedule).T
            made[kind].append(back(onp.interp(onp.arange(STEPS), at, warp(values))))
    return made


def loss_of(points):
    return float(final_loss(*by_step(points).values()))


def value_and_slopes(rates, momenta):
    """Return the final loss and its derivatives by the rates and the momenta."""
    value, slopes = value_and_grad(lambda four: final_loss(four[:2], four[2:]))([*rates, *momenta])
    return float(value), slopes[:2], slopes[2:]


def descend(points, evaluations):
    """Follow the hypergradient at the points; halve the step when the loss would rise."""
    at = [t for t, _ in points["learning_rate"][0]]
    basis = onp.stack([onp.interp(onp.arange(STEPS), at, row) for row in onp.eye(len(at))], axis=1)
    warps = [warp for warp in WARPS for _ in range(2)]
    x = onp.stack([WARPS[k][0](onp.array(s)[:, 1]) for k in WARPS for s in points[k]])
    low, high = (
        onp.array([WARPS[k][0](float(limits[k])) for k in warps])[:, None]
        for limits in (LOWEST, HIGHEST)
    )

    def loss(x):
        rows = [WARPS[k][1](np.dot(basis, x[i])) for i, k in enumerate(warps)]
        return final_loss(rows[:2], rows[2:])

    outer = value_and_grad(loss)
    value, slope = outer(x)
    step = 0.25
    for _ in range(evaluations - 1):
        ahead = onp.clip(x - step * slope / onp.abs(slope).max(), low, high)
        try:
            new_value, new_slope = outer(ahead)
        except rl.RevlearnError:
            new_value = onp.inf
        if new_value < value:
            x, value, slope, step = ahead, new_value, new_slope, 1.3 * step
        else:
            step *= 0.5
    numbers = iter(x)
    return {
        kind: [
            [[t, float(f"{v:.4g}")] for t, v in zip(at, back(next(numbers)), strict=True)]
            for _ in range(2)
        ]
        for kind, (_, back) in WARPS.items()
    }


def golden(presets):
    """Return the final loss and the hypergradients of each preset."""
    made = {}
    for name, points in presets.items():
        value, d_rates, d_momenta = value_and_slopes(*by_step(points).values())
        made[name] = {
            "value": value,
            "learning_rate": [row.tolist() for row in d_rates],
            "momentum": [row.tolist() for row in d_momenta],
        }
    return made


if __name__ == "__main__":
    presets = editor.ScheduleEditor().presets
    learned = descend(presets["constant, 0.3"], 200)
    print(json.dumps(learned, indent=1), loss_of(learned))
    GOLDEN.write_text(json.dumps(golden({**presets, "learned": learned})) + "\n")
