"""Every optimizer: exact reversal, right hypergradients, bits near theory. One row each."""

import math
from dataclasses import dataclass
from typing import Any

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad, value_and_grad
from autograd.extend import defvjp_argnum, primitive
from hypothesis import given, settings
from hypothesis import strategies as st

import revlearn as rl
from revlearn.parameters import Layout, map_leaves


@dataclass
class Case:
    """How to make one optimizer, and what theory says of it."""

    make: Any  # nest of schedules by name -> optimizer
    unconstrained: dict[str, Any]  # name -> map from all real numbers to valid values
    bits: Any  # arrays of values by name -> bits per parameter, for each step
    calm: dict[str, float]  # schedules of the long run, beside the momentum
    momentum: str = "momentum"  # the schedule through which the velocity decays
    slots: tuple[str, ...] = ("velocity",)  # those that a user may start from
    digits: int = 1  # information buffers, a word a weight each
    rounds: bool = False  # whether there are rounding buffers


def discarded(momentum, bits=16):
    """Bits that an information buffer takes up."""
    ratio = np.clip(np.rint(np.asarray(momentum) * 2**bits), 1, 2**bits) / 2**bits
    return -np.log2(ratio)


def rounded(factor, bits=24):
    """Bits that a rounding buffer takes up."""
    return 2.0 * (1.0 - np.rint(np.asarray(factor) * 2**bits) / 2**bits)


def adam_bits(beta1, beta2, learning_rate=0.0, weight_decay=0.0, **_):
    shrinkage = 1.0 - np.asarray(learning_rate) * weight_decay
    return discarded(beta1) + rounded(beta2) + rounded(shrinkage, 30)


SGD = {
    "unconstrained": {
        "learning_rate": lambda x: np.exp(0.3 * x - 1.5),
        "momentum": rl.sigmoid,
    },
    "bits": lambda momentum, **_: discarded(momentum),
}
AVERAGE = {"average_decay": lambda x: 1.0 - 0.1 * rl.sigmoid(x)}
ADAM = {
    "unconstrained": {
        "learning_rate": lambda x: np.exp(0.3 * x - 4.0),
        "beta1": rl.sigmoid,
        "beta2": lambda x: 1.0 - 0.1 * rl.sigmoid(x),
        "epsilon": lambda x: np.exp(0.3 * x - 9.0),
    },
    "momentum": "beta1",
    "slots": ("velocity", "square"),
    "rounds": True,
}
CASES = {
    "SGD": Case(make=rl.SGD, **SGD, calm={"learning_rate": 0.02}),
    "SGD, heavy ball": Case(
        make=lambda **schedules: rl.SGD(**schedules, dampening=0.0),
        **SGD
        | {"unconstrained": {**SGD["unconstrained"], "learning_rate": lambda x: np.exp(x - 6)}},
        calm={"learning_rate": 0.02},
    ),
    "SGD, clipped": Case(
        make=lambda **schedules: rl.Clipped(rl.SGD(**schedules), threshold=0.3),
        **SGD,
        calm={"learning_rate": 0.02},
    ),
    "RMSprop": Case(
        make=rl.RMSprop,
        unconstrained={
            "learning_rate": lambda x: np.exp(0.3 * x - 4.0),
            "momentum": rl.sigmoid,
            "decay": lambda x: 1.0 - 0.1 * rl.sigmoid(x),
            "epsilon": lambda x: np.exp(0.3 * x - 6.0),
        },
        bits=lambda momentum, decay, **_: discarded(momentum) + rounded(decay),
        calm={"learning_rate": 1e-4, "decay": 0.99, "epsilon": 1e-3},
        slots=("velocity", "square"),
        rounds=True,
    ),
    "Adam": Case(
        make=rl.Adam,
        **ADAM,
        bits=adam_bits,
        calm={"learning_rate": 1e-3, "beta2": 0.999, "epsilon": 1e-6},
    ),
    "AdamW": Case(
        make=rl.AdamW,
        **ADAM
        | {
            "unconstrained": ADAM["unconstrained"]
            | {"weight_decay": lambda x: np.exp(0.3 * x - 2.0)}
        },
        bits=adam_bits,
        calm={"learning_rate": 1e-3, "beta2": 0.999, "epsilon": 1e-6, "weight_decay": 0.01},
    ),
    "Nesterov": Case(
        make=rl.Nesterov,
        unconstrained=SGD["unconstrained"],
        bits=lambda momentum, **_: 24.0 + discarded(momentum),
        calm={"learning_rate": 0.02},
        digits=2,
    ),
    "SGD, averaged": Case(
        make=lambda average_decay, **schedules: rl.Averaged(rl.SGD(**schedules), average_decay),
        unconstrained=SGD["unconstrained"] | AVERAGE,
        bits=lambda momentum, average_decay, **_: discarded(momentum) + rounded(average_decay),
        calm={"learning_rate": 0.02, "average_decay": 0.99},
        rounds=True,
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def softmax_regression(digits, steps):
    """Return (initial weights, loss, hyper, validation loss) on real digits."""
    train, validation = digits
    weights = rl.models.init_mlp([784, 5, 10], np.random.RandomState(0))
    images, targets = train.images, train.targets

    def loss(weights, hyper, t):
        rows = slice(40 * t % 200, 40 * t % 200 + 40)
        picture = images[rows] + hyper["shift"]
        return rl.losses.nll(rl.models.mlp(weights, picture), targets[rows]) + rl.losses.l2(
            weights, map_leaves(np.exp, hyper["log_penalty"])
        )

    def validation_loss(weights):
        return rl.losses.nll(rl.models.mlp(weights, validation.images), validation.targets)

    return weights, loss, validation_loss


@each_case
def test_hypergradients_of_every_kind_agree_with_unrolled_training(case, digits):
    """Schedules per leaf and step, initial weights and velocity, a penalty a weight, pixels."""
    steps, random = 15, np.random.RandomState(1)
    weights, loss, validation_loss = softmax_regression(digits, steps)
    hyper = {
        "weights": map_leaves(lambda w: 0.1 * w, weights),
        "slots": {
            # a mean square is positive
            slot: map_leaves(lambda w: 1e-2 * random.randn(*w.shape) ** power, weights)
            for slot, power in zip(case.slots, (1, 2), strict=False)
        },
        "loss": {
            "shift": 0.1 * random.randn(784),
            "log_penalty": map_leaves(lambda w: random.randn(*w.shape) - 6.0, weights),
        },
        "schedules": {
            name: map_leaves(lambda w: random.randn(steps), weights) for name in case.unconstrained
        },
    }

    def objective(train):
        def run(hyper):
            schedules = {
                name: map_leaves(transform, hyper["schedules"][name])
                for name, transform in case.unconstrained.items()
            }
            final = train(
                loss,
                hyper["weights"],
                hyper["loss"],
                case.make(**schedules),
                steps,
                **{slot: hyper["slots"][slot] for slot in case.slots},
            )
            return validation_loss(final)

        return run

    reference_value, reference = value_and_grad(objective(rl.estimators.unrolled.train))(hyper)
    for train in (rl.train, rl.estimators.checkpointed.train):
        value, exact = value_and_grad(objective(train))(hyper)
        assert value == pytest.approx(reference_value, rel=1e-9)
        leaves = dict(rl.parameters.named_leaves(exact, "hyper"))
        for name, expected in rl.parameters.named_leaves(reference, "hyper"):
            assert np.linalg.norm(expected) > 0, name
            error = np.linalg.norm(leaves[name] - expected) / np.linalg.norm(expected)
            assert error < 1e-6, (name, error)


@each_case
def test_a_nest_beside_a_shared_schedule_agrees_with_unrolled_training(case, digits):
    steps, random = 8, np.random.RandomState(2)
    weights, loss, validation_loss = softmax_regression(digits, steps)
    extra = {"shift": np.zeros(784), "log_penalty": map_leaves(lambda w: -9.0, weights)}
    for nested in case.unconstrained:
        values = {
            name: map_leaves(lambda w: random.randn(steps), weights)
            if name == nested
            else random.randn(steps)
            for name in case.unconstrained
        }

        def objective(train, values):
            schedules = {n: map_leaves(case.unconstrained[n], values[n]) for n in values}
            return validation_loss(train(loss, weights, extra, case.make(**schedules), steps))

        layout = Layout(values, "values")
        ours, reference = (
            layout.flatten(grad(lambda v: objective(train, v))(values))
            for train in (rl.train, rl.estimators.unrolled.train)
        )
        assert np.linalg.norm(ours - reference) < 1e-6 * np.linalg.norm(reference)


@each_case
def test_shared_schedules_get_the_sum_of_what_their_parts_get(case, digits):
    steps = 6
    weights, loss, validation_loss = softmax_regression(digits, steps)
    hyper = {"shift": np.zeros(784), "log_penalty": map_leaves(lambda w: -9.0, weights)}
    values = {name: 0.3 * np.ones(steps) for name in case.unconstrained}

    def objective(expand):
        def run(values):
            schedules = {n: expand(case.unconstrained[n](values[n])) for n in values}
            return validation_loss(rl.train(loss, weights, hyper, case.make(**schedules), steps))

        return run

    _, shared = value_and_grad(objective(lambda row: row))(values)
    _, copied = value_and_grad(objective(lambda row: map_leaves(lambda _: row, weights)))(values)
    for name in values:
        assert np.allclose(shared[name], copied[name], rtol=1e-6)


def check_bits(case, tape, schedules, layout):
    """Compare the bits of a tape with theory; `schedules` holds scalars, rows and nests of them."""
    names = [layout.name_as("", i) for i in range(len(layout.names))]
    theory = 0.0
    for i, place in enumerate(layout.slices):
        leaf = {}
        for name, schedule in schedules.items():
            rows = dict(rl.parameters.named_leaves(schedule, ""))
            leaf[name] = rows[names[i]] if len(rows) > 1 else rows[""]
        bits = case.bits(**leaf) * np.ones(tape.steps)
        theory += (place.stop - place.start) * np.sum(bits)
    assert tape.information == pytest.approx(theory, rel=1e-6, abs=1e-9)
    # A rounding buffer holds a bit where two numbers met: as many as theory says, give or take.
    chance = 5.0 * theory**0.5 + 64 if case.rounds else 0.0
    words = 64 * case.digits * layout.size
    assert theory - chance <= tape.num_bits <= 1.03 * theory + words + chance


def check_return(tape, layout, start, slots):
    """Rewind, and compare the state at the start bit for bit, every slot of it."""
    run, setup = tape._run.copy(), tape._setup
    for t in reversed(range(tape.steps)):
        run.unstep(t, tape._gradient_at(t))
    assert set(run.integers) == set(setup.slots)
    given = {"weights": start, setup.optimizer.result: start, **slots}
    for slot in setup.slots:
        values = layout.flatten(given[slot], slot) if slot in given else np.zeros(layout.size)
        expected = rl.to_fixed(values, setup.optimizer.fraction_bits(slot, 52))
        assert np.array_equal(run.integers[slot], expected)
    assert run.information == pytest.approx(0.0, abs=1e-6 * (1.0 + tape.information))
    for t, weights, _ in tape.rewind():
        pass
    assert t == 0
    assert np.array_equal(
        layout.flatten(weights), rl.from_fixed(rl.to_fixed(layout.flatten(start)))
    )


@pytest.mark.parametrize(
    ("case", "gamma"),
    [
        pytest.param(case, gamma, id=f"{name}-{gamma}")
        for name, case in CASES.items()
        for gamma in (0.3, 0.5, 0.9, 0.98, 0.999, 1.0)
        # A first moment that never forgets has no bias correction.
        if gamma < 1.0 or case.momentum != "beta1"
    ],
)
def test_returns_bit_for_bit_with_bits_near_theory(case, gamma, bowl):
    loss, start = bowl
    random, steps = np.random.RandomState(0), 300
    layout = Layout(start, "weights")
    slots = {
        slot: map_leaves(lambda w: 0.01 * random.randn(*np.shape(w)) ** power, start)
        for slot, power in zip(case.slots, (1, 2), strict=False)
    }
    schedules = {
        name: map_leaves(lambda w: transform(random.randn(steps)), start)
        for name, transform in case.unconstrained.items()
    }
    schedules[case.momentum] = gamma
    tape = rl.record(loss, start, None, case.make(**schedules), steps, **slots)
    check_return(tape, layout, start, slots)
    check_bits(case, tape, schedules, layout)


INPUTS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
SIGNS = np.array([-1.0, 1.0, 1.0, -1.0])


def exclusive_or(hidden, output, t):
    """Return hidden units and errors of a small network."""
    units = np.tanh(np.dot(INPUTS, hidden))
    # The targets sway, so that no gradient dies out.
    return units, np.dot(units, output) - SIGNS * (1.0 + 0.1 * math.cos(3.0 * t))


@primitive
def exclusive_or_loss(hidden, output, t):
    """Return the loss; its gradient is written by hand, since long runs take it often."""
    _, error = exclusive_or(hidden, output, t)
    return np.dot(error, error) / 4


def pull_back_exclusive_or(argnum, ans, args, kwargs):
    def pull_back(g):
        units, error = exclusive_or(*args)
        if argnum == 1:
            return g * np.dot(error, units) / 2
        return g * np.dot(INPUTS.T, np.outer(error, args[1]) * (1.0 - units * units)) / 2

    return pull_back


defvjp_argnum(exclusive_or_loss, pull_back_exclusive_or)


@each_case
def test_a_long_run_of_a_small_network_comes_back(case):
    """A hundred thousand steps on exclusive or, with a momentum that changes at each."""

    def loss(weights, hyper, t):
        return exclusive_or_loss(weights["hidden"], weights["output"], t)

    random, steps = np.random.RandomState(0), 100_000
    start = {"hidden": random.randn(3, 3), "output": random.randn(3)}
    layout = Layout(start, "weights")
    momentum = 0.5 + 0.499 * np.sin(np.arange(steps)) ** 2
    schedules = {**case.calm, case.momentum: momentum}
    tape = rl.record(loss, start, None, case.make(**schedules), steps)
    assert float(loss(tape.weights, None, 0)) < 0.5 * float(loss(start, None, 0))  # it did train
    for t, weights, velocity in tape.rewind():
        pass
    assert t == 0
    assert np.array_equal(
        layout.flatten(weights), rl.from_fixed(rl.to_fixed(layout.flatten(start)))
    )
    assert not layout.flatten(velocity, "velocity").any()
    check_bits(case, tape, schedules, layout)


def test_parts_cover_all_weights_once_whatever_the_leaves(monkeypatch):
    """Also leaves without numbers, at every place, and leaves larger than a part."""
    monkeypatch.setattr(rl.optimizers.parts, "BLOCK", 8)
    for sizes in ([0, 3, 0, 5, 0], [8, 0, 8], [0, 20, 1, 0, 7, 9], [0, 0, 1], [30]):
        start = [np.arange(1.0, size + 1.0) for size in sizes]
        layout = Layout(start, "weights")
        found = list(rl.optimizers.parts.places(layout, per_leaf=True))
        numbers = np.concatenate([np.arange(layout.size)[place.weights] for place in found])
        assert np.array_equal(numbers, np.arange(layout.size))
        assert all(place.size <= 8 for place in found)
        for place in found:
            rows = place.rows_of(np.arange(len(sizes)))
            assert len(rows) == len(place.pieces)
            for row, piece in zip(rows, place.pieces, strict=True):
                whole = range(layout.size)[place.weights][piece]
                assert set(whole) <= set(range(layout.size)[layout.slices[row]])
        steps = 60
        rates = [np.full(steps, 0.01 * (i + 1)) for i in range(len(sizes))]
        momenta = [np.full(steps, 0.3 + 0.1 * i) for i in range(len(sizes))]

        def loss(weights, hyper, t):
            return sum(np.sum(np.cos(leaf + t)) for leaf in weights)

        tape = rl.record(loss, start, None, rl.SGD(rates, momenta), steps)
        unrolled = rl.estimators.unrolled.train(loss, start, None, rl.SGD(rates, momenta), steps)
        assert layout.flatten(tape.weights) == pytest.approx(layout.flatten(unrolled), rel=1e-9)
        check_return(tape, layout, start, {})


@each_case
@settings(max_examples=60)
@given(data=st.data())
def test_any_shape_schedule_and_value_comes_back_or_is_refused(case, data):
    """Values up to the edge of the range; an overflow is an error, never a wrong number."""
    steps = data.draw(st.integers(0, 12))
    shapes = data.draw(st.lists(st.lists(st.integers(1, 3), max_size=2), min_size=1, max_size=3))
    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.RandomState(seed)
    scale = data.draw(st.sampled_from([1e-12, 1.0, 2000.0]))
    start = [np.asarray(scale * random.uniform(-1, 1, size=shape)) for shape in shapes]
    velocity = [np.asarray(scale * random.uniform(-1, 1, size=shape)) for shape in shapes]
    per_leaf = data.draw(st.booleans())

    def schedule(transform):
        if per_leaf:
            return [transform(random.randn(steps)) for _ in shapes]
        return transform(random.randn(steps))

    schedules = {name: schedule(transform) for name, transform in case.unconstrained.items()}

    def loss(weights, hyper, t):
        return sum(np.sum(np.sin(leaf + t)) for leaf in weights)

    layout = Layout(start, "weights")
    try:
        tape = rl.record(loss, start, None, case.make(**schedules), steps, velocity=velocity)
    except rl.FixedPointOverflowError as error:
        # a mean square reaches its limit, 128, long before the weights reach theirs
        assert scale == 2000.0 or error.slot == "square"
        assert error.step is not None
        assert "[" in error.leaf
        return
    # The same run in floats, to rounding: what came back was really trained.
    unrolled = rl.estimators.unrolled.train(
        loss, start, None, case.make(**schedules), steps, velocity=velocity
    )
    assert np.allclose(layout.flatten(tape.weights), layout.flatten(unrolled), atol=1e-6)
    states = [(start, velocity)] if steps == 0 else [(w, v) for _, w, v in tape.rewind()]
    weights, back = states[-1]
    for ours, given_values in ((weights, start), (back, velocity)):
        rounded = rl.from_fixed(rl.to_fixed(layout.flatten(given_values)))
        assert steps == 0 or np.array_equal(layout.flatten(ours), rounded)


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.1])
def test_momentum_that_cannot_be_reversed_is_explained(momentum):
    schedule = np.array([0.5, momentum, 0.5])
    with pytest.raises(ValueError, match=r"momentum is .* at step 1; it must lie in \(0, 1\]"):
        rl.record(lambda w, h, t: w**2, 1.0, None, rl.SGD(0.1, schedule), 3)


def test_weight_decay_that_rounds_to_nothing_discards_nothing(bowl):
    """As at the end of a cosine: the rate, and with it the decay of the step, goes to zero."""
    loss, start = bowl
    steps = 50
    cosine = 0.5 * 1e-3 * (1.0 + np.cos(np.pi * np.arange(steps) / (steps - 1)))

    def objective(train, rates):
        final = train(loss, start, None, rl.AdamW(rates, epsilon=1e-3), steps)
        return np.sum(np.sin(Layout(start, "weights").flatten(final)))

    found = grad(lambda rates: objective(rl.train, rates))(cosine)
    expected = grad(lambda rates: objective(rl.estimators.unrolled.train, rates))(cosine)
    onp.testing.assert_allclose(found, expected, rtol=1e-6)

    tape = rl.record(loss, start, None, rl.AdamW(cosine, epsilon=1e-3), steps)
    shrinkage = np.rint((1.0 - cosine * 0.01) * 2**30) / 2**30
    assert shrinkage[-1] == 1.0
    per_weight = np.sum(discarded(0.9) + rounded(0.999) + 2.0 * (1.0 - shrinkage))
    assert math.isclose(tape.information, per_weight * tape.num_parameters, rel_tol=1e-9)
    for _, weights, _ in tape.rewind():
        pass
    assert np.array_equal(weights["a"], rl.from_fixed(rl.to_fixed(start["a"])))


@pytest.mark.parametrize("decay", [-0.1, 600.0])
def test_weight_decay_out_of_range_is_explained_as_such(decay, bowl):
    loss, start = bowl
    with pytest.raises(ValueError, match="smaller weight decay or learning rate") as caught:
        rl.train(loss, start, None, rl.AdamW(1e-3, weight_decay=decay), 2)
    assert "average" not in str(caught.value)


def test_what_cannot_be_meant_is_refused():
    weights = {"a": 1.0, "b": 2.0}
    with pytest.raises(ValueError, match=r"momentum\['b'\] is 2.0 at step 0"):
        rl.record(lambda w, h, t: w["a"], weights, None, rl.SGD(0.1, {"a": 0.5, "b": 2.0}), 3)
    with pytest.raises(ValueError, match=r"momentum is 0\.999999.*momentum_bits=24"):
        rl.record(lambda w, h, t: w**2, 1.0, None, rl.SGD(0.1, 0.999999), 3)
    finer = rl.SGD(0.1, 0.999999, momentum_bits=24)
    assert float(rl.record(lambda w, h, t: w**2, 1.0, None, finer, 3).weights) < 1.0
    for wrong in (np.array(0.5), np.nan):
        with pytest.raises(TypeError, match="dampening"):
            rl.SGD(0.1, 0.9, dampening=wrong)


def test_momentum_is_rounded_to_the_nearest_ratio():
    momenta = np.array([[0.5, 0.9, 0.99999, 1e-9, 1.0]])
    ours = rl.optimizers.sgd.ratios(momenta, 16) * 2**16
    assert ours.tolist() == [[32768, 58982, 65535, 1, 65536]]
    many = np.random.RandomState(0).uniform(2.0**-16, 1, size=(1, 1000))
    error = np.abs(rl.optimizers.sgd.ratios(many, 16) - many)
    assert error.max() <= 2.0**-17


@pytest.mark.parametrize("bits", [4, 16, 24, 32])
def test_denominators_of_other_sizes(bits, bowl):
    loss, start = bowl
    optimizer = rl.SGD(0.05, 0.7, momentum_bits=bits)
    tape = rl.record(loss, start, None, optimizer, 300)
    n = round(0.7 * 2**bits)
    assert tape.information == pytest.approx(300 * 8 * math.log2(2**bits / n), rel=1e-9)
    for t, weights, _ in tape.rewind():
        pass
    assert np.array_equal(weights["a"], rl.from_fixed(rl.to_fixed(start["a"])))
    with pytest.raises(ValueError, match="momentum_bits"):
        rl.SGD(0.1, 0.9, momentum_bits=0)


def test_leapfrog_keeps_its_energy_and_discards_nothing():
    """Heavy ball at γ = 1 is symplectic: the energy of an oscillator stays near its start."""
    step, energies = 0.1, []

    def watch(t, w, v, g):  # the velocity counts in units of 1/step: w += step² v, v -= w
        energies.append(0.5 * w**2 + 0.5 * (step * v) ** 2)

    optimizer = rl.SGD(step**2, 1.0, dampening=0.0)
    tape = rl.record(
        lambda w, h, t: 0.5 * w**2, 1.0, None, optimizer, 10_000, velocity=0.0, callback=watch
    )
    # w² + p² − step·w·p with p = step·v never changes, which confines the energy.
    spread = max(energies) / min(energies)
    assert 1.05 < spread < (1 + step / 2) / (1 - step / 2) + 1e-9
    assert tape.information == 0.0
    assert tape.num_bits == 64
    for t, weights, velocity in tape.rewind():
        pass
    assert (float(weights), float(velocity)) == (1.0, 0.0)
