import autograd.numpy as np
import numpy as onp
import pytest

import needs
import revlearn as rl
from revlearn.testing import check_hypergradient, check_reversible


def test_a_sound_loss_passes_and_an_unseeded_one_does_not(bowl):
    loss, start = bowl
    check_reversible(loss, start)
    random = onp.random.RandomState(0)

    def noisy(weights, hyper, t):
        return loss(weights, hyper, t) * (1 + 1e-12 * random.randn())

    with pytest.raises(rl.ReversalError) as caught:
        check_reversible(noisy, start, steps=10)
    assert caught.value.step == 9


def objective(hyper):
    optimizer = rl.SGD(np.exp(hyper["log_rate"]), rl.sigmoid(hyper["logit_momentum"]))
    final = rl.train(lambda w, h, t: h * np.sum(np.cos(w)), np.ones(3), hyper["h"], optimizer, 10)
    return np.sum(final**2)


HYPER = {"log_rate": -1.0 * np.ones(10), "logit_momentum": 0.5 * np.ones(10), "h": 1.0}


def test_a_right_hypergradient_passes():
    check_hypergradient(objective, HYPER, rtol=1e-3)


def test_options_reach_the_run():
    check_reversible(lambda w, h, t: 0.5 * np.sum(w**2), np.array([5000.0]), fraction_bits=40)


def test_the_difference_is_of_fourth_order():
    """With h = 0.2 the two-point difference of a sine is off by 0.7 %, the five-point by 5e-5."""
    check_hypergradient(lambda x: np.sum(np.sin(x)), np.array([0.4]), step=0.2, rtol=1e-3)


@pytest.mark.parametrize("error", [0.98, 1.02, 0.9, 1.1, -1.0, 0.0])
def test_a_wrong_hypergradient_fails(error):
    from autograd.extend import defvjp, primitive

    @primitive
    def crooked(x):
        return x

    defvjp(crooked, lambda ans, x: lambda g: error * g)

    def wrong(hyper):
        return objective({**hyper, "log_rate": crooked(hyper["log_rate"]), "logit_momentum": 0.5})

    with pytest.raises(AssertionError, match="finite differences"):
        check_hypergradient(wrong, {"log_rate": HYPER["log_rate"], "h": 1.0})


def crooked(error):
    """The identity, with a derivative that is wrong by a factor."""
    from autograd.extend import defvjp, primitive

    identity = primitive(lambda x: x)
    defvjp(identity, lambda ans, x: lambda g: error * g)
    return identity


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e9])
@pytest.mark.parametrize("optimum", [0.0, 0.3, 0.5, 1024.0])
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_an_exact_optimum_is_no_false_alarm(scale, optimum, floor):
    at = np.array([optimum, -optimum, 0.7 * optimum])
    bowls = [
        lambda x: np.sum((x - at) ** 2),
        lambda x: np.sum(np.cosh(x - at) - 1.0),
        lambda x: np.sum((x - at) ** 2 * (1.0 + 0.3 * (x - at))),
    ]
    for bowl in bowls:
        for step in (1e-2, 1e-4):
            check_hypergradient(lambda x: scale * (floor + bowl(x)), at, step=step, directions=10)


def test_the_best_rate_is_no_false_alarm():
    """One step to the minimum of a parabola: the slope with respect to the rate is 0."""

    def after_a_step(rate):
        final = rl.train(lambda w, h, t: 0.5 * w**2, 1.0, None, rl.SGD(rate, 0.5), 1)
        return (final - 0.3) ** 2

    for step in (1e-2, 1e-3):
        check_hypergradient(after_a_step, 1.4, step=step)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e9])
@pytest.mark.parametrize("error", [0.95, 1.05, 0.0])
def test_a_wrong_hypergradient_fails_at_every_scale(scale, error):
    identity = crooked(error)

    def wrong(hyper):
        return scale * objective({**hyper, "log_rate": identity(hyper["log_rate"])})

    with pytest.raises(AssertionError, match="finite differences"):
        check_hypergradient(wrong, HYPER | {"logit_momentum": 0.5})


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_lost_term_fails_at_every_scale(scale):
    """A penalty of a hundredth, whose slope is lost; and one that is constant beside it."""
    lost = crooked(0.0)

    def wrong(x):
        return scale * (1.0 + np.sum((x - 0.3) ** 2) + 0.01 * np.sum(lost(x)))

    for at in (np.full(3, 0.3), np.full(3, 0.31)):
        with pytest.raises(AssertionError, match="finite differences"):
            check_hypergradient(wrong, at)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_not_a_match(wrong):
    def objective(x):
        return np.sum(x) if x[0] < 0.315 else wrong * np.sum(x)

    with pytest.raises(AssertionError, match="finite differences"):
        check_hypergradient(objective, np.array([0.3]))


def test_an_objective_in_another_framework_is_checked_or_told_to_say_so():
    torch = needs.module("torch")

    def objective(x):
        return torch.sum(torch.sin(x["a"])) * torch.exp(x["b"])

    def wrong(x):
        return torch.sum(torch.sin(x["a"])) * torch.exp(x["b"].detach()) + 0.1 * x["b"]

    at = {"a": np.arange(3.0), "b": 0.5}
    check_hypergradient(rl.gradients.torch(objective), at, rtol=1e-6)
    with pytest.raises(AssertionError, match="finite differences"):
        check_hypergradient(rl.gradients.torch(wrong), at)
    with pytest.raises(TypeError, match=r"rl\.gradients\.torch\(objective\)"):
        check_hypergradient(objective, at)


def test_an_objective_in_jax_is_checked():
    jax = needs.module("jax")

    def objective(x):
        return jax.numpy.sum(jax.numpy.sin(x["a"])) * jax.numpy.exp(x["b"])

    at = {"a": np.arange(3.0), "b": 0.5}
    check_hypergradient(rl.gradients.jax(objective), at, rtol=1e-6)
    with pytest.raises(TypeError, match=r"rl\.gradients\.jax\(objective\)"):
        check_hypergradient(objective, at)
