import autograd.numpy as np
import pytest
from autograd import grad, jacobian

import revlearn as rl
from revlearn.gradients import AutogradGradients
from revlearn.parameters import Layout


@pytest.fixture(scope="module")
def problem(digits):
    train, _ = digits
    images, targets = train.images, train.targets
    weights = rl.models.init_mlp([784, 6, 10], np.random.RandomState(0))
    layout = Layout(weights, "weights")
    hyper = {"log_penalty": -3.0, "tilt": np.linspace(-0.1, 0.1, 784)}
    hyper_layout = Layout(hyper, "hyper")

    def loss(weights, hyper, t):
        rows = slice(20 * t, 20 * t + 20)
        log_probabilities = rl.models.mlp(weights, images[rows] * (1 + hyper["tilt"]))
        penalty = rl.losses.l2(weights, np.exp(hyper["log_penalty"]))
        return rl.losses.nll(log_probabilities, targets[rows]) + penalty

    flat, flat_hyper = 0.1 * layout.flatten(weights), hyper_layout.flatten(hyper)
    return loss, layout, hyper_layout, flat, flat_hyper


@pytest.mark.parametrize("wrt_hyper", [False, True])
def test_the_gradient_with_the_pullback_is_the_gradient_bit_for_bit(problem, wrt_hyper):
    loss, layout, hyper_layout, flat, flat_hyper = problem
    gradients = AutogradGradients(loss, layout, hyper_layout)
    for t in range(5):
        forward = gradients.gradient(flat, flat_hyper, t)
        backward, _ = gradients.gradient_and_pullback(flat, flat_hyper, t, wrt_hyper=wrt_hyper)
        assert np.array_equal(forward, backward)
        nested = grad(loss)(layout.unflatten(flat), hyper_layout.unflatten(flat_hyper), t)
        assert np.allclose(forward, layout.flatten(nested), rtol=1e-12, atol=1e-15)


def test_the_pullback_is_a_product_with_second_derivatives(problem):
    loss, layout, hyper_layout, flat, flat_hyper = problem
    gradients = AutogradGradients(loss, layout, hyper_layout)
    _, pull_back = gradients.gradient_and_pullback(flat, flat_hyper, 1, wrt_hyper=True)
    random = np.random.RandomState(0)
    u, direction, tilt = random.randn(flat.size), random.randn(flat.size), random.randn(785)
    to_weights, to_hyper = pull_back(u)
    step = 1e-5

    def gradient(weights, hyper):
        return gradients.gradient(weights, hyper, 1)

    along = gradient(flat + step * direction, flat_hyper) - gradient(
        flat - step * direction, flat_hyper
    )
    assert to_weights @ direction == pytest.approx(u @ along / (2 * step), rel=1e-6)
    along = gradient(flat, flat_hyper + step * tilt) - gradient(flat, flat_hyper - step * tilt)
    assert to_hyper @ tilt == pytest.approx(u @ along / (2 * step), rel=1e-6)


def test_models_and_losses_have_right_derivatives_of_second_order():
    random = np.random.RandomState(0)
    layers, inputs = rl.models.init_mlp([3, 4, 2], random), random.randn(5, 3)
    layout = Layout(layers, "weights")
    targets = rl.losses.one_hot(np.array([0, 1, 1, 0, 1]), 2)

    def ours(flat):
        return rl.losses.nll(rl.models.mlp(layout.unflatten(flat), inputs), targets)

    def plainly(flat):
        one, two = layout.unflatten(flat)
        hidden = 1 - 2 / (np.exp(2 * (np.dot(inputs, one["weights"]) + one["biases"])) + 1)
        scores = np.dot(hidden, two["weights"]) + two["biases"]
        likelihood = np.sum(np.exp(scores) * targets, axis=1) / np.sum(np.exp(scores), axis=1)
        return -np.mean(np.log(likelihood))

    flat = layout.flatten(layers)
    assert ours(flat) == pytest.approx(plainly(flat), rel=1e-12)
    assert np.allclose(grad(ours)(flat), grad(plainly)(flat), atol=1e-12)
    assert np.allclose(jacobian(grad(ours))(flat), jacobian(grad(plainly))(flat), atol=1e-12)


def test_accuracy_counts_right_classes():
    scores = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]))
    assert rl.losses.accuracy(scores, rl.losses.one_hot(np.array([0, 1, 1]), 2)) == 2 / 3
