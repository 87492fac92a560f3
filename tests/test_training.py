import gc
import itertools
import weakref

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import elementwise_grad, grad, jacobian, value_and_grad
from autograd.tracer import isbox

import revlearn as rl


def quadratic(weights, hyper, t):
    return 0.5 * hyper * np.sum(weights**2)


def test_every_state_on_the_way_back_is_the_state_on_the_way_forth(bowl):
    loss, start = bowl
    layout = rl.parameters.Layout(start, "weights")
    forth = []

    def remember(t, weights, velocity, gradient):
        forth.append((t, layout.flatten(weights), layout.flatten(velocity)))
        expected = layout.flatten(grad(loss)(weights, None, t))
        assert np.array_equal(layout.flatten(gradient), expected)

    tape = rl.record(loss, start, None, rl.SGD(0.05, 0.9), 200, callback=remember)
    back = [(t, layout.flatten(w), layout.flatten(v)) for t, w, v in tape.rewind()]
    assert len(back) == tape.steps == 200
    for (t, w, v), (s, x, u) in zip(back, reversed(forth), strict=True):
        assert t == s
        assert np.array_equal(w, x)
        assert np.array_equal(v, u)


def test_a_tape_can_be_rewound_again(bowl):
    loss, start = bowl
    tape = rl.record(loss, start, None, rl.SGD(0.05, 0.5), 50)
    first = [np.array(w["a"]) for _, w, _ in tape.rewind()]
    half_way = tape.rewind()
    for _ in range(20):
        next(half_way)
    second = [np.array(w["a"]) for _, w, _ in tape.rewind()]
    assert np.array_equal(first, second)
    assert repr(tape) == f"Tape(steps=50, num_parameters=8, num_bits={tape.num_bits})"


def test_training_is_gradient_descent_with_momentum():
    """By hand: w = 1, gradient 2w, γ = ½, α = 0.1, three steps; exact in binary but for α."""
    w, v = 1.0, 0.0
    for _ in range(3):
        v = 0.5 * v - 0.5 * 2.0 * w
        w = w + 0.1 * v
    final = rl.train(quadratic, 1.0, 2.0, rl.SGD(0.1, 0.5), 3)
    assert float(final) == pytest.approx(w, abs=1e-10)


def test_no_steps_return_the_start_and_its_gradient():
    def objective(weights):
        return np.sum(rl.train(quadratic, weights, 1.0, rl.SGD(0.1, 0.9), 0) ** 2)

    value, gradient = value_and_grad(objective)(np.array([0.5, -1.5]))
    assert float(value) == 2.5
    assert gradient.tolist() == [1.0, -3.0]


def test_it_composes_with_jacobian_and_with_itself():
    start = np.array([1.0, -0.5, 0.2])

    def final(rates):
        return rl.train(quadratic, start, 2.0, rl.SGD(rates, 0.6), 4)

    def unrolled(rates):
        return rl.estimators.unrolled.train(quadratic, start, 2.0, rl.SGD(rates, 0.6), 4)

    rates = np.array([0.1, 0.2, 0.3, 0.4])
    assert np.allclose(jacobian(final)(rates), jacobian(unrolled)(rates), atol=1e-8)

    def twice(rate):
        middle = rl.train(quadratic, start, 2.0, rl.SGD(rate, 0.6), 3)
        return np.sum(rl.train(quadratic, middle, rate, rl.SGD(0.3, 0.5), 3) ** 2)

    numeric = (twice(0.1 + 1e-5) - twice(0.1 - 1e-5)) / 2e-5
    assert grad(twice)(0.1) == pytest.approx(numeric, rel=1e-6)


def test_hyper_that_is_not_differentiated_costs_no_pullback(monkeypatch):
    asked = []
    original = rl.gradients.AutogradGradients.gradient_and_pullback

    def spy(self, *args, **options):
        asked.append(options["wrt_hyper"])
        return original(self, *args, **options)

    monkeypatch.setattr(rl.gradients.AutogradGradients, "gradient_and_pullback", spy)

    def objective(rate, strength):
        return np.sum(rl.train(quadratic, np.ones(2), strength, rl.SGD(rate, 0.9), 2))

    grad(objective, 0)(0.1, 1.0)
    grad(objective, 1)(0.1, 1.0)
    assert asked == [False, False, True, True]


def test_one_gradient_forwards_and_one_with_its_pullback_backwards():
    calls = []

    def loss(weights, hyper, t):
        calls.append(t)
        return quadratic(weights, hyper, t)

    def objective(rate):
        return np.sum(rl.train(loss, np.ones(2), 1.0, rl.SGD(rate, 0.9), 3))

    grad(objective)(0.1)
    assert calls == [0, 1, 2, 2, 1, 0]


def test_second_derivatives_are_refused_with_a_way_out():
    def objective(rate):
        return np.sum(rl.train(quadratic, np.ones(2), 1.0, rl.SGD(rate, 0.9), 2) ** 2)

    with pytest.raises(NotImplementedError, match=r"estimators\.unrolled"):
        elementwise_grad(grad(objective))(0.1)


def test_second_derivatives_are_refused_where_the_outer_loss_is_linear_too():
    def objective(rate):
        return np.sum(rl.train(quadratic, np.ones(2), 1.0, rl.SGD(rate, 0.9), 2))

    with pytest.raises(NotImplementedError, match=r"estimators\.unrolled"):
        grad(grad(objective))(0.1)


def test_a_loss_whose_state_alternates_with_the_kind_of_call_is_not_believed():
    """Three calls a step: forwards on one batch, traced on another, forwards' batch again."""
    data = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    for steps in (1, 2, 3, 4, 5, 20):
        calls = itertools.count()

        def loss(weights, hyper, t, calls=calls):
            return np.sum(np.cos(weights * data[next(calls) % 2]))

        def objective(weights, loss=loss, steps=steps):
            return np.sum(rl.train(loss, weights, None, rl.SGD(0.5, 0.5), steps))

        with pytest.raises(rl.ReversalError) as caught:
            grad(objective)(np.array([0.3, 0.5, 0.7]))
        assert caught.value.step is not None


def test_an_overflow_on_the_way_back_is_an_irreproducible_gradient_at_its_step():
    for bad in (1e6, np.nan, np.inf):
        calls = itertools.count()

        def loss(weights, hyper, t, calls=calls, bad=bad):
            return np.sum(np.cos(weights)) * (1.0 if next(calls) < 10 else bad)

        start = np.array([0.3, 0.5])
        with pytest.raises(rl.ReversalError) as caught:
            grad(lambda w, f=loss: np.sum(rl.train(f, w, None, rl.SGD(0.1, 0.5), 10)))(start)
        assert caught.value.step == 9


def test_single_precision_hyperparameters_are_the_same_forth_and_back():
    start = np.linspace(0.1, 1.0, 7)

    def objective(hyper):
        final = rl.train(lambda w, h, t: np.sum(np.cos(w * h)), start, hyper, rl.SGD(0.1, 0.9), 9)
        return np.sum(final**2)

    hyper = np.linspace(1.0, 2.0, 7, dtype=np.float32)
    value, gradient = value_and_grad(objective)(hyper)
    assert float(value) == float(objective(hyper))
    wide = grad(objective)(hyper.astype(np.float64))
    assert np.allclose(gradient, wide, rtol=1e-6)


def test_what_is_handed_out_may_be_changed_without_harm(bowl):
    loss, start = bowl
    optimizer, layout = rl.SGD(0.05, 0.9), rl.parameters.Layout(start, "weights")

    def spoil(t, weights, velocity, gradient):
        for nest in (weights, velocity, gradient):
            nest["a"][:] = 99.0

    plain = rl.record(loss, start, None, optimizer, 20)
    spoiled = rl.record(loss, start, None, optimizer, 20, callback=spoil)
    assert np.array_equal(layout.flatten(plain.weights), layout.flatten(spoiled.weights))
    d_weights = np.ones(layout.size)
    plain.pull_back(d_weights)
    assert np.array_equal(d_weights, np.ones(layout.size))
    with pytest.raises(ValueError, match=r"d_weights has shape \(3,\), expected \(8,\)"):
        plain.pull_back(np.ones(3))


@pytest.mark.parametrize("k", [0, 7, 19])
def test_an_irreproducible_gradient_is_reported_at_its_step(k):
    visits = []

    def loss(weights, hyper, t):
        visits.append(t)
        jitter = 1e-14 * visits.count(t) if t == k else 0.0
        return np.sum(np.cos(weights)) * (1.0 + jitter)

    start, optimizer = np.linspace(0.3, 1.0, 50), rl.SGD(0.1, 0.9)
    tape = rl.record(loss, start, None, optimizer, 20)
    message = rf"at step {k}, leaf weights\[\d+\]: .*seed its randomness"
    with pytest.raises(rl.ReversalError, match=message) as caught:
        list(tape.rewind())
    assert caught.value.step == k

    visits.clear()
    with pytest.raises(rl.ReversalError) as caught:
        grad(lambda w: np.sum(rl.train(loss, w, None, optimizer, 20)))(start)
    assert caught.value.step == k


def test_a_gradient_that_comes_back_with_other_signs_is_another_one():
    calls = itertools.count()

    def loss(weights, hyper, t):
        return np.sum(np.cos(weights)) * (1.0 if next(calls) < 5 else -1.0)

    tape = rl.record(loss, np.linspace(0.3, 1.0, 50), None, rl.SGD(0.1, 0.9), 5)
    with pytest.raises(rl.ReversalError, match="at step 4"):
        next(tape.rewind())


def test_a_gradient_that_rounds_otherwise_when_traced_is_not_called_irreproducible():
    """As scalars do: numpy's scalar power and its array power differ in the last bit."""

    def depth(value):
        return 1 + depth(value._value) if isbox(value) else 0

    def loss(weights, hyper, t):
        traced_for_the_pullback = depth(weights) > 1
        nudge = 1e-15 if traced_for_the_pullback and t % 3 == 1 else 0.0
        return np.sum(np.cos(weights)) * (1.0 + nudge)

    start = np.linspace(0.3, 1.0, 50)

    def objective(train):
        return grad(lambda w: np.sum(train(loss, w, None, rl.SGD(0.1, 0.9), 20) ** 2))(start)

    assert np.allclose(objective(rl.train), objective(rl.estimators.unrolled.train), atol=1e-9)
    layout = rl.parameters.Layout(start, "w")
    gradients = rl.gradients.AutogradGradients(loss, layout, rl.parameters.Layout(None, "h"))
    forth = gradients.gradient(start, np.zeros(0), 1)
    back, _ = gradients.gradient_and_pullback(start, np.zeros(0), 1, wrt_hyper=False)
    assert not np.array_equal(forth, back)


def test_a_gradient_that_is_not_finite_names_step_and_leaf():
    def loss(weights, hyper, t):
        return np.sum(weights["a"]) + (np.sum(np.sqrt(weights["b"])) if t == 3 else 0.0)

    start = {"a": np.ones(2), "b": np.array([1.0, 0.0])}
    with (
        pytest.warns(RuntimeWarning, match="divide by zero"),
        pytest.raises(
            rl.NonFiniteError, match=r"at step 3, leaf weights\['b'\]\[1\]: the gradient is inf"
        ) as caught,
    ):
        rl.train(loss, start, None, rl.SGD(0.0, 0.9), 10)
    assert (caught.value.step, caught.value.leaf) == (3, "weights['b'][1]")


@pytest.mark.parametrize(
    ("rate", "slot"), [(1000.0, "weights"), (1e-3, "velocity")], ids=["weights", "velocity"]
)
def test_overflow_names_step_leaf_and_remedy(rate, slot):
    def loss(weights, hyper, t):
        return -1000.0 * np.sum(weights["b"][0]) * (t >= 2)

    start = {"a": np.ones(2), "b": [np.ones((1, 2))]}
    optimizer = rl.SGD(rate, 1.0, dampening=0.0)
    with pytest.raises(rl.FixedPointOverflowError, match="fraction_bits below 52") as caught:
        rl.train(loss, start, None, optimizer, 10)
    assert caught.value.step == {"weights": 2, "velocity": 4}[slot]
    assert caught.value.leaf == f"{slot}['b'][0][0, 0]"
    assert np.array_equal(start["b"][0], np.ones((1, 2)))


def test_a_wider_range_is_chosen_by_the_run():
    def loss(weights, hyper, t):
        return 0.5 * np.sum(weights**2)

    start = np.array([5000.0, -3.0])
    with pytest.raises(rl.FixedPointOverflowError, match=r"leaf weights\[0\]"):
        rl.train(loss, start, None, rl.SGD(0.1, 0.9), 5)
    tape = rl.record(loss, start, None, rl.SGD(0.1, 0.9), 500, fraction_bits=40)
    for t, weights, _ in tape.rewind():
        pass
    assert weights.tolist() == [5000.0, -3.0]
    with pytest.raises(ValueError, match="fraction_bits"):
        rl.train(loss, start, None, rl.SGD(0.1, 0.9), 5, fraction_bits=63)


def test_wrong_arguments_are_named_before_anything_runs():
    def never(weights, hyper, t):
        raise AssertionError("the loss must not be called")

    sgd = rl.SGD(0.1, 0.9)
    with pytest.raises(ValueError, match=r"learning_rate has shape \(3,\)"):
        rl.train(never, 1.0, None, rl.SGD(np.ones(3), 0.9), 4)
    with pytest.raises(ValueError, match=r"missing velocity\['b'\]"):
        rl.train(never, {"a": 1.0, "b": 2.0}, None, sgd, 4, velocity={"a": 0.0})
    with pytest.raises(ValueError, match="no weights"):
        rl.train(never, {}, None, sgd, 4)
    with pytest.raises(ValueError, match="steps"):
        rl.train(never, 1.0, None, sgd, -1)
    with pytest.raises(TypeError, match="optimizer"):
        rl.train(never, 1.0, None, 0.1, 4)
    with pytest.raises(rl.NonFiniteError, match=r"leaf weights\['a'\]: it is nan"):
        rl.train(never, {"a": np.nan}, None, sgd, 4)


def test_overflow_is_located_in_the_whole_when_leaves_have_their_own_schedules():
    def loss(weights, hyper, t):
        return -1000.0 * weights["b"][0][0, 1]

    start = {"a": np.ones(2), "b": [np.ones((1, 2))]}
    rates = {"a": 0.1, "b": [1e3]}
    with pytest.raises(rl.FixedPointOverflowError) as caught:
        rl.train(loss, start, None, rl.SGD(rates, 0.5), 10)
    assert caught.value.leaf == "weights['b'][0][0, 1]"


@pytest.mark.filterwarnings("ignore:Output seems independent")
def test_a_loss_that_returns_nothing_is_explained():
    with pytest.raises(TypeError, match="at step 0 it returned NoneType"):
        rl.train(lambda w, h, t: None, np.ones(2), None, rl.SGD(0.1, 0.9), 4)


def test_a_loss_that_is_not_scalar_is_explained():
    with pytest.raises(ValueError, match=r"at step 0 it returned shape \(2,\): take a mean"):
        rl.train(lambda w, h, t: w**2, np.ones(2), None, rl.SGD(0.1, 0.9), 4)


def test_a_value_closed_over_is_not_silently_lost():
    def objective(strength):
        final = rl.train(lambda w, h, t: strength * w**2, 1.0, None, rl.SGD(0.1, 0.9), 3)
        return final**2

    with pytest.raises(ValueError, match="pass it in `hyper`"):
        grad(objective)(1.0)


def test_record_refuses_boxes():
    with pytest.raises(TypeError, match="call train instead"):
        grad(lambda r: rl.record(quadratic, 1.0, 1.0, rl.SGD(r, 0.9), 3).weights)(0.1)


def test_nothing_is_kept_once_the_graph_is_gone(monkeypatch):
    tapes = []
    original = rl.training.record_run

    def spy(*args):
        tape = original(*args)
        tapes.append(weakref.ref(tape))
        return tape

    monkeypatch.setattr(rl.training, "record_run", spy)
    gc.disable()  # freed by counting references, not by a later collection
    try:
        grad(lambda r: np.sum(rl.train(quadratic, np.ones(3), 1.0, rl.SGD(r, 0.9), 3)))(0.1)
        assert len(tapes) == 1
        assert tapes[0]() is None
    finally:
        gc.enable()


def test_what_spills_may_go_to_disk_and_comes_back(bowl, tmp_path):
    loss, start = bowl
    rule, steps = rl.SGD(0.01, 0.5), 300  # a bit a step: ten spills
    in_memory = rl.record(loss, start, None, rule, steps)
    on_disk = rl.record(loss, start, None, rule, steps, spill_to=tmp_path)
    assert on_disk.num_bits == in_memory.num_bits > 64 * 8 + 200 * 8
    assert not list(tmp_path.iterdir())  # the file has no name
    for _ in range(2):
        pairs = zip(in_memory.rewind(), on_disk.rewind(), strict=True)
        for (_, weights, _), (_, from_disk, _) in pairs:
            assert np.array_equal(weights["a"], from_disk["a"])

    def objective(rate, **options):
        return np.sum(rl.train(loss, start, None, rl.SGD(rate, 0.5), steps, **options)["a"])

    assert grad(objective)(0.01) == grad(objective)(0.01, spill_to=tmp_path)
    with pytest.raises(ValueError, match="existing folder"):
        objective(0.01, spill_to=tmp_path / "missing")


def test_the_callers_arrays_are_left_alone(bowl):
    loss, start = bowl
    before = onp.array(start["a"])
    tape = rl.record(loss, start, None, rl.SGD(0.05, 0.9), 5)
    tape.weights["a"][:] = 0.0
    assert np.array_equal(start["a"], before)
    assert not np.array_equal(tape.weights["a"], np.zeros((2, 2)))


def test_integers_and_single_precision_are_welcome():
    final = rl.train(quadratic, {"w": 1}["w"], 2, rl.SGD(1, 0.5), 1)
    assert float(final) == 0.0
    start = np.ones(2, dtype=np.float32)
    gradient = grad(lambda w: np.sum(rl.train(quadratic, w, 1.0, rl.SGD(0.1, 0.5), 2) ** 2))(start)
    assert np.allclose(
        gradient, 2 * (1 - 0.05 - (0.05 * 0.95 + 0.025)) ** 2 * np.ones(2), rtol=1e-5
    )
