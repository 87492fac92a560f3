"""What one hypergradient costs, as ratios within one run.

    make benchmark

The network is 784-50-50-50-10 with minibatches of 250 real digits, rates and momenta for each leaf
and step. Each measurement runs in a fresh process, plain training and hypergradient in turn; the
smallest ratio of the repeats and their median are printed.

- Time: seconds of one hypergradient over seconds of the same training with autograd's gradient and
  floats, nothing kept.
- Memory: peak memory of a hypergradient through T + 500 steps less that through T steps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import autograd.numpy as np
from autograd import grad, value_and_grad

import revlearn as rl
from revlearn.parameters import Layout, map_leaves

SIZES, BATCH = [784, 50, 50, 50, 10], 250
MOST_TIME, MOST_MEGABYTES = 4.5, 6.0


def problem():
    train, validation = rl.datasets.mnist_subset().split(4000, 1000)
    images, targets = train.images, train.targets
    held_out, held_out_targets = validation.images, validation.targets
    start = rl.models.init_mlp(SIZES, np.random.RandomState(0), scale=0.1)

    def loss(weights, hyper, t):
        rows = slice(BATCH * t % 4000, BATCH * t % 4000 + BATCH)
        return rl.losses.nll(rl.models.mlp(weights, images[rows]), targets[rows])

    def validation_loss(weights):
        return rl.losses.nll(rl.models.mlp(weights, held_out), held_out_targets)

    return start, loss, validation_loss


def plain_training(start, loss, steps):
    """Train in floats with one flat vector, as anyone would write it with autograd."""
    layout = Layout(start, "weights")
    gradient = grad(lambda flat, t: loss(layout.unflatten(flat), None, t))
    weights = layout.flatten(start)
    velocity = np.zeros_like(weights)
    for t in range(steps):
        velocity = 0.9 * velocity - 0.1 * gradient(weights, t)
        weights = weights + 0.3 * velocity
    return weights


def hypergradient(start, loss, validation_loss, steps):
    hyper = {
        "rate": map_leaves(lambda w: 0.3 * np.ones(steps), start),
        "momentum": map_leaves(lambda w: 0.9 * np.ones(steps), start),
    }

    def objective(hyper):
        optimizer = rl.SGD(hyper["rate"], hyper["momentum"])
        return validation_loss(rl.train(loss, start, None, optimizer, steps))

    return value_and_grad(objective)(hyper)


def measure_time(steps: int) -> dict[str, float]:
    start, loss, validation_loss = problem()
    plain_training(start, loss, 3)
    hypergradient(start, loss, validation_loss, 3)
    plain, full = [], []
    for _ in range(3):
        began = time.perf_counter()
        plain_training(start, loss, steps)
        plain.append(time.perf_counter() - began)
        began = time.perf_counter()
        hypergradient(start, loss, validation_loss, steps)
        full.append(time.perf_counter() - began)
    return {
        "plain_seconds": min(plain),
        "hypergradient_seconds": min(full),
        "ratio": statistics.median(f / p for f, p in zip(full, plain, strict=True)),
    }


def measure_memory(steps: int) -> dict[str, float]:
    start, loss, validation_loss = problem()
    hypergradient(start, loss, validation_loss, steps)
    return {"peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_fresh_process(what: str, steps: int) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, __file__, "--only", what, "--steps", str(steps)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes per measurement")
    parser.add_argument("--only", choices=["time", "memory"], help="one measurement, as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        measure = {"time": measure_time, "memory": measure_memory}[arguments.only]
        print(json.dumps(measure(arguments.steps)))
        return 0
    times = [in_fresh_process("time", arguments.steps) for _ in range(arguments.repeats)]
    ratio = statistics.median(run["ratio"] for run in times)
    print(f"plain training    {min(run['plain_seconds'] for run in times):8.2f} s")
    print(f"one hypergradient {min(run['hypergradient_seconds'] for run in times):8.2f} s")
    print(f"ratio             {ratio:8.2f}   (at most {MOST_TIME}; the ideal is 3.4)")
    short, long = (
        statistics.median(
            in_fresh_process("memory", steps)["peak_megabytes"] for _ in range(arguments.repeats)
        )
        for steps in (arguments.steps, arguments.steps + 500)
    )
    print(f"peak memory at T  {short:8.2f} MB")
    print(f"500 more steps    {long - short:8.2f} MB (at most {MOST_MEGABYTES})")
    return 0 if ratio <= MOST_TIME and long - short <= MOST_MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
