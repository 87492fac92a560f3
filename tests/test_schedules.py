import autograd.numpy as np
import pytest
from autograd.test_util import check_grads

import revlearn as rl
from revlearn import logit, sigmoid
from revlearn.parameters import Layout
from revlearn.schedules import expand

LAYOUT = Layout({"a": np.zeros(2), "b": np.zeros(3)}, "weights")


def test_shared_schedules_have_one_row():
    assert expand(0.5, "rate", LAYOUT, 3).tolist() == [[0.5, 0.5, 0.5]]
    assert expand(np.array([1, 2, 3]), "rate", LAYOUT, 3).tolist() == [[1.0, 2.0, 3.0]]


def test_a_nest_has_a_row_for_each_leaf_in_the_order_of_the_weights():
    rows = expand({"b": np.arange(3.0), "a": 7.0}, "rate", LAYOUT, 3)
    assert rows.tolist() == [[7.0, 7.0, 7.0], [0.0, 1.0, 2.0]]


@pytest.mark.parametrize("wrong", [np.ones(2), np.ones(4), np.ones((1, 3)), np.ones(1)])
def test_another_length_is_an_error_never_a_broadcast(wrong):
    with pytest.raises(ValueError, match=r"rate has shape .*\(3,\)"):
        expand(wrong, "rate", LAYOUT, 3)
    with pytest.raises(ValueError, match=r"rate\['b'\] has shape"):
        expand({"a": 1.0, "b": wrong}, "rate", LAYOUT, 3)


def test_a_list_of_numbers_is_explained():
    with pytest.raises(ValueError, match=r"wrap it in numpy\.array"):
        expand([0.1, 0.2, 0.3], "rate", LAYOUT, 3)
    with pytest.raises(ValueError, match="not a finite number"):
        expand(np.array([1.0, np.nan, 1.0]), "rate", LAYOUT, 3)
    with pytest.raises(TypeError, match="real numbers"):
        expand("fast", "rate", LAYOUT, 3)


def test_derivatives_reach_every_entry():
    weights = np.random.RandomState(0).randn(2, 3)

    def function(shared, each):
        rows = expand({"a": shared, "b": each}, "rate", LAYOUT, 3)
        return np.sum(weights * rows**2)

    check_grads(function, modes=["rev"], order=1)(0.3, np.array([1.0, 2.0, 3.0]))


def test_sigmoid_and_logit_are_inverse():
    x = np.linspace(-20, 20, 81)
    assert np.allclose(logit(sigmoid(x)), x, rtol=1e-6)
    assert sigmoid(np.array([-1000.0, 1000.0])).tolist() == [0.0, 1.0]
    check_grads(sigmoid, modes=["rev"], order=2)(x)


def test_a_schedule_changed_after_training_does_not_change_the_tape():
    rates = np.full(5, 0.1)
    tape = rl.record(lambda w, hyper, t: w**2, 1.0, None, rl.SGD(rates, 0.9), steps=5)
    rates[:] = 7.0
    *_, (_, first, _) = tape.rewind()
    assert first == 1.0
