"""An average of the weights around every rule: what it is, and derivatives through it."""

import autograd.numpy as np
import pytest
from autograd import value_and_grad

import revlearn as rl
from revlearn.parameters import Layout

START = {"a": np.array([0.3, -0.7, 1.1]), "b": np.array([0.4])}
STEPS = 12
RULES = {
    "SGD": lambda s: rl.SGD(s["rate"], s["kept"]),
    "Nesterov": lambda s: rl.Nesterov(s["rate"], s["kept"], direction_bits=4),
    "RMSprop": lambda s: rl.RMSprop(s["rate"], s["kept"], epsilon=1e-3),
    "Adam": lambda s: rl.Adam(s["rate"], s["kept"], epsilon=1e-3),
    "AdamW": lambda s: rl.AdamW(s["rate"], s["kept"], epsilon=1e-3),
}
NESTINGS = {
    "averaged": lambda rule, s: rl.Averaged(rule, s["decay"]),
    "averaged, clipped inside": lambda rule, s: rl.Averaged(rl.Clipped(rule, 1.0), s["decay"]),
    "averaged, clipped outside": lambda rule, s: rl.Clipped(rl.Averaged(rule, s["decay"]), 1.0),
}


def loss(weights, hyper, t):
    return np.sum(np.cos(hyper * weights["a"] + 0.1 * t)) + np.sum(weights["b"] ** 4)


def outer(weights):
    return np.sum(weights["a"] ** 2) + np.sum(weights["b"] * weights["a"][0])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("nesting", NESTINGS.values(), ids=NESTINGS.keys())
def test_hypergradients_go_through_the_average_of_every_rule(rule, nesting):
    random = np.random.RandomState(0)
    hyper = {
        "weights": START,
        "velocity": {"a": 0.1 * random.randn(3), "b": 0.1 * random.randn(1)},
        "loss": np.array([1.0, 2.0, 0.7]),
        "schedules": {
            "rate": {name: 0.1 + 0.05 * random.rand(STEPS) for name in START},
            "kept": 0.5 + 0.3 * random.rand(STEPS),
            "decay": {name: 0.6 + 0.3 * random.rand(STEPS) for name in START},
        },
    }

    def objective(train):
        def run(hyper):
            optimizer = nesting(rule(hyper["schedules"]), hyper["schedules"])
            start = hyper["weights"], hyper["loss"]
            return outer(train(loss, *start, optimizer, STEPS, velocity=hyper["velocity"]))

        return run

    reference, expected = value_and_grad(objective(rl.estimators.unrolled.train))(hyper)
    layout = Layout(hyper, "hyper")
    for train in (rl.train, rl.estimators.checkpointed.train):
        value, exact = value_and_grad(objective(train))(hyper)
        assert value == pytest.approx(reference, rel=1e-8)
        difference = layout.flatten(exact) - layout.flatten(expected)
        for name, place in zip(layout.names, layout.slices, strict=True):
            size = np.linalg.norm(layout.flatten(expected)[place])
            assert size > 0, name
            assert np.linalg.norm(difference[place]) < 1e-6 * size, name


def test_it_is_the_average_of_the_weights_that_were_trained():
    decay = np.linspace(0.6, 0.95, STEPS)
    rule = rl.SGD(0.2, 0.5)
    path = []
    plain = rl.record(loss, START, 1.0, rule, STEPS, callback=lambda t, w, v, g: path.append(w))
    averaged = rl.record(loss, START, 1.0, rl.Averaged(rule, decay), STEPS)
    for name in START:
        later = [weights[name] for weights in path[1:]] + [plain.weights[name]]
        expected = START[name]
        for kept, weights in zip(decay, later, strict=True):
            expected = kept * expected + (1 - kept) * weights
        assert averaged.weights[name] == pytest.approx(expected, abs=1e-6)
        assert not np.allclose(averaged.weights[name], plain.weights[name], atol=1e-3)
    returned = rl.train(loss, START, 1.0, rl.Averaged(rule, decay), STEPS)
    for name in START:
        assert np.array_equal(returned[name], averaged.weights[name])
    # Backwards one sees the weights themselves.
    for t, weights, _ in averaged.rewind():
        assert np.array_equal(weights["a"], path[t]["a"])


def test_without_steps_it_is_the_start_and_with_decay_one_it_stays_there():
    for decay, steps in ((0.9, 0), (1.0, 20)):
        optimizer = rl.Averaged(rl.SGD(0.2, 0.5), decay)
        for train in (rl.train, rl.estimators.unrolled.train, rl.estimators.checkpointed.train):
            value, slope = value_and_grad(
                lambda w, f=train, o=optimizer, n=steps: outer(f(loss, w, 1.0, o, n))
            )(START)
            assert value == pytest.approx(outer(START), rel=1e-12)
            assert slope["a"] == pytest.approx(2 * START["a"] + np.array([0.4, 0, 0]), rel=1e-9)


def test_the_average_is_exact_to_half_units():
    """Python's integers as the reference."""
    decay, steps = 0.999, 500
    path = []
    tape = rl.record(
        lambda w, h, t: 0.5 * np.sum(w * w) + np.sum(w) * np.cos(t),
        np.array([0.7, -1e-9]),
        None,
        rl.Averaged(rl.SGD(0.1, 0.5), decay),
        steps,
        callback=lambda t, w, v, g: path.append([int(x) for x in w * 2.0**52]),
    )
    path.append([int(x) for x in tape._run.integers["weights"]])
    n, d = round(decay * 2**24), 2**24
    for i in (0, 1):
        average = path[0][i]
        for later in path[1:]:
            average = (2 * average * n + d) // (2 * d) + round(later[i] * (1 - n / d))
        assert int(tape._run.integers["average"][i]) == average


def test_what_cannot_be_meant_is_refused():
    rule = rl.SGD(0.1, 0.5)
    with pytest.raises(ValueError, match="keeps an average already"):
        rl.Averaged(rl.Clipped(rl.Averaged(rule, 0.9), 1.0), 0.9)
    with pytest.raises(ValueError, match="clips its gradients already"):
        rl.Clipped(rl.Averaged(rl.Clipped(rule, 2.0), 0.9), 1.0)
    for wrong in (0.5, 1.5):
        with pytest.raises(ValueError, match=rf"average_decay\['b'\] is {wrong} at step 0"):
            rl.train(loss, START, 1.0, rl.Averaged(rule, {"a": 0.9, "b": wrong}), 3)
