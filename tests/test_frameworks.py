"""Losses written in JAX and PyTorch, and losses computed in single precision."""

import gc
import re
import sys
import weakref
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import autograd.numpy as np
import pytest
from autograd import grad

import needs
import revlearn as rl
from revlearn.errors import how_to_install
from revlearn.gradients import gradients_of
from revlearn.parameters import Layout, as_aligned, map_leaves, named_leaves

STEPS, BATCH = 12, 5
RANDOM = np.random.RandomState(0)
INPUTS, TARGETS = RANDOM.randn(60, 4), RANDOM.randn(60, 2)


def leaves_of(nest):
    return dict(named_leaves(nest, ""))


def regression(square, tanh, total, rows, dtype=np.float64):
    """Return a training loss, with a penalty for each weight, in the functions of a framework."""

    def predict(weights, inputs):
        return tanh(inputs @ weights["second"][0] + weights["second"][1]) @ weights["first"]

    def loss(weights, hyper, t):
        inputs, targets = rows(t, dtype)
        error = total(square(predict(weights, inputs) - targets)) / BATCH
        pairs = zip(leaves_of(weights).values(), leaves_of(hyper).values(), strict=True)
        return error + sum(total(penalty * square(weight)) for weight, penalty in pairs)

    return loss


class Jax:
    name = "jax"

    def __init__(self):
        self.jax = needs.module("jax")
        self.np = self.jax.numpy
        self.wrap = rl.gradients.jax
        self.double = lambda: self.jax.enable_x64(True)

    def loss(self, dtype=np.float64):
        jnp = self.np

        def rows(t, dtype):
            return [
                self.jax.lax.dynamic_slice_in_dim(jnp.asarray(data, dtype), BATCH * t, BATCH)
                for data in (INPUTS, TARGETS)
            ]

        return regression(jnp.square, jnp.tanh, jnp.sum, rows, dtype)

    def array(self, values):
        return self.np.array(values)

    def value_and_grad(self, objective, nest):
        return self.jax.value_and_grad(objective)(map_leaves(self.array, nest))

    def gradient(self, loss, weights, t):
        return self.jax.grad(loss)(weights, t)


class Torch:
    name = "torch"
    double = nullcontext

    def __init__(self):
        self.torch = needs.module("torch")
        self.np = self.torch
        self.wrap = rl.gradients.torch

    def loss(self, dtype=np.float64):
        def rows(t, dtype):
            part = slice(BATCH * t, BATCH * t + BATCH)
            return [self.torch.tensor(data[part].astype(dtype)) for data in (INPUTS, TARGETS)]

        torch = self.torch
        return regression(torch.square, torch.tanh, torch.sum, rows, dtype)

    def array(self, values):
        return self.torch.tensor(values)

    def value_and_grad(self, objective, nest):
        nest = map_leaves(lambda leaf: self.torch.tensor(leaf, requires_grad=True), nest)
        value = objective(nest)
        value.backward()
        return value.detach(), map_leaves(lambda leaf: leaf.grad, nest)

    def gradient(self, loss, weights, t):
        flat = list(leaves_of(weights).values())
        found = iter(self.torch.autograd.grad(loss(weights, t), flat, create_graph=True))
        return map_leaves(lambda _: next(found), weights)


class Autograd:
    name = "autograd"
    np = np
    double = nullcontext

    def wrap(self, loss):
        return loss

    def loss(self, dtype=np.float64):
        def rows(t, dtype):
            part = slice(BATCH * t, BATCH * t + BATCH)
            return INPUTS[part].astype(dtype), TARGETS[part].astype(dtype)

        return regression(np.square, np.tanh, np.sum, rows, dtype)


@pytest.fixture(params=[Jax, Torch], ids=["jax", "torch"])
def framework(request):
    return request.param()


@pytest.fixture(params=[Autograd, Jax, Torch], ids=["autograd", "jax", "torch"])
def any_framework(request):
    return request.param()


def start(seed=1, scale=0.5):
    random = np.random.RandomState(seed)
    # The keys are not in alphabetical order: JAX sorts them.
    return {
        "second": [scale * random.randn(4, 3), scale * random.randn(3)],
        "first": scale * random.randn(3, 2),
    }


def schedule(low, high, bits, seed):
    """Return a value for each leaf and step, of so many bits, which no optimizer rounds."""
    random = np.random.RandomState(seed)
    return map_leaves(
        lambda _: np.rint(random.uniform(low, high, STEPS) * 2**bits) / 2**bits, start()
    )


# By name: how to make it, its schedules, the slots that it starts from.
OPTIMIZERS = {
    "SGD": (rl.SGD, {"learning_rate": (0.05, 0.3, 40), "momentum": (0.3, 0.95, 16)}, ["velocity"]),
    "Adam": (
        rl.Adam,
        {
            "learning_rate": (0.01, 0.1, 40),
            "beta1": (0.5, 0.9, 16),
            "beta2": (0.8, 0.99, 24),
            "epsilon": (0.01, 0.02, 40),
        },
        ["velocity", "square"],
    ),
    "Clipped": (
        lambda threshold, **rest: rl.Clipped(rl.SGD(**rest), threshold),
        {"learning_rate": (0.05, 0.3, 40), "momentum": (0.3, 0.95, 16)},
        ["velocity"],
    ),
}


def everything(name):
    """Return all that can be differentiated, and no start of a slot that the optimizer lacks."""
    _, ranges, slots = OPTIMIZERS[name]
    schedules = {key: schedule(*ranges[key], seed) for seed, key in enumerate(ranges)}
    if name == "Clipped":
        schedules["threshold"] = np.random.RandomState(9).uniform(1.0, 4.0, STEPS)
    return {
        "weights": start(),
        "hyper": map_leaves(lambda leaf: 0.02 * leaf**2, start(2)),
        "schedules": schedules,
        "slots": {
            slot: map_leaves(np.abs if slot == "square" else np.array, start(3, 0.1))
            for slot in slots
        },
    }


def unrolled(framework, loss, name, given):
    """Train in floats, written anew: the update rules as the papers have them."""
    exp = framework.np
    weights = given["weights"]
    velocity = given["slots"]["velocity"]
    square = given["slots"].get("square", velocity)
    kept = {}
    for t in range(STEPS):
        gradient = framework.gradient(lambda w, t: loss(w, given["hyper"], t), weights, t)
        g, w, v, s = (leaves_of(nest) for nest in (gradient, weights, velocity, square))
        rates = {
            key: {leaf: row[t] for leaf, row in leaves_of(value).items()}
            for key, value in given["schedules"].items()
        }
        if name == "Clipped":
            length = exp.sqrt(sum(exp.sum(leaf**2) for leaf in g.values()))
            threshold = rates["threshold"][""]
            if length > threshold:
                g = {leaf: value * threshold / length for leaf, value in g.items()}
        new = {"w": {}, "v": {}, "s": {}}
        for leaf in w:
            rate = rates["learning_rate"][leaf]
            if name == "Adam":
                beta1, beta2 = rates["beta1"][leaf], rates["beta2"][leaf]
                first, second = kept.get(leaf, (1.0, 1.0))
                kept[leaf] = first, second = first * beta1, second * beta2
                new["v"][leaf] = beta1 * v[leaf] - (1 - beta1) * g[leaf]
                new["s"][leaf] = beta2 * s[leaf] + (1 - beta2) * g[leaf] ** 2
                root = exp.sqrt(new["s"][leaf] / (1 - second)) + rates["epsilon"][leaf]
                step = rate * new["v"][leaf] / (1 - first) / root
            else:
                momentum = rates["momentum"][leaf]
                new["v"][leaf] = momentum * v[leaf] - (1 - momentum) * g[leaf]
                new["s"][leaf] = s[leaf]
                step = rate * new["v"][leaf]
            new["w"][leaf] = w[leaf] + step
        weights, velocity, square = (renested(new[key], weights) for key in ("w", "v", "s"))
    return weights


def renested(by_name, like):
    names = iter(leaves_of(like))
    return map_leaves(lambda _: by_name[next(names)], like)


def exact(framework, loss, name, given, train=rl.train, **options):
    make = OPTIMIZERS[name][0]
    return train(
        framework.wrap(loss),
        given["weights"],
        given["hyper"],
        make(**given["schedules"]),
        STEPS,
        **given["slots"],
        **options,
    )


def outer(framework, weights):
    products = [framework.np.sum(framework.np.sin(leaf)) for leaf in leaves_of(weights).values()]
    return sum(products) + products[0] * products[1]


def assert_close(found, expected, tolerance):
    found, expected = leaves_of(found), leaves_of(expected)
    assert set(found) == set(expected)
    for name in expected:
        difference = np.abs(np.asarray(found[name]) - np.asarray(expected[name])).max()
        assert difference <= tolerance * np.abs(np.asarray(expected[name])).max(), name


WAYS = {"reversal": rl.train, "checkpoints": rl.estimators.checkpointed.train}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_hypergradient_is_that_of_the_frameworks_own_unrolled_run(framework, name, way):
    loss = framework.loss()
    with framework.double():

        def objective(train):
            return lambda given: outer(framework, train(framework, loss, name, given))

        trained = partial(exact, train=way)
        value, found = framework.value_and_grad(objective(trained), everything(name))
        reference, expected = framework.value_and_grad(objective(unrolled), everything(name))
        assert float(value) == pytest.approx(float(reference), rel=1e-9)
        assert all(type(leaf) is type(framework.array(0.5)) for leaf in leaves_of(found).values())
        assert all(np.any(np.asarray(leaf) != 0.0) for leaf in leaves_of(expected).values())
        assert_close(found, expected, 1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_state_on_the_way_back_is_the_state_on_the_way_forth(any_framework, name, dtype):
    given = everything(name)
    forth = []

    def remember(t, weights, velocity, gradient):
        layout = Layout(weights, "weights")
        forth.append((layout.flatten(weights), layout.flatten(velocity), layout.flatten(gradient)))

    tape = rl.record(
        any_framework.wrap(any_framework.loss(dtype)),
        given["weights"],
        given["hyper"],
        OPTIMIZERS[name][0](**given["schedules"]),
        STEPS,
        callback=remember,
        compute_dtype=dtype,
    )
    for t, weights, velocity in tape.rewind():
        layout = Layout(weights, "weights")
        assert np.array_equal(layout.flatten(weights), forth[t][0])
        assert np.array_equal(layout.flatten(velocity), forth[t][1])
        assert np.array_equal(forth[t][2], forth[t][2].astype(dtype))
    assert t == 0
    assert_close(weights, given["weights"], 1e-15)
    assert len(forth) == STEPS


def perceptron(framework, dtype=np.float64):
    """Return a loss on digits with a penalty for each weight, and flat weights and penalties."""
    digits, _ = rl.datasets.mnist_subset().split(250, 10)
    layers = rl.models.init_mlp([784, 20, 20, 10], np.random.RandomState(0), scale=0.1)
    penalties = map_leaves(lambda leaf: 0.01 + 0.0 * leaf, layers)
    images, targets = digits.images.astype(dtype), digits.targets.astype(dtype)
    exp = framework.np
    log_softmax, array = {
        "autograd": lambda: (rl.models.log_softmax, np.array),
        "jax": lambda: (framework.jax.nn.log_softmax, exp.asarray),
        "torch": lambda: ((lambda scores: exp.log_softmax(scores, dim=1)), exp.tensor),
    }[framework.name]()

    def loss(weights, hyper, t):
        hidden = array(images)
        for layer in weights[:-1]:
            hidden = exp.tanh(hidden @ layer["weights"] + layer["biases"])
        scores = hidden @ weights[-1]["weights"] + weights[-1]["biases"]
        pairs = zip(leaves_of(weights).values(), leaves_of(hyper).values(), strict=True)
        penalty = sum(exp.sum(strength * weight**2) for weight, strength in pairs)
        return -exp.sum(log_softmax(scores) * array(targets)) / 250 + penalty

    return framework.wrap(loss), layers, penalties


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("wrt_hyper", [False, True])
def test_the_gradient_with_the_pullback_is_the_gradient_bit_for_bit(
    any_framework, wrt_hyper, dtype
):
    loss, layers, penalties = perceptron(any_framework, dtype)
    layout, hyper_layout = Layout(layers, "weights"), Layout(penalties, "hyper")
    weights, hyper = layout.flatten(layers), hyper_layout.flatten(penalties)
    cotangent = np.random.RandomState(1).randn(weights.size)
    gradients = gradients_of(loss, layout, hyper_layout, dtype)
    forth = gradients.gradient(weights, hyper, 0)
    back, pull_back = gradients.gradient_and_pullback(weights, hyper, 0, wrt_hyper=wrt_hyper)
    assert np.array_equal(forth, back)
    found = pull_back(cotangent)
    options = {"wrt_hyper": wrt_hyper, "known": cotangent}
    at_once, pull_back = gradients.gradient_and_pullback(weights, hyper, 0, **options)
    assert np.array_equal(forth, at_once)
    both, tolerance = np.concatenate(pull_back(cotangent)), 1e-14 if dtype == np.float64 else 1e-5
    assert_close(both, np.concatenate(found), tolerance)
    reference = gradients_of(*perceptron(Autograd())[:1], layout, hyper_layout, np.float64)
    expected_gradient, pull_back = reference.gradient_and_pullback(
        weights, hyper, 0, wrt_hyper=True
    )
    expected = pull_back(cotangent)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert_close(forth, expected_gradient, tolerance)
    assert_close(found[0], expected[0], tolerance)
    assert found[1].size == (hyper.size if wrt_hyper else 0)
    if wrt_hyper:
        assert_close(found[1], expected[1], tolerance)
    for vector in (forth, back, *found):
        assert type(vector) is np.ndarray
        assert vector.dtype == np.float64
        assert np.array_equal(vector, vector.astype(dtype))


def test_what_is_handed_in_stays_as_it_was(any_framework):
    # The gradient is the weights themselves, its pullback the cotangent, and that of the cube
    # needs the weights again. All may share memory with what was handed in, none may change it.
    def loss(weights, hyper, t):
        return (any_framework.np.sum(weights**2) / 2) + any_framework.np.sum(hyper**3)

    def cube(weights, hyper, t):
        return any_framework.np.sum(weights**3) / 3

    values = np.linspace(0.5, 1.5, 1000)
    layout, hyper_layout = Layout(values, "weights"), Layout(1.0, "hyper")
    for function in (loss, cube):
        gradients = gradients_of(any_framework.wrap(function), layout, hyper_layout, np.float64)
        memory, cotangent = (as_aligned(values, copy=True) for _ in range(2))
        hyper = np.ones(1)
        alone = gradients.gradient(memory, hyper, 0)
        found, pull_back = gradients.gradient_and_pullback(memory, hyper, 0, wrt_hyper=False)
        result, _ = pull_back(cotangent)
        assert np.array_equal(memory, values)
        assert np.array_equal(cotangent, values)
        assert np.array_equal(hyper, np.ones(1))
        assert np.allclose(alone, values if function is loss else values**2, rtol=1e-15)
        assert np.array_equal(found, alone)
        assert np.allclose(result, values if function is loss else 2 * values**2, rtol=1e-15)


def counted(monkeypatch, *, nudge=lambda t: 0.0):
    """Count calls of whatever makes gradients, and nudge those that come with a pullback."""
    calls = []
    original = rl.setup.gradients_of

    def spy(*arguments):
        inner = original(*arguments)

        def gradient(weights, hyper, t):
            calls.append(("gradient", t))
            return inner.gradient(weights, hyper, t)

        def gradient_and_pullback(weights, hyper, t, **options):
            calls.append(("with hyper" if options["wrt_hyper"] else "without hyper", t))
            found, pull_back = inner.gradient_and_pullback(weights, hyper, t, **options)
            return found * (1.0 + nudge(t)), pull_back

        return SimpleNamespace(gradient=gradient, gradient_and_pullback=gradient_and_pullback)

    monkeypatch.setattr(rl.setup, "gradients_of", spy)
    return calls


def test_training_runs_once_forth_and_once_back(framework, monkeypatch):
    calls = counted(monkeypatch)
    given = everything("SGD")
    with framework.double():
        framework.value_and_grad(
            lambda given: outer(framework, exact(framework, framework.loss(), "SGD", given)), given
        )
    back = [("with hyper", t) for t in range(STEPS)[::-1]]
    assert calls == [("gradient", t) for t in range(STEPS)] + back


def test_what_is_not_differentiated_costs_no_pullback(framework, monkeypatch):
    calls = counted(monkeypatch)
    given = everything("SGD")
    loss = framework.loss()

    def objective(rate):
        # Arrays of the framework, but not differentiated.
        arrays = map_leaves(framework.array, given)
        arrays["schedules"]["learning_rate"] = rate
        return outer(framework, exact(framework, loss, "SGD", arrays))

    with framework.double():
        framework.value_and_grad(objective, np.array(0.1))
        assert {kind for kind, _ in calls} == {"gradient", "without hyper"}
        calls.clear()
        final = exact(framework, loss, "SGD", map_leaves(framework.array, given))
        assert calls == [("gradient", t) for t in range(STEPS)]
        assert type(final["first"]) is type(framework.array(0.5))


def test_a_gradient_that_rounds_otherwise_with_its_pullback_is_not_irreproducible(
    framework, monkeypatch
):
    loss = framework.loss()

    def hypergradients():
        with framework.double():
            return framework.value_and_grad(
                lambda given: outer(framework, exact(framework, loss, "SGD", given)),
                everything("SGD"),
            )[1]

    expected = hypergradients()
    calls = counted(monkeypatch, nudge=lambda t: 1e-12 if t % 3 == 1 else 0.0)
    found = hypergradients()
    again = [("gradient", t) for t in range(STEPS)[::-1] if t % 3 == 1]
    assert [call for call in calls[STEPS:] if call[0] == "gradient"] == again
    assert_close(found, expected, 1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_a_loss_that_xla_fuses_otherwise_with_its_pullback_is_not_irreproducible(dtype, tolerance):
    framework = Jax()
    jax, jnp = framework.jax, framework.np
    random = np.random.RandomState(0)
    start, hyper = random.randn(500), random.randn(500)

    def loss(weights, hyper, t):
        return -jnp.sum(jax.nn.log_softmax(weights * hyper) * jax.nn.softmax(weights))

    gradients = gradients_of(
        framework.wrap(loss), Layout(start, "weights"), Layout(hyper, "hyper"), dtype
    )
    back, _ = gradients.gradient_and_pullback(start, hyper, 0, wrt_hyper=True)
    if np.array_equal(gradients.gradient(start, hyper, 0), back):
        pytest.skip("this version of XLA fuses both functions alike")

    def exactly(given):
        optimizer = rl.SGD(given["rate"], 0.5)
        wrapped = framework.wrap(loss)
        weights, hyper = given["start"], given["hyper"]
        final = rl.train(wrapped, weights, hyper, optimizer, 20, compute_dtype=dtype)
        return jnp.sum(final**2)

    def plainly(given):
        weights, velocity = given["start"], 0.0
        for _ in range(20):
            gradient = jax.grad(loss)(weights, given["hyper"], 0)
            velocity = 0.5 * velocity - 0.5 * gradient
            weights = weights + given["rate"] * velocity
        return jnp.sum(weights**2)

    with framework.double():
        given = {"start": start, "hyper": hyper, "rate": np.array(0.5)}
        _, found = framework.value_and_grad(exactly, given)
        _, expected = framework.value_and_grad(plainly, given)
    assert_close(found, expected, tolerance)


def test_one_that_differs_by_more_than_rounding_is_irreproducible(framework, monkeypatch):
    counted(monkeypatch, nudge=lambda t: 1e-6 if t == 4 else 0.0)
    with framework.double(), pytest.raises(rl.ReversalError, match="at step 4"):
        framework.value_and_grad(
            lambda given: outer(framework, exact(framework, framework.loss(), "SGD", given)),
            everything("SGD"),
        )


def test_nothing_is_kept_once_the_graph_is_gone(framework, monkeypatch):
    tapes = []
    original = rl.training.record_run

    def spy(*args):
        tape = original(*args)
        tapes.append(weakref.ref(tape))
        return tape

    monkeypatch.setattr(rl.training, "record_run", spy)
    with framework.double():
        framework.value_and_grad(
            lambda given: outer(framework, exact(framework, framework.loss(), "SGD", given)),
            everything("SGD"),
        )
    gc.collect()
    assert len(tapes) == 1
    assert tapes[0]() is None


def test_numpy_goes_in_and_numpy_comes_out(framework):
    given = everything("SGD")
    final = exact(framework, framework.loss(), "SGD", given)
    expected = exact(Autograd(), Autograd().loss(), "SGD", given)
    assert type(final["first"]) is np.ndarray
    assert_close(final, expected, 1e-9)


def test_an_objective_in_autograd_goes_through_a_loss_of_another_framework(framework):
    given = everything("SGD")

    def objective(framework):
        loss = framework.loss()
        return lambda given: outer(Autograd, exact(framework, loss, "SGD", given))

    expected = grad(objective(Autograd()))(given)
    assert_close(grad(objective(framework))(given), expected, 1e-9)
    # Constants of the framework beside what autograd differentiates.
    mixed = grad(
        lambda rate: objective(framework)(
            {
                **given,
                "weights": map_leaves(
                    lambda leaf: framework.array(leaf.astype(np.float32)), given["weights"]
                ),
                "schedules": {**given["schedules"], "learning_rate": rate},
            }
        )
    )(given["schedules"]["learning_rate"])
    assert_close(mixed, expected["schedules"]["learning_rate"], 1e-4)


def test_final_weights_and_derivatives_have_the_types_of_what_went_in(framework):
    loss, given = framework.loss(), everything("SGD")
    single = map_leaves(lambda leaf: leaf.astype(np.float32), given)

    def objective(given):
        final = exact(framework, loss, "SGD", given)
        assert {str(leaf.dtype).split(".")[-1] for leaf in leaves_of(final).values()} == {"float32"}
        return outer(framework, final)

    _, found = framework.value_and_grad(objective, single)
    with framework.double():
        _, expected = framework.value_and_grad(
            lambda given: outer(framework, exact(framework, loss, "SGD", given)), given
        )
    types = {str(leaf.dtype).split(".")[-1] for leaf in leaves_of(found).values()}
    assert types == {"float32"}
    assert_close(found, expected, 1e-4)


def test_no_steps_return_the_start_and_its_gradient(framework):
    with framework.double():

        def objective(weights):
            loss = framework.wrap(lambda w, hyper, t: framework.np.sum(w))
            return framework.np.sum(rl.train(loss, weights, None, rl.SGD(0.1, 0.9), 0) ** 2)

        value, gradient = framework.value_and_grad(objective, np.array([0.5, -1.5]))
        assert float(value) == 2.5
        assert gradient.tolist() == [1.0, -3.0]


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_missing_framework_names_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=re.escape(how_to_install(name))):
        getattr(rl.gradients, name)(lambda w, hyper, t: 0.0)


def test_a_bad_loss_is_explained(framework):
    def run(loss, weights):
        return rl.train(framework.wrap(loss), weights, None, rl.SGD(0.1, 0.9), 4)

    with pytest.raises(ValueError, match=r"returned shape \(2,\): take a mean or a sum"):
        run(lambda w, hyper, t: w**2, np.ones(2))
    with pytest.raises(TypeError, match="returned NoneType"):
        run(lambda w, hyper, t: None, np.ones(2))
    with pytest.raises(rl.NonFiniteError, match=r"at step 0, leaf weights\[1\]: the gradient is"):
        run(lambda w, hyper, t: framework.np.sum(framework.np.sqrt(w)), np.array([1.0, 0.0]))
    with pytest.raises(TypeError, match="optimizer must be an update rule"):
        rl.train(framework.wrap(lambda w, hyper, t: w), 1.0, None, 0.1, 4)


def test_a_value_closed_over_is_not_silently_lost(framework):
    def objective(start):
        def inner(strength):
            loss = framework.wrap(lambda w, hyper, t: strength * w**2)
            return rl.train(loss, start(strength), None, rl.SGD(0.1, 0.9), 3) ** 2

        return inner

    # With nothing else that is differentiated, and with something.
    for begin in (lambda strength: 1.0, lambda strength: strength):
        with pytest.raises(ValueError, match="pass it in `hyper`"):
            framework.value_and_grad(objective(begin), np.array(1.0))


def test_record_refuses_what_is_differentiated(framework):
    loss, given = framework.loss(), everything("SGD")

    def final(given):
        optimizer = rl.SGD(**given["schedules"])
        tape = rl.record(framework.wrap(loss), given["weights"], given["hyper"], optimizer, STEPS)
        return tape.weights["first"].sum()

    with framework.double():
        assert np.isfinite(final(map_leaves(framework.array, given)))
        with pytest.raises(TypeError, match="call train instead"):
            framework.value_and_grad(final, given)


def test_two_frameworks_at_once_are_refused(framework):
    def objective(rate):
        def inner(start):
            loss = framework.wrap(lambda w, hyper, t: w**2)
            return rl.train(loss, start, None, rl.SGD(rate, 0.9), 3)

        framework.value_and_grad(inner, np.array(1.0))

    with pytest.raises(TypeError, match="write the objective in one of the two"):
        grad(objective)(0.1)


def square(weights, hyper, t):
    return weights**2


def through(framework, rate):
    return rl.train(framework.wrap(square), 1.0, None, rl.SGD(rate, 0.5), 3) ** 2


def test_tracing_of_training_is_refused_with_a_way_out():
    framework = Jax()
    jax, rate = framework.jax, framework.np.array(0.1)

    def objective(rate):
        return through(framework, rate)

    for traced in (jax.jit(objective), jax.jit(jax.grad(objective)), jax.grad(jax.grad(objective))):
        with pytest.raises(NotImplementedError, match="cannot be traced"):
            traced(rate)
    with pytest.raises(NotImplementedError, match="cannot be traced"):
        jax.vmap(objective)(framework.np.ones(2))
    with pytest.raises(NotImplementedError, match="once for each row"):
        jax.jacrev(objective)(rate)
    with pytest.raises(ValueError, match="inside jax"):
        jax.jit(lambda: through(framework, 0.1))()


def test_second_derivatives_of_tensors_are_refused():
    framework = Torch()
    torch = framework.torch
    rate = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    final = rl.train(framework.wrap(square), 1.0, None, rl.SGD(rate, 0.5), 3)
    for value in (final, final**2):  # where the outer loss is linear, too
        (first,) = torch.autograd.grad(value, rate, create_graph=True)
        with pytest.raises(NotImplementedError, match="unroll it in PyTorch"):
            torch.autograd.grad(first + rate**2, rate)


def test_tensors_in_training_without_gradients():
    framework = Torch()
    torch = framework.torch
    rate = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    expected = through(framework, rate).detach()
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            final = through(framework, rate)
        assert not final.requires_grad
        assert float(final) == float(expected)


def test_a_loss_that_forgets_the_weights_is_warned_of():
    framework = Torch()
    loss = framework.wrap(lambda w, hyper, t: w.detach() ** 2)
    with pytest.warns(UserWarning, match="does not depend on the weights"):
        final = rl.train(loss, 1.0, None, rl.SGD(0.1, 0.9), 2)
    assert float(final) == 1.0


def test_a_loss_is_compiled_once_and_forgotten_with_the_loss():
    framework, traced, programs = Jax(), [], []

    def make():
        def loss(weights, hyper, t):
            traced.append(1)
            return framework.np.sum(weights**2)

        return loss

    loss = make()
    for rate in (0.1, 0.2, 0.3):
        tape = rl.record(framework.wrap(loss), np.ones(3), None, rl.SGD(rate, 0.9), 5)
        programs.append(tape._setup.gradients._program.gradient)
    assert len(traced) == 3  # once for each run, to see whether it changed
    assert programs[0] is programs[1] is programs[2]
    assert programs[0]._cache_size() == 1
    del tape, programs
    gone = weakref.ref(loss)
    del loss
    gc.collect()
    assert gone() is None


def test_the_bit_width_of_jax_is_left_as_it_was():
    framework = Jax()
    widths = []

    def loss(weights, hyper, t):
        widths.append(str(weights.dtype))
        return framework.np.sum(weights**2)

    assert not framework.jax.config.jax_enable_x64
    for dtype in (np.float64, np.float32):
        rl.train(framework.wrap(loss), np.ones(3), None, rl.SGD(0.1, 0.9), 5, compute_dtype=dtype)
    assert widths == ["float64", "float32"]
    assert not framework.jax.config.jax_enable_x64


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradients_in_single_precision_keep_most_digits(any_framework, name):
    given = everything(name)

    def hypergradients(dtype):
        loss = any_framework.loss(dtype)
        return grad(
            lambda given: outer(
                Autograd, exact(any_framework, loss, name, given, compute_dtype=dtype)
            )
        )(given)

    assert_close(hypergradients(np.float32), hypergradients(np.float64), 1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, "no type", None.__class__])
def test_other_types_of_floats_are_refused(dtype):
    with pytest.raises(ValueError, match="compute_dtype must be"):
        rl.train(square, 1.0, None, rl.SGD(0.1, 0.9), 2, compute_dtype=dtype)
