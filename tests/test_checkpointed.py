"""Checkpointing: the same hypergradient, with as few states and steps as theory says."""

from functools import cache
from math import comb

import autograd.numpy as np
import pytest
from autograd import value_and_grad
from hypothesis import given
from hypothesis import strategies as st

import revlearn as rl
from revlearn.estimators import checkpointed
from revlearn.gradients import AutogradGradients
from revlearn.information_buffer import InformationBuffer
from revlearn.optimizers.buffers import Rounding


def loss(weights, hyper, t):
    return np.sum(np.cos(weights * (1.0 + 0.1 * t))) + 0.5 * hyper * np.sum(weights**2)


def objective(train, steps, **options):
    def of(hyper):
        optimizer = rl.SGD(hyper["rates"], hyper["momenta"])
        final = train(loss, hyper["start"], hyper["penalty"], optimizer, steps, **options)
        return np.sum(final**2)

    return of


def hyperparameters(steps):
    random = np.random.RandomState(steps)
    return {
        "rates": 0.1 * random.rand(steps),
        "momenta": 0.5 + 0.4 * random.rand(steps),
        "start": random.randn(3),
        "penalty": 0.3,
    }


@pytest.mark.parametrize("checkpoints", ["all", "sqrt", "log", 1, 2, 5])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 13, 40])
def test_the_derivative_is_that_of_exact_reversal(checkpoints, steps):
    at = hyperparameters(steps)
    way = objective(checkpointed.train, steps, checkpoints=checkpoints)
    value, found = value_and_grad(way)(at)
    expected_value, expected = value_and_grad(objective(rl.train, steps))(at)
    assert value == pytest.approx(expected_value, rel=1e-9)
    for name, slope in expected.items():
        assert found[name] == pytest.approx(slope, rel=1e-7, abs=1e-12), name


@cache
def fewest_steps(length, states):
    """How many steps it takes to have every state of a run once, latest first: all ways tried."""
    if length <= 1:
        return 0
    if states == 1:
        return length * (length - 1) // 2
    return min(
        first + fewest_steps(length - first, states - 1) + fewest_steps(first, states)
        for first in range(1, length)
    )


@pytest.mark.parametrize("steps", [1, 2, 7, 24, 60])
@pytest.mark.parametrize("states", [1, 2, 3, 5, 9, 60])
def test_no_way_keeps_as_few_states_and_takes_fewer_steps(steps, states, monkeypatch):
    taken, most = [], 0
    gradient, keep = AutogradGradients.gradient, checkpointed.Checkpointed._keep

    def counted(self, weights, hyper, t):
        taken.append(t)
        return gradient(self, weights, hyper, t)

    def watched(self, t, stop):
        nonlocal most
        following = keep(self, t, stop)
        most = max(most, len(self._kept))
        return following

    monkeypatch.setattr(AutogradGradients, "gradient", counted)
    monkeypatch.setattr(checkpointed.Checkpointed, "_keep", watched)
    value_and_grad(objective(checkpointed.train, steps, checkpoints=states))(hyperparameters(steps))
    assert most <= states + 1  # one to work on
    # Training takes the last step for the value. The way back takes every step, with its pullback.
    assert len(taken) == fewest_steps(steps, states) + 1
    assert checkpointed.steps_taken(steps, states) == fewest_steps(steps, states)
    most_repeated = max(taken.count(t) for t in range(steps))
    assert most_repeated <= checkpointed.repetitions(steps, states)


def test_states_and_repetitions_are_those_of_the_text():
    assert checkpointed.count("all", 1000) == 1000
    states = checkpointed.count("sqrt", 1000)
    assert checkpointed.repetitions(1000, states) == 2
    assert checkpointed.repetitions(1000, states - 1) == 3
    assert comb(11 + 4, 4) >= 1000 > comb(11 + 3, 3)  # 11 states, each step at most 4 times
    assert checkpointed.repetitions(1000, checkpointed.count("log", 1000)) == 4


@pytest.mark.parametrize("wrong", [0, -1, 2.5, 2.0, "square", None, np.array([1, 2]), np.nan])
def test_what_is_no_number_of_states_is_refused(wrong):
    with pytest.raises(ValueError, match="checkpoints must be"):
        checkpointed.train(loss, np.ones(3), 0.3, rl.SGD(0.1, 0.9), 3, checkpoints=wrong)


def test_whole_numbers_of_any_kind_are_states():
    for number in (np.int64(3), np.uint8(3), np.array(3)):
        found = checkpointed.count(number, 10)
        assert found == 3
        assert type(found) is int
    assert [checkpointed.count(kind, 0) for kind in ("all", "sqrt", "log")] == [1, 1, 1]


def test_the_derivative_can_be_taken_again():
    at = hyperparameters(20)
    setup = rl.setup.Setup(loss, at["start"], 0.3, rl.SGD(0.1, 0.9), 20, 52)
    run = checkpointed.Checkpointed(setup, *setup.flatten(at["start"], 0.3), states=4)
    first, second = (run.pull_back(np.ones(3)) for _ in range(2))
    assert np.array_equal(first.slots["weights"], second.slots["weights"])
    assert np.array_equal(first.schedules["momentum"], second.schedules["momentum"])


@given(
    st.integers(-(2**62), 2**62),
    st.integers(1, 32).flatmap(lambda bits: st.tuples(st.just(bits), st.integers(1, 2**bits))),
)
def test_products_without_a_buffer_are_rounded_to_the_nearest(number, ratio):
    bits, numerator = ratio
    values = np.array([number], dtype=np.int64)
    Rounding(bits).multiply(values, numerator)
    exact = number * numerator
    assert abs((int(values[0]) << bits) - exact) <= 2 ** (bits - 1)


def test_without_a_buffer_there_is_no_way_back():
    with pytest.raises(TypeError, match="keeps no buffers"):
        Rounding(16).divide(np.zeros(3, dtype=np.int64), 3)


@given(
    st.integers(1, 10**6),
    st.integers(1, 60),
    st.floats(0.01, 1.0),
    st.floats(0.5, 60.0),
)
def test_no_other_way_that_fits_is_faster_or_as_fast_and_smaller(size, steps, momentum, states):
    memory = 16.0 * size * states
    bits = np.full(steps, -np.log2(momentum)).sum()
    words = 8 + 4 * np.ceil(np.maximum(0.0, bits - 48) / 32)
    ways = {None: (3.4, int(size * words))} | {
        s: (round((fewest_steps(steps, s) + 1) / steps + 2.4, 2), 16 * size * s)
        for s in range(1, steps + 1)
    }
    fitting = {way: cost for way, cost in ways.items() if cost[1] <= memory}
    if not fitting:
        with pytest.raises(ValueError, match="spill to disk"):
            rl.estimators.choose(size, steps, momentum, memory)
        return
    choice = rl.estimators.choose(size, steps, momentum, memory)
    assert (choice.gradients, choice.memory) == min(fitting.values())
    assert choice.memory <= memory


def test_what_was_chosen_can_be_used():
    at = hyperparameters(40)
    expected = value_and_grad(objective(rl.train, 40))(at)[1]["start"]
    for memory, checkpoints in ((1e3, None), (50.0, 1)):
        choice = rl.estimators.choose(3, 40, 0.1 * at["momenta"], memory)
        assert choice.checkpoints == checkpoints
        found = value_and_grad(objective(choice.train, 40))(at)[1]["start"]
        assert found == pytest.approx(expected, rel=1e-7)
    assert rl.estimators.choose(3, 40, at["momenta"], 1e3).train is rl.train


def test_the_bytes_of_reversal_are_those_of_the_buffers():
    steps, start = 2000, np.ones(10)
    tape = rl.record(lambda w, hyper, t: np.sum(w**2), start, None, rl.SGD(0.01, 0.9), steps)
    assert rl.estimators.choose(10, steps, 0.9, 1e6).memory == tape.num_bits / 8


@pytest.mark.parametrize(
    "momentum", [1e-9, 2.0**-17, 1e-5, 2.4 * 2.0**-16, 1e-3, 0.1, 0.5, 0.9, 1.0]
)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 30, 500])
def test_the_bytes_are_those_that_a_buffer_occupies(momentum, steps):
    """Up to the 4 bytes that a buffer may hold more or less, depending on when it last spilled."""
    numerator = max(round(momentum * 2**16), 1)
    buffer, values = InformationBuffer(10), np.arange(10, dtype=np.int64) * 10**12
    for _ in range(steps):
        values += 10**12
        buffer.multiply(values, numerator)
    found = rl.estimators.choose(10, steps, momentum, np.inf)
    assert found.checkpoints is None
    assert abs(found.memory - buffer.num_bits / 8) <= 4 * 10


def test_the_bytes_are_those_of_training_with_a_tiny_momentum():
    for momentum in (1e-9, 1e-5, np.geomspace(1e-9, 1.0, 200)):
        optimizer = rl.SGD(0.01, momentum)
        tape = rl.record(lambda w, hyper, t: np.sum(w**2), np.ones(10), None, optimizer, 200)
        choice = rl.estimators.choose(10, 200, momentum, 1e6)
        assert choice.checkpoints is None
        assert abs(choice.memory - tape.num_bits / 8) <= 4 * 10


def test_memory_without_limit_gives_the_fastest_way():
    for steps in (1, 30, 10**5):
        unlimited = rl.estimators.choose(100, steps, 0.9, np.inf)
        assert unlimited == rl.estimators.choose(100, steps, 0.9, 1e30)
        numpys = np.int64(100), np.int32(steps), np.float64(0.9), np.float32(np.inf)
        assert unlimited == rl.estimators.choose(*numpys)


def test_a_momentum_that_needs_more_bits_counts():
    """16 bits would round it to 1, and its run would seem to keep nothing."""
    few = rl.estimators.choose(1, 5 * 10**6, 1.0, 1e6).memory
    assert rl.estimators.choose(1, 5 * 10**6, 1.0 - 2.0**-17, 1e6).memory == few + 4
    assert few == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 3.0},
        {"num_parameters": 0},
        {"num_parameters": 1e3},
        {"momentum": 0.0},
        {"momentum": np.nan},
        {"memory": np.nan},
    ],
)
def test_a_run_that_cannot_be_is_refused(wrong):
    given = {"num_parameters": 3, "steps": 3, "momentum": 0.9, "memory": 1e3} | wrong
    with pytest.raises((TypeError, ValueError), match=r"must (be|lie)"):
        rl.estimators.choose(**given)


@pytest.mark.parametrize("memory", [0.0, -1.0, -1e9, -np.inf])
def test_no_memory_holds_no_state(memory):
    with pytest.raises(ValueError, match="hold no state of 3 weights"):
        rl.estimators.choose(3, 3, 0.9, memory)
