import autograd.numpy as np
import numpy as onp
import pytest

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
