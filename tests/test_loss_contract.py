"""What a loss is given, what it must not do, and what it is told: in all three frameworks."""

import copy
import gc
import pickle
import threading
import weakref
from types import SimpleNamespace

import autograd.numpy as np
import pytest
from autograd import grad

import needs
import revlearn as rl
from revlearn.gradients import with_jax
from revlearn.parameters import map_leaves, named_leaves

RANDOM = np.random.RandomState(0)
INPUTS = RANDOM.randn(12, 3)
LABELS = np.array([0, 2, 1, 1, 0, 2])
START = {"w": 0.3 * RANDOM.randn(3, 3), "b": np.zeros(3)}
FRAMEWORKS = ["autograd", "jax", "torch"]


def framework_of(name):
    """Return numpy's names in a framework, what wraps a loss, and what makes an array."""
    if name == "autograd":
        return SimpleNamespace(np=np, wrap=lambda loss: loss, array=np.array, log_sum=_log_sum)
    module = needs.module(name)
    if name == "jax":
        return SimpleNamespace(
            np=module.numpy,
            wrap=rl.gradients.jax,
            array=module.numpy.array,
            log_sum=lambda scores: module.nn.logsumexp(scores, axis=1),
            jax=module,
        )
    return SimpleNamespace(
        np=module,
        wrap=rl.gradients.torch,
        array=module.tensor,
        log_sum=lambda scores: module.logsumexp(scores, 1),
        torch=module,
    )


def _log_sum(scores):
    return np.log(np.sum(np.exp(scores), axis=1))


@pytest.fixture(params=FRAMEWORKS)
def any_framework(request):
    return framework_of(request.param)


@pytest.fixture(params=["jax", "torch"])
def framework(request):
    return framework_of(request.param)


@pytest.fixture
def jax():
    return framework_of("jax")


@pytest.fixture
def torch():
    return framework_of("torch")


def leaves_of(nest):
    return dict(named_leaves(nest, ""))


def run(framework, loss, hyper=None, weights=1.0, steps=3, **options):
    return rl.train(framework.wrap(loss), weights, hyper, rl.SGD(0.1, 0.5), steps, **options)


def classification(framework, seen=None):
    """Return a loss that picks scores by labels, and rows by a mask and a scalar."""

    def loss(weights, hyper, t):
        if seen is not None:
            seen.append(hyper)
        inputs = framework.np.asarray(INPUTS)
        scores = inputs @ weights["w"] + weights["b"]
        rows = scores[hyper["rows"] + hyper["first"]]
        picked = rows[framework.np.arange(6), hyper["labels"]]
        chosen = framework.np.where(hyper["mask"], picked, framework.np.zeros(6))
        penalty = framework.np.sum(weights["w"] ** 2) * hyper["penalty"] * hyper["twice"]
        return framework.np.sum(framework.log_sum(rows)) - framework.np.sum(chosen) + penalty

    return loss


def labelled(labels=LABELS):
    return {
        "labels": labels,
        "rows": np.arange(6, dtype=np.int32),
        "mask": np.array([True, True, False, True, True, False]),
        "first": 2,
        "twice": np.int64(2),
        "penalty": 0.05,
    }


def reference(labels, penalty=0.05, rate=0.1, steps=3):
    """Train in plain floats, with the labels closed over."""
    rows, mask = INPUTS[2:8], np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    targets = np.eye(3)[labels] * mask[:, None]

    def loss(weights):
        scores = np.dot(rows, weights["w"]) + weights["b"]
        fit = np.sum(_log_sum(scores)) - np.sum(scores * targets)
        return fit + 2 * penalty * np.sum(weights["w"] ** 2)

    weights, velocity = START, map_leaves(np.zeros_like, START)
    for _ in range(steps):
        slope = grad(loss)(weights)
        velocity = {k: 0.5 * velocity[k] - 0.5 * slope[k] for k in weights}
        weights = {k: weights[k] + rate * velocity[k] for k in weights}
    return weights


def assert_close(found, expected, tolerance=1e-9):
    found, expected = leaves_of(found), leaves_of(expected)
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.allclose(np.asarray(found[name]), expected[name], rtol=tolerance, atol=1e-12)


# Integers, booleans, keys


def test_labels_masks_and_indices_are_kept_as_they_are(any_framework):
    seen = []
    hyper = labelled()
    final = run(any_framework, classification(any_framework, seen), hyper, START)
    assert_close(final, reference(LABELS))
    types = {key: str(getattr(seen[0][key], "dtype", "")) for key in hyper}
    assert types["labels"].endswith("int64")
    assert types["rows"].endswith("int32")
    assert types["mask"].endswith("bool")
    assert seen[0]["labels"].shape == (6,)
    if not hasattr(any_framework, "jax"):
        assert type(seen[0]["first"]) is int  # JAX traces it


def test_arrays_of_the_framework_keep_their_types_too(framework):
    seen = []
    hyper = {
        key: framework.array(value) if isinstance(value, np.ndarray) else value
        for key, value in labelled().items()
    }
    final = run(framework, classification(framework, seen), hyper, START)
    assert_close(map_leaves(np.asarray, final), reference(LABELS), 1e-6)
    for key in ("labels", "rows", "mask"):
        assert str(seen[0][key].dtype) == str(hyper[key].dtype)


def test_autograd_gives_integers_a_zero_derivative(any_framework):
    arrays = {k: v for k, v in labelled().items() if isinstance(v, np.ndarray)}

    def objective(train):
        return lambda given: np.sum(np.sin(train(given)["w"]))

    def ours(given):
        hyper = {**labelled(), **{key: given[key] for key in arrays}, "penalty": given["penalty"]}
        return run(any_framework, classification(any_framework), hyper, START)

    found = grad(objective(ours))({**arrays, "penalty": 0.05})
    expected = grad(lambda penalty: objective(lambda p: reference(LABELS, p))(penalty))(0.05)
    assert found["penalty"] == pytest.approx(expected, rel=1e-6)
    assert not np.any(found["labels"])
    assert not np.any(found["mask"])


def test_a_derivative_with_respect_to_integers_alone_is_refused(any_framework):
    def objective(labels):
        final = run(any_framework, classification(any_framework), labelled(labels), START)
        return np.sum(final["w"])

    with pytest.raises(TypeError, match=r"hyper\['labels'\] holds integers .* no float beside it"):
        grad(objective)(LABELS)
    with pytest.raises(TypeError, match="no float beside it"):
        grad(lambda given: objective(given["labels"]))({"labels": LABELS})
    # A float that takes no part in training is one all the same.
    given = {"labels": LABELS, "shift": 0.5}
    found = grad(lambda given: objective(given["labels"]) + given["shift"] ** 2)(given)
    assert found["shift"] == pytest.approx(1.0)
    assert not np.any(found["labels"])


def test_chains_keep_integers_as_well():
    def potential(position, hyper, t):
        return np.sum(hyper["scale"] * position[:, hyper["columns"]] ** 2, axis=1)

    def total(hyper):
        outcome = rl.chains.run(potential, START["w"], hyper, 0.1, 0.5, 3, seed=0)
        return np.sum(outcome.position**2)

    hyper = {"scale": 0.5, "columns": np.array([2, 0])}
    found = grad(total)(hyper)
    slope = (total({**hyper, "scale": 0.5 + 1e-5}) - total({**hyper, "scale": 0.5 - 1e-5})) / 2e-5
    assert found["scale"] == pytest.approx(slope, rel=1e-6)


def test_jax_and_pytorch_differentiate_beside_integers(framework):
    expected = grad(lambda p: np.sum(np.sin(reference(LABELS, p)["w"])))(0.05)
    arrays = {k: v for k, v in labelled().items() if isinstance(v, np.ndarray)}

    def objective(given):
        hyper = {**labelled(), **given}
        final = run(framework, classification(framework), hyper, map_leaves(framework.array, START))
        return framework.np.sum(framework.np.sin(final["w"]))

    if hasattr(framework, "jax"):
        with framework.jax.enable_x64(True):
            given = {key: framework.array(value) for key, value in arrays.items()}
            given["penalty"] = framework.array(0.05)
            found = framework.jax.grad(objective, allow_int=True)(given)
            assert found["labels"].dtype == framework.jax.dtypes.float0
    else:
        given = {key: framework.array(value) for key, value in arrays.items()}
        given["penalty"] = framework.torch.tensor(
            0.05, dtype=framework.torch.float64, requires_grad=True
        )
        objective(given).backward()
        found = {"penalty": given["penalty"].grad}
    assert float(found["penalty"]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("kind", ["key", "PRNGKey"])
def test_random_keys_of_jax(jax, kind):
    random = jax.jax.random

    def loss(weights, hyper, t):
        noise = random.normal(random.fold_in(hyper["key"], t), (3,))
        return jax.np.sum((weights - noise) ** 2) * hyper["scale"]

    def closing_over(weights, hyper, t):
        return loss(weights, {"key": key, "scale": 0.5}, t)

    key = getattr(random, kind)(7)
    with jax.jax.enable_x64(True):
        expected = run(jax, closing_over, None, np.zeros(3))
        final = run(jax, loss, {"key": key, "scale": 0.5}, np.zeros(3))
        assert np.array_equal(final, expected)

        def objective(given):
            return jax.np.sum(run(jax, loss, given, jax.np.zeros(3)) ** 2)

        given = {"key": key, "scale": jax.np.array(0.5)}
        found = jax.jax.grad(objective, allow_int=True)(given)["scale"]
        near = [objective({**given, "scale": 0.5 + step}) for step in (1e-5, -1e-5)]
        assert float(found) == pytest.approx(float(near[0] - near[1]) / 2e-5, rel=1e-6)


def test_other_labels_are_neither_stale_nor_compiled_for(jax, compiled):
    loss = classification(jax)
    for labels in (LABELS, LABELS[::-1].copy(), np.zeros(6, np.int64)):
        assert_close(run(jax, loss, labelled(labels), START), reference(labels), 1e-6)
    assert len(compiled) == 1


def test_a_later_change_of_the_labels_does_not_change_the_run(any_framework):
    labels = LABELS.copy()
    loss = any_framework.wrap(classification(any_framework))
    tape = rl.record(loss, START, labelled(labels), rl.SGD(0.1, 0.5), 5)
    labels[...] = 0
    *_, (t, weights, _) = tape.rewind()
    assert t == 0
    assert_close(weights, START)


@pytest.mark.parametrize("value", ["adam", object(), b"x", 1j, np.array(["a"])])
def test_what_is_no_number_is_refused_by_name(any_framework, value):
    with pytest.raises(TypeError, match=r"hyper\['name'\] must hold real numbers"):
        run(any_framework, lambda w, hyper, t: w**2, {"name": value})


def test_random_keys_are_no_weights(jax):
    with pytest.raises(TypeError, match=r"weights\['key'\] must hold real numbers, not key"):
        run(jax, lambda w, hyper, t: w["a"], None, {"key": jax.jax.random.key(0), "a": 1.0})


def test_integer_weights_become_floats(any_framework):
    final = run(any_framework, lambda w, hyper, t: any_framework.np.sum(w**2), None, np.array([1]))
    assert final.dtype == np.float64


# Arguments are read-only


def test_numpy_itself_refuses_to_write():
    plain = framework_of("autograd")

    def clamps(what):
        def loss(weights, hyper, t):
            given = {"hyper": hyper["x"], "constant": hyper["labels"]}
            if what == "weights":
                value = weights
                while hasattr(value, "_value"):
                    value = value._value
                value[...] = 0.5
            else:
                given[what][...] = 1
            return np.sum(weights**2) + np.sum(hyper["x"])

        return loss

    hyper = {"x": np.array([0.5, 2.0]), "labels": np.array([3, 4])}
    for what in ("weights", "hyper", "constant"):
        with pytest.raises(ValueError, match="at step 0 the training loss changes an array in"):
            run(plain, clamps(what), hyper, np.ones(2))
    assert hyper["x"].tolist() == [0.5, 2.0]
    assert hyper["labels"].tolist() == [3, 4]
    # What the user gets is theirs.
    final = run(plain, lambda w, hyper, t: np.sum(w**2), None, np.ones(2))
    final[...] = 0.0


def test_nothing_else_that_is_called_can_write_either():
    def writes(array, result):
        array[...] = 7.0
        return result

    def term(before, after, hyper, t):
        return writes(hyper["x"], np.sum(after.position))

    def potential(position, hyper, t):
        return np.sum(position**2, axis=1)

    def cell(weights, half, other, t):
        return writes(weights, (0.5 * np.ones(1), other))

    def silent(weights, hidden, t):
        return 0.0

    def loss(weights, hyper, t):
        return writes(hyper["x"], np.sum(weights**2))

    hyper, start = {"x": np.ones(2)}, np.zeros((1, 2))
    optimizer = rl.SGD(0.1, 0.5)
    for call in (
        lambda: rl.chains.run(potential, start, hyper, 0.1, 0.5, 3, seed=0, term=term),
        lambda: rl.recurrent.total_loss(cell, silent, np.ones(1), np.zeros(2), 3),
        lambda: rl.recurrent.unrolled_loss(cell, silent, np.ones(1), np.zeros(2), 3),
        lambda: rl.estimators.unrolled.train(loss, np.ones(2), hyper, optimizer, 3),
        lambda: rl.estimators.checkpointed.train(loss, np.ones(2), hyper, optimizer, 3),
    ):
        with pytest.raises(ValueError, match="read-only"):
            call()
    assert hyper["x"].tolist() == [1.0, 1.0]


def no_grad(change):
    def changed(tensor):
        torch = framework_of("torch").torch
        with torch.no_grad():
            change(tensor)

    return changed


IN_PLACE = {
    "clamp_": no_grad(lambda x: x.clamp_(2, 3)),
    "copy_": no_grad(lambda x: x.copy_(0 * x)),
    "mul_": no_grad(lambda x: x.mul_(2)),
    "index": no_grad(lambda x: x.__setitem__(0, 7)),
    "detach": lambda x: x.detach().mul_(2),
    "data": lambda x: x.data.mul_(2),
    "numpy": lambda x: x.detach().numpy().__setitem__(0, 7),
}


@pytest.mark.parametrize("what", ["weights['a']", "hyper['x']", "hyper['labels']"])
@pytest.mark.parametrize("change", IN_PLACE)
def test_pytorch_that_writes_to_its_arguments_is_found_out(torch, change, what):
    def loss(weights, hyper, t):
        given = {"weights['a']": weights["a"], **{f"hyper['{k}']": v for k, v in hyper.items()}}
        IN_PLACE[change](given[what])
        return torch.np.sum(weights["a"] ** 2) * torch.np.sum(hyper["x"])

    hyper = {"x": np.array([0.5, 2.0]), "labels": np.array([3, 4])}
    found = f"at step 0 the training loss changed {what} in place"
    with pytest.raises(ValueError, match=found.replace("[", r"\[")):
        run(torch, loss, hyper, {"a": np.ones(2)})
    assert hyper["x"].tolist() == [0.5, 2.0]
    assert hyper["labels"].tolist() == [3, 4]


def test_pytorch_that_begins_to_write_later_is_found_out_as_well(torch):
    def loss(weights, hyper, t):
        if t == 2:
            no_grad(lambda x: x.clamp_(max=0.1))(hyper)
        return torch.np.sum(weights**2) * torch.np.sum(hyper)

    with pytest.raises(ValueError, match="at step 2 the training loss changed hyper in place"):
        run(torch, loss, np.array([0.5]), np.ones(2))


def test_what_pytorch_refuses_itself_is_said_in_the_same_words(torch):
    def loss(weights, hyper, t):
        weights.clamp_(0.0, 1.0)
        return torch.np.sum(weights**2)

    with pytest.raises(ValueError, match=r"in place: .* x.clamp\(0.0, 1.0\)") as caught:
        run(torch, loss)
    assert isinstance(caught.value.__cause__, RuntimeError)


# Nothing differentiated is closed over


def test_a_tensor_closed_over_is_found_at_whatever_step(torch):
    strength = torch.torch.tensor(0.5, dtype=torch.torch.float64, requires_grad=True)

    def loss(weights, hyper, t):
        return weights**2 * (strength if t == 2 else 1.0)

    start = torch.torch.tensor(1.0, dtype=torch.torch.float64, requires_grad=True)
    for train in (rl.train, rl.estimators.checkpointed.train):
        with pytest.raises(ValueError, match=r"at step 2 .*pass it in `hyper`"):
            train(torch.wrap(loss), start, None, rl.SGD(0.1, 0.5), 3)


# No state


NORMS = {
    "BatchNorm1d": lambda nn: nn.BatchNorm1d(3),
    "SyncBatchNorm": lambda nn: nn.SyncBatchNorm(3),
    "InstanceNorm1d": lambda nn: nn.InstanceNorm1d(3, track_running_stats=True),
}


def network_loss(torch, norm, functional):
    nn = torch.torch.nn
    model = nn.Sequential(nn.Linear(3, 3), norm, nn.Linear(3, 1)).double()
    inputs = torch.array(INPUTS)
    if isinstance(norm, nn.InstanceNorm1d):
        inputs = inputs.reshape(4, 3, 3)
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    norm.requires_grad_(False)

    def loss(weights, hyper, t):
        if functional:
            return (torch.torch.func.functional_call(model, weights, (inputs,)) ** 2).mean()
        return (model(inputs) ** 2 * weights["0.bias"].sum()).mean()

    return (
        loss,
        {"0.bias": np.ones(3)},
        {name: b.clone() for name, b in model.named_buffers()},
        model,
    )


@pytest.mark.parametrize("functional", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_running_statistics_are_refused_before_they_move(torch, name, functional):
    norm = NORMS[name](torch.torch.nn)
    loss, start, buffers, model = network_loss(torch, norm, functional)
    with pytest.raises(ValueError, match=rf"{name} in training mode.*method eval.*GroupNorm"):
        run(torch, loss, None, start)
    for key, buffer in model.named_buffers():
        assert buffer.equal(buffers[key])
    model.eval()
    run(torch, loss, None, start)


def test_statistics_of_each_batch_are_welcome(torch):
    nn = torch.torch.nn
    for norm in (nn.BatchNorm1d(3, track_running_stats=False), nn.LayerNorm(3), nn.Dropout(0.0)):
        loss, start, _, _ = network_loss(torch, norm, True)
        run(torch, loss, None, start)


@pytest.mark.parametrize("functional", [True, False])
def test_any_module_that_writes_to_a_buffer_is_named(torch, functional):
    class Counter(torch.torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.torch.zeros(()))

        def forward(self, inputs):
            self.calls += 1
            return inputs

    loss, start, _, _ = network_loss(torch, Counter(), functional)
    with pytest.raises(ValueError, match=r"changed the buffer Counter\.calls"):
        run(torch, loss, None, start)


def test_modules_outside_of_the_loss_and_in_other_threads_are_left_alone(torch):
    norm = torch.torch.nn.BatchNorm1d(3)
    inputs = torch.torch.tensor(INPUTS, dtype=torch.torch.float32)
    raised = []

    def elsewhere():
        try:
            norm(inputs)
        except ValueError as error:
            raised.append(error)

    def loss(weights, hyper, t):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return weights**2

    run(torch, loss)
    norm(inputs)
    assert raised == []
    assert int(norm.num_batches_tracked) == 4


# What was compiled follows what the loss closes over


@pytest.fixture
def compiled(monkeypatch):
    """Return a list of what runs compiled, in which nothing stands twice."""
    return watch_programs(monkeypatch)


def watch_programs(monkeypatch):
    functions, original = [], with_jax.program

    def spy(*arguments):
        found = original(*arguments)
        if not any(found.gradient is function for function in functions):
            functions.append(found.gradient)
        return found

    monkeypatch.setattr(with_jax, "program", spy)
    return functions


def square(x):
    return x**2


@pytest.mark.parametrize("inner", [False, True])
def test_numpy_data_changed_in_place_are_seen(jax, inner, compiled):
    data = np.linspace(0.5, 1.5, 6).reshape(2, 3)

    def residual(weights):
        return data @ weights - 1.0

    if inner:
        residual = jax.jax.jit(residual)

    def loss(weights, hyper, t):
        return jax.np.sum(square(residual(weights)))

    def expected():
        weights = velocity = np.zeros(3)
        for _ in range(3):
            velocity = 0.5 * velocity - 0.5 * 2 * data.T @ (data @ weights - 1.0)
            weights = weights + 0.1 * velocity
        return weights

    assert_close(run(jax, loss, None, np.zeros(3)), expected())
    before = len(compiled)
    data *= -1.0  # a checksum of bits modulo 2**64 would not see an even number of signs
    assert_close(run(jax, loss, None, np.zeros(3)), expected())
    data[0, 0] = 3.0
    assert_close(run(jax, loss, None, np.zeros(3)), expected())
    assert inner or len(compiled) == before  # the shapes are the same
    after = len(compiled)
    run(jax, loss, None, np.zeros(3))
    assert len(compiled) == after


def test_a_number_closed_over_that_changed_is_seen(jax, compiled):
    settings = {"strength": 0.5}

    def loss(weights, hyper, t):
        return settings["strength"] * square(weights)

    first = run(jax, loss)
    again = run(jax, loss)
    assert len(compiled) == 1
    settings["strength"] = 0.25
    other = run(jax, loss)
    assert first == again
    assert other == pytest.approx(float(run(jax, lambda w, hyper, t: 0.25 * w**2)), rel=1e-12)
    assert other != first


def test_keys_inside_of_compiled_functions(jax):
    random = jax.jax.random
    settings = {"key": random.key(1)}

    def make():
        return jax.jax.jit(lambda w: jax.np.sum((w - random.normal(settings["key"], (2,))) ** 2))

    inner = make()

    def loss(weights, hyper, t):
        return inner(weights)

    first = run(jax, loss, None, np.zeros(2))
    assert np.array_equal(run(jax, loss, None, np.zeros(2)), first)
    settings["key"] = random.key(2)
    inner = make()
    assert not np.array_equal(run(jax, loss, None, np.zeros(2)), first)


def test_data_changed_during_a_run_do_not_change_it(jax):
    data = np.array([1.0, 2.0])

    def loss(weights, hyper, t):
        return jax.np.sum((weights * data) ** 2)

    def change(t, weights, velocity, gradient):
        data[...] = 5.0

    def objective(rate):
        optimizer = rl.SGD(rate, 0.5)
        return np.sum(rl.train(jax.wrap(loss), np.ones(2), None, optimizer, 3, callback=change))

    found = grad(objective)(0.1)
    data[...] = [1.0, 2.0]

    def plainly(rate):
        return np.sum(
            rl.train(
                lambda w, h, t: np.sum((w * [1.0, 2.0]) ** 2),
                np.ones(2),
                None,
                rl.SGD(rate, 0.5),
                3,
            )
        )

    assert found == pytest.approx(float(grad(plainly)(0.1)), rel=1e-9)


def test_a_value_that_begins_to_be_differentiated_is_not_lost(jax):
    settings = {"strength": 0.5}

    def loss(weights, hyper, t):
        return settings["strength"] * weights**2

    run(jax, loss)

    def objective(strength):
        settings["strength"] = strength
        return run(jax, loss)

    with pytest.raises(ValueError, match="pass it in `hyper`"):
        jax.jax.grad(objective)(0.5)
    settings["strength"] = 0.5
    assert run(jax, loss) == run(jax, loss)


# Methods, and objects of all kinds


class Model:
    """A loss that is a method; JAX traces `self.strength` as a constant."""

    def __init__(self, strength):
        self.strength = strength

    def loss(self, weights, hyper, t):
        return self.strength * weights**2

    def other(self, weights, hyper, t):
        return 2 * self.strength * weights**2


class Unhashable(Model):
    __hash__ = None

    def __eq__(self, other):
        return self is other


class Slotted:
    """Without hash and without weak references."""

    __slots__ = ("strength",)
    __hash__ = None
    __init__, loss, other = Model.__init__, Model.loss, Model.other


@pytest.mark.parametrize("kind", [Model, Unhashable, Slotted])
def test_losses_that_are_methods(framework, kind):
    def record(loss):
        return rl.record(framework.wrap(loss), 1.0, None, rl.SGD(0.1, 0.5), 3)

    model = kind(0.5)
    first, second = record(model.loss), record(model.loss)
    assert float(first.weights) == float(second.weights)
    assert float(record(model.other).weights) != float(first.weights)
    del first
    gc.collect()
    assert second.pull_back(np.ones(1)).slots["weights"].shape == (1,)
    *_, (t, weights, _) = second.rewind()
    assert (t, float(weights)) == (0, 1.0)
    if kind is not Slotted:
        gone = weakref.ref(model)
        del model, second
        gc.collect()
        assert gone() is None


def test_a_method_is_compiled_once_for_its_object(jax, compiled):

    class Counted(Unhashable):
        def loss(self, weights, hyper, t):
            return self.strength * square(weights)

    model = Counted(0.5)
    for _ in range(3):
        run(jax, model.loss)
    assert len(compiled) == 1


# Copies


def square_loss(weights, hyper, t):
    return hyper["scale"] * weights**2 * (1 + hyper["labels"][0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_losses_and_tapes_can_be_copied_and_pickled(framework, duplicate):
    loss, hyper = framework.wrap(square_loss), {"scale": 0.5, "labels": np.array([1])}
    tape = rl.record(loss, 1.0, hyper, rl.SGD(0.1, 0.5), 4)
    for used in (tape, duplicate(tape), duplicate(duplicate(tape))):
        *_, (t, weights, _) = used.rewind()
        assert (t, float(weights)) == (0, 1.0)
        assert used.pull_back(np.ones(1)).hyper == pytest.approx(
            tape.pull_back(np.ones(1)).hyper, rel=1e-12
        )
    other = rl.train(duplicate(loss), 1.0, hyper, rl.SGD(0.1, 0.5), 4)
    assert float(other) == float(tape.weights)


def test_a_tape_with_a_random_key_can_be_copied(jax):
    def loss(weights, hyper, t):
        return (weights - jax.jax.random.normal(jax.jax.random.fold_in(hyper, t))) ** 2

    tape = rl.record(jax.wrap(loss), 1.0, jax.jax.random.key(3), rl.SGD(0.1, 0.5), 4)
    *_, (t, weights, _) = copy.deepcopy(tape).rewind()
    assert (t, float(weights)) == (0, 1.0)


# Messages


IMAGES = np.linspace(0.0, 1.0, 12).reshape(6, 2)
SLIPS = {
    "a row": (lambda w, t, jnp: jnp.sum(w * IMAGES[t]), "jnp.asarray"),
    "rows": (lambda w, t, jnp: jnp.sum(IMAGES[2 * t : 2 * t + 2] @ w), "dynamic_slice_in_dim"),
    "rows of JAX's": (
        lambda w, t, jnp: jnp.sum(jnp.asarray(IMAGES)[2 * t : 2 * t + 2] @ w),
        "dynamic_slice_in_dim",
    ),
    "numpy's function": (lambda w, t, jnp: np.sum(np.sin(w)), "functions from jax.numpy"),
    "seed": (lambda w, t, jnp: jnp.sum(w) * np.random.RandomState(t).rand(), "fold_in"),
    "new seed": (lambda w, t, jnp: jnp.sum(w) * np.random.default_rng(t).random(), "fold_in"),
    "branch on t": (lambda w, t, jnp: jnp.sum(w) if t > 1 else jnp.sum(w**2), "jax.lax.cond"),
    "branch on a value": (lambda w, t, jnp: w[0] if w[0] > 1 else w[1], "numpy.where"),
    "mask": (lambda w, t, jnp: jnp.sum(w[w > 0]), "numpy.where"),
    "int": (lambda w, t, jnp: jnp.sum(w) * int(t), "Python number"),
    "float": (lambda w, t, jnp: jnp.sum(w) * float(w[0]), "Python number"),
    "length": (lambda w, t, jnp: jnp.sum(w) * jnp.sum(jnp.arange(t)), "Python number"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_with_traced_values_are_explained(jax, slip):
    loss, advice = SLIPS[slip]
    with pytest.raises(
        TypeError, match=f"compiled once for all steps.*{advice}|{advice}"
    ) as caught:
        run(jax, lambda w, hyper, t: loss(w, t, jax.np), None, np.ones(2))
    assert "the training loss" in str(caught.value)
    assert "compiled once for all steps" in str(caught.value)
    assert isinstance(caught.value.__cause__, (TypeError, IndexError))


def test_errors_of_the_loss_itself_stay_what_they_are(any_framework):
    def loss(weights, hyper, t):
        raise failure

    for failure in (TypeError("mine"), IndexError("mine"), ValueError("mine"), KeyError("mine")):
        with pytest.raises(type(failure), match="mine") as caught:
            run(any_framework, loss)
        assert caught.value is failure


def mixtures(nn, double, single):
    return {
        "data": lambda w: (single(INPUTS) @ w["weight"].T).sum(),
        "batches": lambda w: (single(INPUTS).reshape(2, 6, 3) @ w["weight"].T[None]).sum(),
        "layer": lambda w: nn.Linear(3, 1)(double(INPUTS) + w["weight"].sum()).sum(),
        "convolution": lambda w: nn.Conv1d(3, 1, 1)(
            double(INPUTS.reshape(1, 3, 12)) + w["weight"].sum()
        ).sum(),
        "norm": lambda w: nn.LayerNorm(3)(double(INPUTS) + w["weight"].sum()).sum(),
        "recurrence": lambda w: nn.GRU(3, 2)(double(INPUTS) + w["weight"].sum())[0].sum(),
        "attention": lambda w: nn.functional.scaled_dot_product_attention(
            double(INPUTS)[None] + w["weight"].sum(), single(INPUTS)[None], single(INPUTS)[None]
        ).sum(),
    }


@pytest.mark.parametrize(
    "name", ["data", "batches", "layer", "convolution", "norm", "recurrence", "attention"]
)
def test_single_precision_beside_double_is_explained(torch, name):
    t64, t32 = torch.torch.float64, torch.torch.float32
    nn = torch.torch.nn
    mixed = mixtures(
        nn, lambda x: torch.torch.tensor(x, dtype=t64), lambda x: torch.torch.tensor(x, dtype=t32)
    )[name]

    def loss(weights, hyper, t):
        return mixed(weights)

    with pytest.raises(
        TypeError, match=r"module.double\(\).*compute_dtype=numpy.float32"
    ) as caught:
        run(torch, loss, None, {"weight": np.ones((2, 3))})
    assert isinstance(caught.value.__cause__, (RuntimeError, ValueError))


def test_double_precision_beside_single_is_explained(torch):
    data = torch.torch.tensor(INPUTS)
    with pytest.raises(TypeError, match=r"module.float\(\).*leave compute_dtype out"):
        run(
            torch,
            lambda w, hyper, t: (data @ w).sum(),
            None,
            np.ones(3),
            compute_dtype=np.float32,
        )


def test_functions_without_a_second_derivative_are_named(torch):
    functional = torch.torch.nn.functional

    def attention(weights, hyper, t):
        return (functional.scaled_dot_product_attention(weights, weights, weights) ** 2).sum()

    def by_products(weights, hyper, t):
        kernels = torch.torch.nn.attention
        with kernels.sdpa_kernel(kernels.SDPBackend.MATH):
            return attention(weights, hyper, t)

    def distances(weights, hyper, t):
        return torch.torch.cdist(weights, 2 * weights + 1).sum()

    start = np.random.RandomState(0).randn(1, 1, 3, 2)

    def objective(loss):
        def final(rate):
            return np.sum(rl.train(torch.wrap(loss), start, None, rl.SGD(rate, 0.5), 2) ** 2)

        return grad(final)

    assert np.isfinite(objective(by_products)(0.1))
    with pytest.raises(NotImplementedError, match=r"scaled_dot_product.*SDPBackend.MATH") as caught:
        objective(attention)(0.1)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(NotImplementedError, match="second derivative of _cdist_backward"):
        objective(distances)(0.1)

    class Once(torch.torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @torch.torch.autograd.function.once_differentiable
        def backward(ctx, derivative):
            return 2 * derivative * ctx.saved_tensors[0]

    for power in (1, 2):  # PyTorch would give 0, without an error
        with pytest.raises(NotImplementedError, match="second derivative of Once"):
            objective(lambda w, hyper, t: (Once.apply(w) ** power).sum())(0.1)


# Threads


def test_two_threads_at_once_find_what_one_finds(framework):
    loss = framework.wrap(classification(framework))

    def hypergradient(penalty):
        def objective(penalty):
            hyper = {**labelled(), "penalty": penalty}
            final = rl.train(loss, START, hyper, rl.SGD(0.1, 0.5), 20)
            return np.sum(np.sin(final["w"]))

        return grad(objective)(penalty)

    penalties = [0.01, 0.02, 0.03, 0.04]
    expected = [hypergradient(penalty) for penalty in penalties]
    found = [None] * len(penalties)

    def work(i):
        found[i] = hypergradient(penalties[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(penalties))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def _scaled_by_a_rule(jax, scale):
    @jax.custom_vjp
    def function(x):
        return x

    function.defvjp(lambda x: (x, None), lambda _, g: (g * scale[0],))
    return function


def _scaled_by_a_jvp(jax, scale):
    @jax.custom_jvp
    def function(x):
        return x

    function.defjvp(lambda primals, tangents: (primals[0], scale[0] * tangents[0]))
    return function


def _scaled_by_a_callback(jax, scale):
    def function(x):
        held = scale[0]
        shape = jax.ShapeDtypeStruct((), np.dtype("float64"))
        factor = jax.pure_callback(lambda: np.float64(held), shape)
        return x * jax.lax.stop_gradient(factor)

    return function


@pytest.mark.parametrize("make", [_scaled_by_a_rule, _scaled_by_a_jvp, _scaled_by_a_callback])
def test_what_a_rule_or_a_callback_closes_over_may_change_between_runs(make):
    jax = needs.module("jax")
    scale = [1.0]
    function = make(jax, scale)

    def loss(weights, hyper, t):
        return jax.numpy.sum(function(weights))

    def run():
        return float(rl.train(rl.gradients.jax(loss), np.array(1.0), None, rl.SGD(1.0, 0.5), 1))

    assert run() == 0.5
    scale[0] = 0.5
    assert run() == 0.75


def test_a_relu_is_compiled_once(compiled):
    jax = needs.module("jax")

    def loss(weights, hyper, t):
        return jax.numpy.sum(jax.nn.relu(weights) ** 2)

    for _ in range(3):
        rl.record(rl.gradients.jax(loss), np.ones(3), None, rl.SGD(0.1, 0.5), 2)
    assert len(compiled) == 1


def test_a_torch_loss_may_be_the_weight_itself():
    needs.module("torch")
    loss, rule = rl.gradients.torch(lambda weights, hyper, t: weights), rl.SGD(0.1, 0.5)
    assert float(rl.train(loss, np.array(1.0), None, rule, 1)) == pytest.approx(0.95)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint64, np.array])
def test_integers_that_jax_would_wrap_around_are_refused_by_name(kind):
    jax = needs.module("jax")

    def loss(weights, hyper, t):
        return 1e-12 * jax.numpy.sum(weights**2) * hyper["seed"]

    def run(seed, **options):
        hyper = {"seed": kind(seed)}
        return rl.train(rl.gradients.jax(loss), np.ones(1), hyper, rl.SGD(0.1, 0.5), 1, **options)

    assert run(2**31 - 1, compute_dtype=np.float32).shape == (1,)
    message = r"hyper\['seed'\] holds 4294967303.*float32"
    with pytest.raises(ValueError, match=message):
        run(2**32 + 7, compute_dtype=np.float32)
    exact = rl.train(lambda w, h, t: 1e-12 * w**2 * h, 1.0, 2.0**32 + 7, rl.SGD(0.1, 0.5), 1)
    assert float(run(2**32 + 7)[0]) == pytest.approx(float(exact), rel=1e-14)
