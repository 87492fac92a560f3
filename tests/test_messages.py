"""Errors that lead to what was wrong, and what is welcome although it looks wrong."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad

import revlearn as rl
from revlearn import chains, recurrent


def quadratic(weights, hyper, t):
    return np.sum(weights**2)


def train(optimizer, steps=5, loss=quadratic, start=1.0, **options):
    return rl.train(loss, start * np.ones(2), None, optimizer, steps, **options)


def run_chains(**changed):
    given = {"step_size": 0.1, "momentum": 0.9, "transitions": 5, "seed": 0} | changed
    return chains.run(lambda x, h, t: np.sum(x**2), np.ones((1, 2)), None, **given)


def cell(weights, half, other, t):
    return 0.5 * np.ones(1), weights * other


def run_recurrent(steps=5, cell=cell, loss=lambda weights, hidden, t: np.sum(hidden)):
    return recurrent.total_loss(cell, loss, 0.25, np.ones(2), steps)


WHOLE = {
    "steps": lambda n: train(rl.SGD(0.1, 0.9), n),
    "checkpointed steps": lambda n: rl.estimators.checkpointed.train(
        quadratic, np.ones(2), None, rl.SGD(0.1, 0.9), n
    ),
    "recurrent steps": lambda n: run_recurrent(n),
    "transitions": lambda n: run_chains(transitions=n),
    "leaps": lambda n: run_chains(leaps=n),
    "seed": lambda n: run_chains(seed=n),
    "fraction_bits": lambda n: train(rl.SGD(0.1, 0.9), fraction_bits=n),
    "momentum_bits": lambda n: rl.SGD(0.1, 0.9, momentum_bits=n),
    "square_bits": lambda n: rl.Adam(0.1, square_bits=n),
    "direction_bits": lambda n: rl.Nesterov(0.1, 0.9, direction_bits=n),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_asked_for_by_name(name):
    for welcome in (5, np.int64(5), onp.uint8(5)):
        WHOLE[name](welcome)
    with pytest.raises(TypeError, match=rf"^{name.split()[-1]} must be an integer, not 5\.0"):
        WHOLE[name](5.0)
    with pytest.raises(ValueError, match=rf"^{name.split()[-1]} must .*, not -1$"):
        WHOLE[name](-1)


@pytest.mark.parametrize(
    "use",
    [
        lambda f: train(rl.SGD(f, 0.9)),
        lambda f: train(rl.SGD(np.array(0.1), f)),
        lambda f: run_chains(step_size=f),
        lambda f: run_chains(momentum=f),
    ],
)
def test_a_function_of_the_step_is_no_schedule(use):
    with pytest.raises(TypeError, match=r"is a function; .*numpy\.array\(\[f\(t\) for t in"):
        use(lambda t: 0.1)


def test_a_meta_optimizer_does_not_train():
    for wrong in (rl.meta.SGD(0.1), rl.SGD, "sgd"):
        with pytest.raises(TypeError, match=r"for example revlearn\.SGD\(learning_rate=0\.1, mom"):
            train(wrong)


def steep(scale, from_step=0):
    def loss(weights, hyper, t):
        return (scale if t >= from_step else 1.0) * np.sum(weights**2)

    return loss


@pytest.mark.parametrize("optimizer", [rl.SGD(1e-9, 0.9), rl.Adam(1e-9), rl.Nesterov(1e-9, 0.9)])
def test_a_steep_loss_is_not_blamed_on_the_learning_rate(optimizer):
    with pytest.raises(rl.FixedPointOverflowError) as caught:
        train(optimizer, loss=steep(1e6))
    assert "The gradient is 2e+06 there" in str(caught.value)
    assert "divide it by a constant" in str(caught.value)
    assert "learning rate" not in str(caught.value)
    with pytest.raises(rl.FixedPointOverflowError, match=r"gradient is .*e\+06.*If training div"):
        train(optimizer, loss=steep(1e6, from_step=2))


def test_a_start_out_of_range_is_not_blamed_on_the_learning_rate():
    with pytest.raises(rl.FixedPointOverflowError, match="Start from smaller values") as e:
        train(rl.SGD(0.1, 0.9), start=5000.0)
    assert "learning rate" not in str(e.value)


def test_a_gradient_that_is_not_finite_at_the_start_is_not_called_divergence():
    loss = steep(1e300)
    with (
        pytest.warns(RuntimeWarning, match="overflow"),
        pytest.raises(rl.NonFiniteError, match="at the initial weights") as caught,
    ):
        train(rl.SGD(0.1, 0.9), loss=lambda w, h, t: loss(1e10 * w, h, t))
    assert "learning rate" not in str(caught.value)


def test_a_dampening_of_any_real_type_is_welcome():
    expected = train(rl.SGD(0.1, 0.9, dampening=0.0))
    for zero in (0, np.float32(0.0), np.int64(0)):
        assert np.array_equal(train(rl.SGD(0.1, 0.9, dampening=zero)), expected)


CLOSURES = {
    "gate": lambda x: run_recurrent(cell=lambda w, half, other, t: (x * np.ones(1), w * other)),
    "addition": lambda x: run_recurrent(
        cell=lambda w, half, other, t: (0.5 * np.ones(1), x * w * other)
    ),
    "loss": lambda x: run_recurrent(loss=lambda weights, hidden, t: x * np.sum(hidden)),
}


@pytest.mark.parametrize("name", CLOSURES)
def test_a_value_closed_over_by_a_recurrent_network_is_not_silently_lost(name):
    part = "loss" if name == "loss" else "cell"
    with pytest.raises(ValueError, match=f"^the {part} uses a value .*pass it in `weights`"):
        grad(CLOSURES[name])(0.5)
