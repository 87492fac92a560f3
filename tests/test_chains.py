"""Chains: exact return, right derivatives of every parameter, bits near theory, located errors."""

import autograd.numpy as np
import pytest
from autograd import elementwise_grad, grad, value_and_grad
from autograd.extend import defvjp, primitive
from hypothesis import given, settings
from hypothesis import strategies as st

import revlearn as rl
from revlearn import chains
from revlearn.chains import noise
from revlearn.chains.dynamics import ExactChains
from revlearn.testing import check_hypergradient


def quartic(x, hyper, t):
    """Return two wells along a diagonal, unequal curvatures, and a slow pull."""
    wells = 0.25 * (x[:, 0] ** 2 - 1.0) ** 2
    return wells + 0.5 * np.sum(x**2, axis=1) + 0.3 * np.sin(x[:, 0] * x[:, -1] + 0.01 * t)


@primitive
def cheap(x, hyper, t):
    """Return a quartic bowl that sways, differentiated by hand so that long runs are short."""
    return np.sum(0.25 * x**4 - 0.1 * np.cos(t) * x)


defvjp(cheap, lambda ans, x, hyper, t: lambda g: g * (x**3 - 0.1 * np.cos(t)))


def annealed(x, hyper, t):
    """Return a correlated Gaussian that comes into being over time."""
    energy = 0.5 * np.sum(np.dot(x - hyper["mean"], hyper["root"]) ** 2, axis=1)
    return (1 - hyper["beta"][t]) * 0.5 * np.sum(x**2, axis=1) + hyper["beta"][t] * energy


def heat(before, after, hyper, t):
    """Return the kinetic energy lost, and a jump that depends on the hyperparameters."""
    kinetic = 0.5 * np.sum(before.velocity**2 - after.velocity**2, axis=1)
    jump = np.sum((after.position - before.position) ** 2, axis=1)
    return kinetic + np.sum(hyper["mean"] ** 2) * np.tanh(jump)


def unrolled(potential, position, hyper, step_size, momentum, transitions, **options):
    """Return the same chains in floats, every step kept by autograd. Written apart, for tests."""
    seed, leaps, term = options["seed"], options.get("leaps", 1), options["term"]
    dimensions = np.shape(position)[1]
    h_all = step_size * np.ones((transitions, dimensions))
    gamma_all = momentum * np.ones(transitions)
    x, v, total = position, options["velocity"], 0.0
    for t in range(transitions):
        # The derivative is that of the nearest ratio.
        off = rl.optimizers.ratios.nearest_ratio(gamma_all[t], 16)
        v = off * v + np.sqrt(1 - off**2) * noise(seed, t, v.size).reshape(v.shape)
        before = chains.State(x, v)
        for _ in range(leaps):
            x = x + 0.5 * h_all[t] * v
            v = v - h_all[t] * elementwise_grad(lambda y, t=t: potential(y, hyper, t))(x)
            x = x + 0.5 * h_all[t] * v
        total = total + term(before, chains.State(x, v), hyper, t)
    return chains.Outcome(x, v, total)


def parameters(transitions, random, count=3, dimensions=2):
    return {
        "position": random.randn(count, dimensions),
        "velocity": random.randn(count, dimensions),
        "log_step": -1.2 + 0.2 * random.randn(transitions, dimensions),
        "logit_momentum": 1.0 + random.randn(transitions),
        "hyper": {
            "mean": random.randn(dimensions),
            "root": np.eye(dimensions) + 0.3 * random.randn(dimensions, dimensions),
            "beta": np.linspace(0.1, 1.0, transitions),
        },
    }


def objective(run, leaps, transitions):
    weight = np.array([1.0, -0.5, 2.0])

    def value(free):
        found = run(
            annealed,
            free["position"],
            free["hyper"],
            np.exp(free["log_step"]),
            rl.sigmoid(free["logit_momentum"]),
            transitions,
            seed=7,
            leaps=leaps,
            velocity=free["velocity"],
            term=heat,
        )
        return (
            np.dot(weight, found.total) + np.sum(found.position**2) + np.sum(np.sin(found.velocity))
        )

    return value


@pytest.mark.parametrize(("leaps", "transitions"), [(1, 60), (5, 12)])
def test_derivatives_of_every_kind_agree_with_unrolled_chains(leaps, transitions):
    free = parameters(transitions, np.random.RandomState(0))
    value, exact = value_and_grad(objective(chains.run, leaps, transitions))(free)
    expected_value, expected = value_and_grad(objective(unrolled, leaps, transitions))(free)
    assert value == pytest.approx(expected_value, rel=1e-9)
    leaves = dict(rl.parameters.named_leaves(exact, "free"))
    for name, reference in rl.parameters.named_leaves(expected, "free"):
        assert np.linalg.norm(reference) > 0, name
        assert np.linalg.norm(leaves[name] - reference) < 1e-6 * np.linalg.norm(reference), name
        # every number, and not just the largest
        assert leaves[name] == pytest.approx(reference, rel=1e-4, abs=1e-8), name


def test_derivatives_agree_with_finite_differences():
    # Steps are tried that are large beside the rounding of the momentum.
    check_hypergradient(
        objective(chains.run, 3, 8), parameters(8, np.random.RandomState(1)), rtol=2e-2
    )


def test_shared_schedules_get_the_sum_of_what_their_steps_get():
    start, transitions = np.random.RandomState(0).randn(2, 3), 9

    def value(step, momentum):
        found = chains.run(quartic, start, None, step, momentum, transitions, seed=1, leaps=2)
        return np.sum(found.position**2)

    steps, momenta = 0.2 * np.ones((transitions, 3)), 0.7 * np.ones(transitions)
    full = grad(value)(steps, momenta)
    assert grad(value)(0.2, momenta) == pytest.approx(full.sum())
    assert grad(value)(steps[0], momenta) == pytest.approx(full.sum(axis=0))
    assert grad(value)(steps[:, :1], momenta) == pytest.approx(full.sum(axis=1)[:, None])
    assert grad(value, 1)(0.2, 0.7) == pytest.approx(grad(value, 1)(steps, momenta).sum())


def test_without_refreshment_the_momentum_has_no_derivative_and_costs_no_bits():
    start = np.ones((2, 2))

    def value(momentum):
        return np.sum(chains.run(quartic, start, None, 0.1, momentum, 5, seed=0).position)

    recording = chains.record(quartic, start, None, 0.1, 1.0, 500, seed=0)
    assert recording.information == 0.0
    assert recording.num_bits == 64 * start.size
    with pytest.raises(rl.NonFiniteError, match="at step 4: the momentum has no derivative at 1"):
        grad(value)(1.0)


def check_return(recording, position, velocity):
    for t, state in recording.rewind():
        pass
    assert t == 0
    for found, given_values in zip(state, (position, velocity), strict=True):
        assert np.array_equal(found, rl.from_fixed(rl.to_fixed(given_values)))


@pytest.mark.parametrize("momentum", [1e-5, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_returns_bit_for_bit_with_bits_near_theory(momentum):
    random, transitions = np.random.RandomState(0), 400
    position, velocity = random.randn(5, 4), random.randn(5, 4)
    recording = chains.record(
        cheap, position, None, 0.1, momentum, transitions, seed=3, velocity=velocity, leaps=2
    )
    check_return(recording, position, velocity)
    ratio = max(round(momentum * 2**16), 1) / 2**16
    theory = 20 * transitions * np.log2(1 / ratio)
    assert recording.information == pytest.approx(theory)
    assert theory <= recording.num_bits <= 1.03 * theory + 64 * 20


def test_a_hundred_thousand_steps_come_back():
    """A friction that changes at each transition; also the state on the way must be as it was."""
    transitions, leaps, random = 25_000, 4, np.random.RandomState(0)
    momentum = 0.5 + 0.499 * np.sin(np.arange(transitions)) ** 2
    step = np.full((transitions, 2), [0.3, 0.25])
    state = ExactChains(random.randn(4), random.randn(4), step, momentum, 5, leaps, 52)
    start, on_the_way = state.copy(), {}
    for t in range(transitions):
        if t % 5000 == 0:
            on_the_way[t] = state.copy()
        state.refresh(t)
        state.leapfrog(t, lambda x, t=t: x**3 - 0.1 * np.cos(t))
    theory = -4 * np.sum(np.log2(np.rint(momentum * 2**16) / 2**16))
    assert theory <= state.buffer.num_bits <= 1.03 * theory + 64 * 4
    for t in reversed(range(transitions)):
        state.undo_leapfrog(t, lambda x, t=t: x**3 - 0.1 * np.cos(t))
        state.undo_refresh(t)
        if t in on_the_way:
            for slot, numbers in on_the_way[t].integers.items():
                assert np.array_equal(state.integers[slot], numbers)
    assert all(
        np.array_equal(state.integers[slot], start.integers[slot]) for slot in start.integers
    )
    assert state.buffer.num_bits == start.buffer.num_bits


@settings(max_examples=60)
@given(data=st.data())
def test_any_chain_comes_back_or_is_refused(data):
    transitions, leaps = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    random = np.random.RandomState(data.draw(st.integers(0, 2**32 - 1)))
    scale = data.draw(st.sampled_from([1e-12, 1.0, 2000.0]))
    position, velocity = (scale * random.uniform(-1, 1, size=shape) for _ in range(2))
    steps = np.exp(random.randn(transitions, shape[1]) - 1.0)
    momentum = rl.sigmoid(3 * random.randn(transitions))

    def waves(x, hyper, t):
        return np.sum(np.sin(x + t), axis=1)

    arguments = (waves, position, None, steps, momentum, transitions)
    options = {"seed": 1, "leaps": leaps, "velocity": velocity}
    try:
        recording = chains.record(*arguments, **options)
    except rl.FixedPointOverflowError as error:
        assert scale == 2000.0
        assert error.step is not None
        assert "[" in error.leaf
        return
    check_return(recording, position, velocity)
    floats = unrolled(*arguments, **options, term=lambda *_: 0.0)
    assert np.allclose(recording.state.position, floats.position, atol=1e-6 * max(scale, 1.0))


def test_stationary_variance_of_a_gaussian_is_that_of_the_leapfrog():
    """Of a target with variance s² the chain's variance is s² − h²/4."""
    sizes, h = np.array([1.0, 0.5]), np.array([0.8, 0.6])
    start = np.random.RandomState(0).randn(500, 2) * np.sqrt(sizes**2 - h**2 / 4)

    def squares(before, after, hyper, t):
        return after.position**2

    found = chains.run(
        lambda x, hyper, t: 0.5 * np.sum((x / sizes) ** 2, axis=1),
        start, None, h, 0.5, 300, seed=2, term=squares,
    )  # fmt: skip
    by_chain = found.total / 300
    error = by_chain.std(axis=0) / np.sqrt(500)
    assert np.all(np.abs(by_chain.mean(axis=0) - (sizes**2 - h**2 / 4)) < 4 * error)
    assert np.all(error < 0.02 * sizes**2)


def test_overflow_and_non_finite_values_are_reported_at_their_step():
    start = np.ones((2, 3))
    with pytest.raises(rl.FixedPointOverflowError, match=r"step \d+, leaf velocity\[1, 0\]"):
        chains.record(lambda x, hyper, t: -np.sum(x**2), start, None, 0.5, 0.9, 100, seed=0)

    def breaks(x, hyper, t):
        return np.sum(x**2) if t < 4 else np.sum(np.sqrt(x - 100.0) * np.array([0.0, 1.0, 0.0]))

    with (
        np.errstate(invalid="ignore"),
        pytest.raises(rl.NonFiniteError, match=r"step 4, leaf position\[0, 0\]: the gradient"),
    ):
        chains.record(breaks, start, None, 0.1, 0.9, 9, seed=0)
    with pytest.raises(rl.NonFiniteError, match="step 3: the term"):
        chains.record(
            quartic, start, None, 0.1, 0.9, 9, seed=0,
            term=lambda before, after, hyper, t: np.inf if t == 3 else 0.0,
        )  # fmt: skip


def test_an_irreproducible_gradient_is_reported_at_its_step():
    calls = []

    def forgetful(x, hyper, t):
        calls.append(t)
        return (1.0 + 1e-12 * len(calls) * (t == 6)) * np.sum(x**2)

    start = np.ones((2, 3))
    recording = chains.record(forgetful, start, None, 0.1, 0.9, 9, seed=0)
    with pytest.raises(rl.ReversalError, match="step 6"):
        list(recording.rewind())
    with pytest.raises(rl.ReversalError, match="step 6"):
        recording.pull_back(start, start, np.zeros(()))


def test_a_gradient_that_rounds_differently_when_traced_is_found_out():
    """What autograd traces twice may be rounded in another way; the integers must not notice."""

    def sensitive(x, hyper, t):
        doubly = not isinstance(rl.parameters.plain(x), type(getattr(x, "_value", x)))
        return (1.0 + (1e-15 if doubly else 0.0)) * np.sum(x**4 / 4)

    start = np.random.RandomState(0).randn(2, 2)

    def value(x):
        return np.sum(chains.run(sensitive, x, None, 0.1, 0.9, 20, seed=0).position)

    def reference(x):
        return np.sum(
            chains.run(lambda x, hyper, t: np.sum(x**4 / 4), x, None, 0.1, 0.9, 20, seed=0).position
        )

    assert grad(value)(start) == pytest.approx(grad(reference)(start), rel=1e-9)


def test_wrong_arguments_are_named():
    start = np.ones((2, 3))
    for changed, message in (
        ({"position": np.ones(3)}, "chains, dimensions"),
        ({"step_size": np.ones(4)}, r"step_size has shape \(4,\)"),
        ({"momentum": np.ones(3)}, r"momentum has shape \(3,\)"),
        ({"momentum": 0.0}, "must lie in"),
        ({"step_size": np.nan}, "step_size holds nan"),
        ({"leaps": 0}, "leaps must be 1 or more"),
    ):
        arguments = {
            "position": start,
            "hyper": None,
            "step_size": 0.1,
            "momentum": 0.9,
            "transitions": 5,
            "seed": 0,
        }
        with pytest.raises(ValueError, match=message):
            chains.record(quartic, **{**arguments, **changed})
    with pytest.raises(TypeError, match="call run instead"):
        grad(lambda x: np.sum(chains.record(quartic, x, None, 0.1, 0.9, 2, seed=0).total))(start)
    with pytest.raises(NotImplementedError):
        grad(grad(lambda h: np.sum(chains.run(quartic, start, None, h, 0.9, 2, seed=0).position)))(
            0.1
        )


def test_a_derivative_that_would_be_lost_is_refused():
    start = np.ones((2, 3))

    def of_term(scale):
        def term(before, after, hyper, t):
            return scale * np.sum(after.position)

        return chains.run(quartic, start, None, 0.1, 0.9, 3, seed=0, term=term).total

    def of_potential(scale):
        return np.sum(
            chains.run(
                lambda x, hyper, t: scale * np.sum(x**2), start, None, 0.1, 0.9, 3, seed=0
            ).position
        )

    for objective_of in (of_term, of_potential):
        with pytest.raises(ValueError, match="pass it in `hyper`"):
            grad(objective_of)(2.0)
