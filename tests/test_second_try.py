"""A gradient that rounds otherwise when it is traced: the step is undone with the one that went."""

import autograd.numpy as np
import numpy.testing as npt
import pytest
from autograd import grad
from autograd.tracer import isbox

import revlearn as rl

RULES = {
    "SGD": lambda rate: rl.SGD(rate, 0.9),
    "SGD, heavy ball": lambda rate: rl.SGD(rate, 0.9, dampening=0.0),
    "RMSprop": lambda rate: rl.RMSprop(rate, 0.9, epsilon=1e-4),
    "Adam": lambda rate: rl.Adam(rate, epsilon=1e-4),
    "AdamW": lambda rate: rl.AdamW(rate, epsilon=1e-4, weight_decay=0.1),
    "Nesterov": lambda rate: rl.Nesterov(rate, 0.9),
    "clipped": lambda rate: rl.Clipped(rl.SGD(rate, 0.9), 0.1),
    "averaged": lambda rate: rl.Averaged(rl.SGD(rate, 0.9), 0.99),
    "Adam, averaged and clipped": lambda rate: rl.Clipped(
        rl.Averaged(rl.Adam(rate, epsilon=1e-4), 0.9), 1.0
    ),
}
WEIGHTS = np.random.RandomState(0).randn(2000)
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def depth(value):
    return 1 + depth(value._value) if isbox(value) else 0


def loss_off_by(share, step=None):
    """Return a loss whose gradient, when its pullback is wanted, is off by a share of itself."""

    def loss(weights, hyper, t):
        traced = depth(weights) > 1 and step in (None, t)
        value = np.sum(np.tanh(weights * (1.0 + 0.1 * t)) ** 2)
        return value * np.array(1.0 + share * traced, dtype=weights.dtype)

    return loss


def hypergradients(train, loss, rule, steps, **options):
    def objective(rate):
        return np.sum(train(loss, WEIGHTS, None, rule(rate), steps, **options) ** 2)

    return grad(objective)(np.full(steps, 0.01))


@each_rule
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("share", [2e-16, 1e-14, 1e-12, 1e-10, 9e-10])
def test_below_the_tolerance_the_hypergradient_is_right(rule, steps, share):
    found = hypergradients(rl.train, loss_off_by(share), rule, steps)
    expected = hypergradients(rl.estimators.unrolled.train, loss_off_by(0.0), rule, steps)
    npt.assert_allclose(found, expected, rtol=1e-6)


@each_rule
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("share", [1.1e-9, 1e-8, 1e-7])
def test_above_it_the_step_is_named(rule, steps, share):
    for step in range(steps):
        with pytest.raises(rl.ReversalError) as caught:
            hypergradients(rl.train, loss_off_by(share, step), rule, steps)
        assert caught.value.step == step


@each_rule
@pytest.mark.parametrize("steps", [1, 3])
def test_in_single_precision_the_tolerance_is_wider(rule, steps):
    options = {"compute_dtype": np.float32}
    for share in (1e-7, 1e-6, 9e-5):
        found = hypergradients(rl.train, loss_off_by(share), rule, steps, **options)
        expected = hypergradients(rl.train, loss_off_by(0.0), rule, steps, **options)
        npt.assert_allclose(found, expected, rtol=1e-3)
    with pytest.raises(rl.ReversalError) as caught:
        hypergradients(rl.train, loss_off_by(1e-3), rule, steps, **options)
    assert caught.value.step == steps - 1


@each_rule
@pytest.mark.parametrize("begin", [1.0, 0.0], ids=["from afar", "from the optimum"])
def test_noise_at_an_optimum_is_rounding(rule, begin):
    """There the gradient is nothing but what numbers of size one leave when they cancel."""
    steps = 200 if begin else 40

    def loss_off_by(noise):
        def loss(weights, hyper, t):
            return np.sum(weights**2) + noise * (depth(weights) > 1) * np.sum(weights)

        return loss

    def objective(train, loss):
        def of(rate):
            final = train(loss, begin * np.ones(20), None, rule(rate), steps)
            return np.sum((1.0 + final) ** 2)

        return grad(of)(0.3)

    found = objective(rl.train, loss_off_by(1e-14 if begin else 1e-16))
    expected = objective(rl.train, loss_off_by(0.0))
    npt.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    if begin:
        with pytest.raises(rl.ReversalError, match="at step 199"):
            objective(rl.train, loss_off_by(1e-7))


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_tolerance_knows_no_scale(scale):
    from revlearn.checks import differ_by_rounding

    vector = scale * np.array([1.0, 0.5])
    assert differ_by_rounding(vector * (1.0 + 1e-12), vector, 1e-9)
    assert not differ_by_rounding(vector * (1.0 + 1e-6), vector, 1e-9)
    assert not differ_by_rounding(np.full(2, np.nan), vector, 1e-9)
    assert differ_by_rounding(0.0 * vector, 0.0 * vector, 1e-9)
    assert not differ_by_rounding(vector, 0.0 * vector, 1e-9)
