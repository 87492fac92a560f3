"""The reversible recurrent network: exact reversal, right gradients, bits near theory."""

import math
import tracemalloc

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad, make_vjp, value_and_grad
from hypothesis import given, settings
from hypothesis import strategies as st

import revlearn as rl
from revlearn.fixed_point import from_fixed, to_fixed
from revlearn.models import log_softmax
from revlearn.parameters import named_leaves
from revlearn.recurrent import gru, init_gru, ratio, record, total_loss, unrolled_loss
from revlearn.recurrent.state import FRACTION_BITS, State

D = 2**12


def network(steps, sequences=3, units=8, inputs=5, lowest=0.5, seed=0):
    """Return a GRU that classifies at each third step, its weights and a start."""
    random = onp.random.RandomState(seed)
    weights = {
        "halves": init_gru(inputs, units, random),
        "out": random.randn(units, inputs) / math.sqrt(units),
    }
    x = onp.eye(inputs)[random.randint(inputs, size=(steps, sequences))]

    def cell(weights, half, other, t):
        return gru(weights["halves"][half], x[t], other, lowest)

    def loss(weights, hidden, t):
        if t % 3 != 2:
            return 0.0
        return -np.sum(log_softmax(np.dot(hidden, weights["out"])) * x[t - 2])

    return cell, loss, weights, 0.5 * random.randn(sequences, units)


@pytest.mark.parametrize("lowest", [2.0**-5, 0.5, 0.9])
def test_gradients_agree_with_backpropagation_through_time(lowest):
    steps = 60
    cell, loss, weights, start = network(steps, lowest=lowest)

    def objective(way, **options):
        def run(variables):
            return way(cell, loss, variables["weights"], variables["start"], steps, **options)

        return run

    variables = {"weights": weights, "start": start}
    reference_value, reference = value_and_grad(objective(unrolled_loss))(variables)
    for run in (objective(total_loss), objective(unrolled_loss, checkpoints=True)):
        value, exact = value_and_grad(run)(variables)
        assert value == pytest.approx(reference_value, rel=1e-10)
        leaves = dict(named_leaves(exact, "g"))
        for name, expected in named_leaves(reference, "g"):
            assert onp.linalg.norm(expected) > 0, name
            error = onp.linalg.norm(leaves[name] - expected)
            assert error <= 1e-6 * onp.linalg.norm(expected), name


def test_gradients_agree_with_finite_differences():
    """Where gates do not move, rounding them has no slope, and differences can be trusted."""
    x = onp.random.RandomState(0).randn(30, 3)
    gates = onp.random.RandomState(1).uniform(0.5, 1.0, size=(30, 2, 3))

    def cell(weights, half, other, t):
        return gates[t, half], np.tanh(np.dot(weights[half], other) + x[t])

    def loss(weights, hidden, t):
        return np.sum(hidden**2) / 30

    weights = 0.3 * onp.random.RandomState(2).randn(2, 3, 3)
    start = onp.random.RandomState(3).randn(6)
    found = grad(lambda w, h: total_loss(cell, loss, w, h, 30), argnum=(0, 1))(weights, start)
    for exact, place in zip(found, (0, 1), strict=True):
        for index in onp.ndindex(exact.shape):
            sides = []
            for step in (1e-5, -1e-5):
                arguments = [weights.copy(), start.copy()]
                arguments[place][index] += step
                sides.append(record(cell, loss, *arguments, 30).loss)
            slope = (sides[0] - sides[1]) / 2e-5
            assert exact[index] == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_the_hidden_state_is_that_of_floats():
    steps = 200
    cell, loss, weights, start = network(steps)
    tape = record(cell, loss, weights, start, steps)
    halves = list(onp.split(start, 2, axis=1))
    for t in range(steps):
        for half in (0, 1):
            gate, addition = cell(weights, half, halves[1 - half], t)
            halves[half] = gate * halves[half] + addition
    assert onp.abs(tape.hidden - onp.concatenate(halves, axis=1)).max() < 1e-11


def drawn(seed, smallest):
    """Return a cell that takes its gates from a seed, of different sizes for different numbers."""

    def cell(weights, half, other, t):
        random = onp.random.RandomState([seed, t, half])
        lowest = onp.geomspace(smallest, D, other.size).reshape(other.shape).astype(int)
        return random.randint(lowest, D + 1) / D, 0.3 * onp.cos(5.0 * other[::-1])

    return cell


@settings(max_examples=40)
@given(
    st.lists(st.floats(-5.0, 5.0), min_size=2, max_size=8).filter(lambda h: len(h) % 2 == 0),
    st.integers(0, 2**32 - 1),
    st.integers(1, D),
    st.integers(0, 150),
)
def test_every_state_comes_back_bit_for_bit(start, seed, smallest, steps):
    start, cell = onp.array(start), drawn(seed, smallest)
    states = []

    def watch(weights, hidden, t):
        states.append(hidden)
        return 0.0

    tape = record(cell, watch, None, start, steps)
    states = [from_fixed(to_fixed(start, FRACTION_BITS), FRACTION_BITS), *states]
    seen = dict(tape.rewind())
    assert sorted(seen) == list(range(steps))
    assert all(onp.array_equal(seen[t], states[t]) for t in seen)
    assert onp.array_equal(tape.hidden, states[-1])


def long_run():
    """Return gates and additions of a tiny net with four hidden numbers, for any step."""
    random = onp.random.RandomState(0)
    gates = onp.rint(random.uniform(0.5, 1.0, (997, 2)) * D) / D
    factors = random.uniform(-0.2, 0.2, (991, 2))
    return lambda other, t: (gates[t % 997], factors[t % 991] * (other - 0.5))


def test_a_hundred_thousand_steps_come_back_bit_for_bit():
    """The state without the tape around it, which would take three times as long."""
    net, state = long_run(), State(onp.array([0.5, -0.25, 0.125, 1.0]))
    start, seen = state.integers.copy(), {}
    for t in range(100_000):
        if t % 10_000 == 0:
            seen[t] = state.integers.copy()
        for half in (0, 1):
            state.step(half, *net(state.values(1 - half), t))
    assert not onp.array_equal(state.integers, start)
    for t in reversed(range(100_000)):
        for half in (1, 0):
            state.unstep(half, *net(state.values(1 - half), t))
        if t in seen:
            assert onp.array_equal(state.integers, seen[t])
    assert onp.array_equal(state.integers, start)
    assert all(buffer.num_bits == 64 * 2 for buffer in state.buffers)


def test_a_long_tape_comes_back_bit_for_bit():
    net, start = long_run(), onp.array([0.5, -0.25, 0.125, 1.0])
    cell = lambda weights, half, other, t: net(other, t)  # noqa: E731
    tape = record(cell, lambda weights, hidden, t: 0.0, None, start, 10_000)
    for t, hidden in tape.rewind():
        pass
    assert (t, hidden.tolist()) == (0, start.tolist())
    assert tape.information <= tape.num_bits <= 1.3 * tape.information + 64 * 4


@pytest.mark.parametrize("gate", [0.5, 0.9, 0.999, 1.0])
def test_bits_are_near_theory_where_gates_are_equal(gate):
    steps, size = 3000, 6

    def cell(weights, half, other, t):
        return gate * onp.ones(other.shape), (1.0 - gate) * onp.sin(t + other)

    tape = record(cell, lambda *_: 0.0, None, onp.zeros(size), steps)
    theory = -steps * size * math.log2(round(gate * D) / D)
    assert tape.information == pytest.approx(theory, rel=1e-9)
    assert 0 <= tape.num_bits - theory <= 64 * size + 0.03 * theory


def test_bits_of_a_network_follow_its_gates():
    """Gates that differ from number to number and step to step cost little more than theory."""
    steps, gates = 1500, []
    cell, loss, weights, start = network(steps)

    def watched(weights, half, other, t):
        gate, addition = cell(weights, half, other, t)
        gates.append(gate)
        return gate, addition

    tape = record(watched, loss, weights, start, steps)
    assert tape.information == pytest.approx(-onp.log2(onp.array(gates)).sum(), rel=1e-9)
    assert onp.max(gates) - onp.min(gates) > 0.2
    assert tape.information <= tape.num_bits <= 1.1 * tape.information + 64 * start.size


def test_memory_hardly_grows_with_the_length():
    def peak(way, steps, **options):
        cell, loss, weights, start = network(steps, sequences=100, units=32)
        run = grad(lambda weights: way(cell, loss, weights, start, steps, **options))
        run(weights)  # what is made once is made before
        tracemalloc.start()
        run(weights)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    growth = {
        name: (peak(way, 64, **options) - peak(way, 16, **options)) / 48
        for name, way, options in (
            ("exact", total_loss, {}),
            ("unrolled", unrolled_loss, {}),
            ("checkpoints", unrolled_loss, {"checkpoints": True}),
        )
    }
    # The states are 25,600 bytes a step, and what the interpreter keeps for itself is about 1,000.
    state = 8 * 100 * 32
    assert growth["exact"] < 0.2 * state
    assert 0.3 * state < growth["checkpoints"] < 0.3 * growth["unrolled"]
    assert growth["unrolled"] > 4 * state


def test_gates_are_rounded_to_the_nearest_ratio_and_their_derivative_is_not():
    gates = onp.array([1.0, 0.9, 0.5 + 0.4 / D, 0.5 + 0.6 / D, 0.1 / D])
    assert (ratio(gates) * D).tolist() == [D, 3686, D // 2, D // 2 + 1, 1]
    assert (
        grad(lambda gate: np.sum(ratio(gate) ** 2))(gates).tolist() == (2 * ratio(gates)).tolist()
    )


def test_the_gru_is_what_its_equations_say():
    """Values and all first derivatives, against the same in operations of autograd."""
    random = onp.random.RandomState(0)
    (half, _), lowest = init_gru(3, 8, random), 0.2
    half["reset"]["biases"] = random.randn(4)
    inputs, other, weights = random.randn(5, 3), random.randn(5, 4), random.randn(2, 5, 4)

    def by_parts(half, inputs, other):
        def layer(name, h):
            joined = np.concatenate([inputs, h], axis=1)
            return np.dot(joined, half[name]["weights"]) + half[name]["biases"]

        gate = ratio(lowest + (1 - lowest) * rl.sigmoid(layer("gate", other)))
        reset = rl.sigmoid(layer("reset", other))
        return gate, (1 - gate) * np.tanh(layer("candidate", reset * other))

    def slopes(function):
        def total(half, inputs, other):
            gate, addition = function(half, inputs, other)
            return np.sum(weights[0] * gate + weights[1] * addition**2)

        return value_and_grad(total, argnum=(0, 1, 2))(half, inputs, other)

    value, found = slopes(lambda *arguments: gru(*arguments, lowest))
    expected_value, expected = slopes(by_parts)
    assert value == pytest.approx(expected_value, rel=1e-12)
    expected = dict(named_leaves(expected, "g"))
    for name, leaf in named_leaves(found, "g"):
        assert leaf == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def plain_cell(gate=0.5, addition=0.1):
    return lambda weights, half, other, t: (
        onp.full(other.shape, gate),
        onp.full(other.shape, addition),
    )


def nothing(weights, hidden, t):
    return 0.0


def test_what_is_not_finite_or_too_large_is_reported_at_its_step():
    def spoiled(what, value):
        def cell(weights, half, other, t):
            arrays = {"gate": onp.full((2, 3), 0.5), "addition": onp.zeros((2, 3))}
            if (t, half) == (4, 1):
                arrays[what][1, 2] = value
            return arrays["gate"], arrays["addition"]

        return cell

    start = onp.zeros((2, 6))
    where = r"at step 4, leaf hidden\[1, 5\]"
    for what, value, error in (
        ("gate", onp.nan, rl.NonFiniteError),
        ("addition", onp.nan, rl.NonFiniteError),
        ("addition", onp.inf, rl.FixedPointOverflowError),
        ("addition", 129.0, rl.FixedPointOverflowError),
        ("gate", 1.1, ValueError),
        ("gate", 0.0, ValueError),
    ):
        with pytest.raises(error, match=where):
            record(spoiled(what, value), nothing, None, start, 9)
    with pytest.raises(rl.NonFiniteError, match="at step 4: the loss is nan"):
        record(plain_cell(), lambda w, h, t: onp.nan if t == 4 else 0.0, None, start, 9)
    with pytest.raises(rl.FixedPointOverflowError, match=r"at step 130, .*hidden\[0, 0\].*±128"):
        record(plain_cell(1.0, 0.98), nothing, None, start, 200)
    with pytest.raises(rl.FixedPointOverflowError, match=r"leaf hidden\[0, 4\]"):
        record(plain_cell(), nothing, None, start + 200.0 * (onp.arange(6) == 4), 9)


def test_a_cell_that_changes_is_found_at_its_step():
    calls = []

    def cell(weights, half, other, t):
        calls.append(t)
        changed = 1e-13 if (t == 7 and calls.count(7) > 2) else 0.0
        return 0.5 * onp.ones(other.shape), weights * other + changed

    for way_back in (lambda tape: list(tape.rewind()), lambda tape: tape.pull_back()):
        calls.clear()
        tape = record(cell, nothing, 0.3, onp.ones((1, 4)), 20)
        with pytest.raises(rl.ReversalError, match="at step 7: the cell on the way back") as caught:
            way_back(tape)
        assert caught.value.step == 7


@pytest.mark.parametrize("damage", ["integers", "words"])
def test_a_damaged_tape_is_found(damage):
    tape = record(plain_cell(), nothing, None, onp.ones((1, 4)), 20)
    if damage == "integers":
        tape._state.integers[0, 0] += 1
    else:
        tape._state.buffers[0]._words[0] ^= onp.uint64(1)
    with pytest.raises(rl.ReversalError):
        list(tape.rewind())


def test_misuse_is_named():
    start = onp.zeros((1, 4))
    with pytest.raises(ValueError, match="even length"):
        record(plain_cell(), nothing, None, onp.zeros((1, 3)), 5)
    with pytest.raises(ValueError, match="steps must be 0 or more"):
        record(plain_cell(), nothing, None, start, -1)
    with pytest.raises(ValueError, match=r"at step 0 the cell returned a gate of shape \(3,\)"):
        record(lambda w, half, other, t: (onp.ones(3), onp.ones(3)), nothing, None, start, 5)
    with pytest.raises(ValueError, match="scalar"):
        record(plain_cell(), lambda w, h, t: h, None, start, 5)
    with pytest.raises(TypeError, match="call total_loss"):
        grad(lambda w: record(plain_cell(), nothing, w, start, 5).loss)(1.0)
    with pytest.raises(ValueError, match="units must be even"):
        init_gru(3, 5, onp.random.RandomState(0))
    cell, loss, weights, h = network(3)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad(lambda w: np.sum(grad(lambda v: total_loss(cell, loss, v, h, 3))(w)["out"]))(weights)


def test_no_steps_and_a_second_derivative_of_one_run():
    cell, loss, weights, start = network(6)
    assert total_loss(cell, loss, weights, start, 0) == 0.0
    assert not onp.any(grad(lambda h: total_loss(cell, loss, weights, h, 0))(start))
    pull_back, _ = make_vjp(lambda h: total_loss(cell, loss, weights, h, 6))(start)
    first, again, double = pull_back(1.0), pull_back(1.0), pull_back(2.0)  # each runs it anew
    assert onp.array_equal(first, again)
    assert onp.allclose(double, 2.0 * first, rtol=1e-12)
    tape = record(cell, loss, weights, start, 6)
    d_weights, d_start = tape.pull_back()
    assert onp.array_equal(tape.pull_back()[0], d_weights)  # a copy is used up, not the tape
    assert onp.allclose(tape._setup.join(d_start.reshape(2, -1)), first, rtol=1e-12)
