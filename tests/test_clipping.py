"""Clipping of the gradient's length, whatever its scale."""

import autograd.numpy as np
import numpy.testing as npt
import pytest
from autograd import grad

import revlearn as rl
from revlearn.optimizers.clipping import clip

START = np.array([0.5, -0.1, 0.7])


def linear(gradient):
    return lambda weights, hyper, t: np.sum(gradient * weights)


def test_a_gradient_whose_square_overflows_moves_the_weights():
    final = rl.train(
        linear(np.array([1e200, 0.0])), np.zeros(2), None, rl.Clipped(rl.SGD(1.0, 0.5), 1.0), 1
    )
    assert np.array_equal(final, [-0.5, 0.0])


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1e-160, 1e-3, 1.0, 1e150, 1e200, 1e308])
@pytest.mark.parametrize("threshold", [1e-200, 1.0, 1e250])
def test_the_length_is_the_threshold_or_what_it_was(scale, threshold):
    # Integers times a power of two: hypot is exact to the last bit or so at any scale.
    gradient = scale * np.array([0.75, -1.0, 0.5])
    length = np.hypot(np.hypot(gradient[0], gradient[1]), gradient[2])
    clipped = clip(gradient, threshold)
    if length <= threshold:
        assert np.array_equal(clipped, gradient)
    else:
        npt.assert_allclose(clipped, gradient / length * threshold, rtol=1e-14)


@pytest.mark.parametrize("power", [-900, -500, 0, 500, 900])
def test_its_bits_and_its_derivative_go_with_the_scale(power):
    gradient, scale = np.random.RandomState(0).randn(50), 2.0**power
    assert np.array_equal(clip(scale * gradient, scale), scale * clip(gradient, 1.0))

    def total(scale):
        return lambda gradient: np.sum(np.sin(np.arange(50.0)) * clip(gradient, scale))

    assert np.array_equal(grad(total(scale))(scale * gradient), grad(total(1.0))(gradient))


def test_ordinary_gradients_are_clipped_as_the_text_says():
    gradient = np.random.RandomState(0).randn(50)
    assert np.array_equal(clip(gradient, 0.3), gradient * (0.3 / np.sqrt(np.sum(gradient**2))))


@pytest.mark.parametrize("argument", [0, 1], ids=["hyper", "threshold"])
def test_hypergradients_do_not_know_how_steep_the_loss_is(argument):
    def objective(scale):
        def loss(weights, hyper, t):
            return scale * np.sum((weights - hyper) ** 2)

        def of(target, threshold):
            optimizer = rl.Clipped(rl.SGD(0.5, 0.5), threshold)
            return np.sum(np.cos(rl.train(loss, START, target, optimizer, 4)))

        return grad(of, argument)(np.array([1.0, -2.0, 3.0]), 0.5)

    npt.assert_allclose(objective(1e250), objective(1.0), rtol=1e-9)


def test_a_gradient_that_is_not_finite_is_named_not_clipped():
    optimizer = rl.Clipped(rl.SGD(1.0, 0.5), 1.0)
    with pytest.raises(rl.NonFiniteError, match=r"step 0, leaf weights\[1\]: the gradient is inf"):
        rl.train(linear(np.array([1.0, np.inf])), np.ones(2), None, optimizer, 1)
