"""No hypergradient that is not finite leaves without an error; what is used up says so."""

import autograd.numpy as np
import pytest
from autograd import grad

import revlearn as rl
from revlearn import chains, recurrent
from revlearn.estimators import checkpointed
from test_second_try import RULES

STEPS = 6
WAYS = {"reversal": rl.train, "checkpoints": checkpointed.train}
each_way = pytest.mark.parametrize("train", WAYS.values(), ids=WAYS)
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def bend(x, t, at):
    """Return a function whose value and slope are 0 at 0, and whose second derivative is not."""
    return np.sum(x**1.5) if t == at else 0.0


@each_way
@each_rule
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_a_loss_without_a_second_derivative_is_named_with_step_and_leaf(train, rule, at):
    def loss(weights, hyper, t):
        return np.sum(weights["a"] ** 2) + bend(weights["b"][1], t, at)

    start = {"a": np.ones(3), "b": [np.ones(2), np.zeros(2)]}

    def objective(rate):
        final = train(loss, start, None, rule(rate), STEPS)
        return np.sum(final["a"]) + np.sum(final["b"][1])

    with pytest.raises(rl.NonFiniteError) as caught:
        grad(objective)(0.01)
    assert (caught.value.step, caught.value.leaf) == (at, "weights['b'][1][0]")


@each_way
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_a_hyperparameter_without_a_derivative_is_named_with_its_step(train, at):
    def loss(weights, hyper, t):
        root = np.sqrt(hyper["h"][1]) if t == at else 0.0
        return np.sum((1.0 + root) * weights**2)

    def objective(hyper):
        return np.sum(train(loss, np.ones(3), hyper, rl.SGD(0.1, 0.9), STEPS))

    with pytest.raises(rl.NonFiniteError) as caught:
        grad(objective)({"h": np.array([1.0, 0.0])})
    assert (caught.value.step, caught.value.leaf) == (at, "hyper['h'][1]")


@each_way
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_schedule_without_a_derivative_is_named_with_its_step(train):
    """ε so small that its square is 0, beside a weight that has no gradient yet."""

    def loss(weights, hyper, t):
        return np.sum(weights[0] ** 2) + (weights[1] if t >= 3 else 0.0)

    def objective(epsilon):
        optimizer = rl.RMSprop(0.01, 0.9, epsilon=epsilon)
        return np.sum(train(loss, np.ones(2), None, optimizer, STEPS))

    with pytest.raises(rl.NonFiniteError) as caught:
        grad(objective)(1e-200)
    assert caught.value.step == 2


@each_way
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("steps", [0, STEPS])
def test_an_objective_that_is_not_finite_is_named_before_the_way_back(train, bad, steps):
    def loss(weights, hyper, t):
        assert not taken_back, "a step of the way back was taken"
        return np.sum(weights["a"] ** 2)

    def objective(rate):
        final = train(loss, {"a": np.ones(3)}, None, rl.SGD(rate, 0.9), steps)
        taken_back.append(1)
        return np.sum(np.array([1.0, bad, 1.0]) * final["a"])

    taken_back = []
    message = r"leaf weights\['a'\]\[1\]: .* before the way back began"
    with pytest.raises(rl.NonFiniteError, match=message):
        grad(objective)(0.1)


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_chains_and_recurrent_networks_name_the_step_too():
    def potential(x, hyper, t):
        return np.sum(x**2) + (np.sum(x) * np.sqrt(hyper) if t == 2 else 0.0)

    def position(hyper):
        return np.sum(chains.run(potential, np.ones((2, 2)), hyper, 0.1, 0.9, 5, seed=0).position)

    with pytest.raises(rl.NonFiniteError, match=r"at step 2, leaf hyper: the derivative is"):
        grad(position)(0.0)

    def cell(weights, half, other, t):
        root = np.sqrt(weights["root"]) if t == 2 else 0.0
        return 0.5 * np.ones(1), weights["w"] * other + root

    def total(weights):
        loss = recurrent.total_loss
        return loss(cell, lambda w, hidden, t: np.sum(hidden), weights, np.ones(2), 5)

    with pytest.raises(rl.NonFiniteError, match=r"at step 2, leaf weights\['root'\]: the deriv"):
        grad(total)({"w": 0.25, "root": 0.0})


def quadratic(weights, hyper, t):
    return np.sum(weights**2)


@pytest.mark.parametrize(
    "use",
    [
        lambda tape: tape.weights,
        lambda tape: tape.velocity,
        lambda tape: tape.num_bits,
        lambda tape: tape.information,
        lambda tape: repr(tape),
        lambda tape: next(tape.rewind()),
        lambda tape: tape.pull_back(np.ones(3)),
    ],
    ids=["weights", "velocity", "num_bits", "information", "repr", "rewind", "pull_back"],
)
def test_a_tape_that_was_used_up_says_so(use):
    tape = rl.record(quadratic, np.ones(3), None, rl.SGD(0.1, 0.9), 5)
    tape.pull_back(np.ones(3), last=True)
    assert (tape.steps, tape.num_parameters) == (5, 3)
    with pytest.raises(RuntimeError, match=r"this tape was used up by pull_back\(last=True\)"):
        use(tape)


def test_so_do_chains_and_recurrent_networks():
    recording = chains.record(
        lambda x, h, t: np.sum(x**2), np.ones((1, 2)), None, 0.1, 0.9, 5, seed=0
    )
    recording.pull_back(np.ones((1, 2)), np.ones((1, 2)), np.zeros(()), last=True)
    with pytest.raises(RuntimeError, match="this recording was used up"):
        _ = recording.state

    def cell(weights, half, other, t):
        return 0.5 * np.ones(1), weights * other

    tape = recurrent.record(cell, lambda w, hidden, t: np.sum(hidden), 0.25, np.ones(2), 5)
    tape.pull_back(last=True)
    with pytest.raises(RuntimeError, match="this tape was used up"):
        _ = tape.hidden
