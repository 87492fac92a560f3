"""Make book/images/opening.png, the picture that opens README and the book.

python tools/opening_picture.py
"""

from pathlib import Path

import autograd.numpy as np
import matplotlib.pyplot as plt
from autograd import grad

import revlearn as rl
from revlearn import plotting
from revlearn.parameters import Layout, map_leaves

TARGET = Path(__file__).parents[1] / "book/images/opening.png"
GAMMA, RATE = 0.9, 0.3


def problem(sizes):
    train, validation = rl.datasets.mnist_subset().split(500, 1000)
    start = map_leaves(lambda w: 0.1 * w, rl.models.init_mlp(sizes, np.random.RandomState(0)))

    def loss(weights, hyper, t):
        rows = slice(100 * t % 500, 100 * t % 500 + 100)
        return rl.losses.nll(rl.models.mlp(weights, train.images[rows]), train.targets[rows])

    def validation_loss(weights):
        return rl.losses.nll(rl.models.mlp(weights, validation.images), validation.targets)

    return start, loss, validation_loss


def float_misses(steps):
    """Return how far a run in floats is from its own way forth while it goes back."""
    start, loss, _ = problem([784, 10])
    layout, states, slope = Layout(start, "weights"), [], grad(loss)
    w = layout.flatten(start)
    v = np.zeros_like(w)
    for t in range(steps):
        states.append(w)
        v = GAMMA * v - (1 - GAMMA) * layout.flatten(slope(layout.unflatten(w), None, t))
        w = w + RATE * v
    misses = []
    for t in reversed(range(steps)):
        w = w - RATE * v
        v = (v + (1 - GAMMA) * layout.flatten(slope(layout.unflatten(w), None, t))) / GAMMA
        misses.append(np.abs(w - states[t]).max())
    return np.array(misses)


def exact_misses(steps):
    """Return the same for a run in integers with an information buffer."""
    start, loss, _ = problem([784, 10])
    layout, states = Layout(start, "weights"), []

    def remember(t, w, v, g):
        states.append(layout.flatten(w))

    tape = rl.record(loss, start, None, rl.SGD(RATE, GAMMA), steps, callback=remember)
    return np.array([np.abs(layout.flatten(w) - states[t]).max() for t, w, _ in tape.rewind()])


def hypergradients(steps):
    start, loss, validation_loss = problem([784, 30, 20, 10])
    log_rates = map_leaves(lambda w: np.log(RATE) * np.ones(steps), start)

    def objective(log_rates):
        rates = map_leaves(np.exp, log_rates)
        return validation_loss(rl.train(loss, start, None, rl.SGD(rates, GAMMA), steps))

    return grad(objective)(log_rates)


def main() -> None:
    plotting.use_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    floats, exact = float_misses(500), exact_misses(500)
    back = np.arange(1, 501)
    left.semilogy(back, np.maximum(floats, 1e-17), label="64-bit floats")
    left.semilogy(back, np.maximum(exact, 1e-17), label="integers and buffer: 0", linestyle="--")
    left.set(
        xlabel="steps undone",
        ylabel="largest error of a weight (floor 1e-17)",
        title="Training, run backwards",
    )
    left.legend(loc="upper left")
    for layer, slopes in enumerate(hypergradients(100), start=1):
        for kind, style in (("weights", "-"), ("biases", ":")):
            colour = list(plotting.COLOURS.values())[layer - 1]
            label = f"layer {layer}, {kind}"
            right.plot(slopes[kind], color=colour, linestyle=style, label=label)
    right.set(
        xlabel="training step $t$",
        ylabel=r"$\partial f / \partial \log \alpha_t$ (nats)",
        title="Its gradient for every learning rate",
    )
    right.legend(fontsize=8, ncols=2)
    partial = TARGET.with_suffix(".partial.png")
    figure.savefig(partial, dpi=130)
    partial.replace(TARGET)
    print(f"float error after 500 steps {floats[-1]:.1e}, exact error {exact.max():.1e}")


if __name__ == "__main__":
    main()
