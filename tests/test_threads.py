"""Training in several threads at once gives what it gives in one."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import autograd.numpy as np
import numpy.testing as npt
import pytest
from autograd import grad, make_vjp, value_and_grad

import revlearn as rl


@pytest.fixture
def _frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def objective(log_rates, train=rl.train):
    def loss(weights, hyper, t):
        return np.sum(np.tanh(weights - 0.1 * hyper[t]) ** 2)

    final = train(loss, np.ones(3), log_rates, rl.SGD(np.exp(log_rates), 0.5), steps=len(log_rates))
    return np.sum(final**2)


@pytest.mark.usefixtures("_frequent_switches")
def test_hypergradients_are_the_same_from_any_number_of_threads():
    points = [np.full(30, -1.0 - 0.01 * i) for i in range(120)]
    expected = [value_and_grad(objective)(point) for point in points]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(value_and_grad(objective), points))
    for (value, gradient), (right_value, right_gradient) in zip(found, expected, strict=True):
        assert value == right_value
        assert np.array_equal(gradient, right_gradient)


def test_a_thread_may_end_while_another_one_is_between_two_derivatives():
    point, first_began, second_began = np.full(5, -1.0), Event(), Event()

    def first(log_rates):
        first_began.set()
        assert second_began.wait(10)
        return np.sum(log_rates)

    def second(log_rates):
        second_began.set()
        other.join(10)
        return objective(log_rates, rl.estimators.unrolled.train)

    other = Thread(target=grad(first), args=(point,))
    other.start()
    assert first_began.wait(10)
    npt.assert_allclose(grad(second)(point), grad(objective)(point), rtol=1e-9)


def test_one_derivative_may_be_taken_by_many_threads():
    pull_back, _ = make_vjp(objective)(np.full(30, -1.0))
    expected = pull_back(1.0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(pull_back, [1.0] * 8):
            assert np.array_equal(found, expected)


def test_a_thread_may_be_given_what_another_one_differentiates():
    def sum_of_runs(log_rates):
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(objective, [log_rates, 2.0 * log_rates]))

    point = np.full(5, -1.0)
    expected = grad(objective)(point) + 2.0 * grad(objective)(2.0 * point)
    npt.assert_allclose(grad(sum_of_runs)(point), expected, rtol=1e-13)
