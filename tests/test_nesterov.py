"""Nesterov's method: the rule of the literature, its price, what is noticed on the way back."""

import autograd.numpy as np
import pytest
from autograd import grad

import revlearn as rl

SCALES = np.array([1.0, 3.0, 0.5, 2.0])


def loss(weights, hyper, t):
    return np.sum(np.cos(SCALES * weights + 0.1 * t))


def slope(weights, t):
    return -SCALES * np.sin(SCALES * weights + 0.1 * t)


START = np.array([0.3, -0.7, 1.1, 0.2])
RATE, MOMENTUM, STEPS = 0.25, 0.75, 40


def test_it_is_the_rule_of_pytorch():
    """torch.optim.SGD(nesterov=True), whose velocity counts otherwise; written anew."""
    weights, buffer = START, np.zeros(4)
    for t in range(STEPS):
        gradient = slope(weights, t)
        buffer = MOMENTUM * buffer + gradient
        weights = weights - RATE * (1 - MOMENTUM) * (gradient + MOMENTUM * buffer)
    ours = rl.train(loss, START, None, rl.Nesterov(RATE, MOMENTUM), STEPS)
    assert np.linalg.norm(ours - weights) < 1e-6 * np.linalg.norm(weights)


def test_it_is_the_rule_with_gradients_at_the_points_ahead():
    """Sutskever and others: our weights are their points ahead, w + αγv."""
    weights, velocity, ahead = START, np.zeros(4), START
    for t in range(STEPS):
        velocity = MOMENTUM * velocity - (1 - MOMENTUM) * slope(ahead, t)
        weights = weights + RATE * velocity
        ahead = weights + RATE * MOMENTUM * velocity
    ours = rl.train(loss, START, None, rl.Nesterov(RATE, MOMENTUM), STEPS)
    assert np.linalg.norm(ours - ahead) < 1e-6 * np.linalg.norm(ahead)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_each_bit_halves_the_deviation(bits):
    """From the rule in floats that forgets its direction at once."""
    weights, velocity = START, np.zeros(4)
    for t in range(STEPS):
        velocity = MOMENTUM * velocity - (1 - MOMENTUM) * slope(weights, t)
        weights = weights + RATE * (MOMENTUM * velocity - (1 - MOMENTUM) * slope(weights, t))
    optimizer = rl.Nesterov(RATE, MOMENTUM, direction_bits=bits)
    tape = rl.record(loss, START, None, optimizer, STEPS)
    deviation = np.linalg.norm(tape.weights - weights) / np.linalg.norm(weights)
    assert 0.01 * 2.0**-bits < deviation < 2.0**-bits
    assert tape.information == pytest.approx(STEPS * 4 * (bits + np.log2(4 / 3)), rel=1e-9)
    for _, back, _ in tape.rewind():
        pass
    assert np.array_equal(back, rl.from_fixed(rl.to_fixed(START)))


def test_a_momentum_next_to_nothing_is_gradient_descent():
    weights = START
    for t in range(STEPS):
        weights = weights - 0.1 * slope(weights, t)
    for optimizer in (rl.Nesterov(0.1, 2.0**-16), rl.SGD(0.1, 2.0**-32, momentum_bits=32)):
        ours = rl.train(loss, START, None, optimizer, STEPS)
        assert np.linalg.norm(ours - weights) < 1e-6 * np.linalg.norm(weights)


def test_what_spills_to_disk_comes_back(tmp_path):
    optimizer, layout = rl.Nesterov(RATE, MOMENTUM), rl.parameters.Layout(START, "weights")
    held = rl.record(loss, START, None, optimizer, 200)
    spilled = rl.record(loss, START, None, optimizer, 200, spill_to=tmp_path)
    assert spilled.num_bits == held.num_bits > 200 * 4 * 24
    d_weights = np.ones(layout.size)
    one, other = held.pull_back(d_weights), spilled.pull_back(d_weights)
    for name in one.schedules:
        assert np.array_equal(one.schedules[name], other.schedules[name])
    assert np.array_equal(one.slots["weights"], other.slots["weights"])


@pytest.mark.parametrize("k", [0, 7, 19])
@pytest.mark.parametrize(
    "optimizer",
    [rl.Nesterov(0.1, 0.9), rl.Averaged(rl.Nesterov(0.1, 0.9), 0.9)],
    ids=["plain", "averaged"],
)
def test_an_irreproducible_gradient_is_reported_at_its_step(k, optimizer):
    visits = []

    def jittering(weights, hyper, t):
        visits.append(t)
        jitter = 1e-14 * visits.count(t) if t == k else 0.0
        return loss(weights, hyper, t) * (1.0 + jitter)

    tape = rl.record(jittering, START, None, optimizer, 20)
    with pytest.raises(rl.ReversalError, match=rf"at step {k}, leaf weights"):
        list(tape.rewind())
    visits.clear()
    with pytest.raises(rl.ReversalError) as caught:
        grad(lambda w: np.sum(rl.train(jittering, w, None, optimizer, 20)))(START)
    assert caught.value.step == k


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="direction_bits must lie in"):
        rl.Nesterov(0.1, 0.9, direction_bits=33)
    with pytest.raises(ValueError, match=r"momentum is 0.0 at step 0"):
        rl.train(loss, START, None, rl.Nesterov(0.1, 0.0), 3)
    with pytest.raises(rl.FixedPointOverflowError, match=r"at step \d+, leaf direction\[\d+\]"):
        rl.train(lambda w, h, t: 3000.0 * np.sum(w), START, None, rl.Nesterov(1e-4, 0.99), 200)
