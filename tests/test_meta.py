"""Descent on hyperparameters: right steps, and interruptions that leave no trace."""

import errno
import io
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import autograd.numpy as np
import pytest

import needs
import revlearn as rl
from crashes import Crash, interrupt
from revlearn import meta
from revlearn.errors import DataError

START = {"a": np.array([1.0, -2.0]), "b": 0.5}
OPTIMIZERS = [
    meta.SGD(0.1),
    meta.SGD(0.1, mass=0.9),
    meta.RMSprop(0.05),
    meta.Adam(0.05),
    meta.VanishingMomentumAdam(0.05),
]
each_optimizer = pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=[f"{type(o).__name__}-{i}" for i, o in enumerate(OPTIMIZERS)]
)


def bowl(hyper, i):
    return np.sum((hyper["a"] - 0.3) ** 2) + (hyper["b"] * np.cos(0.1 * i)) ** 2


@each_optimizer
def test_it_descends_and_tells_what_happened(optimizer):
    seen = []

    def callback(i, hyper, value, gradient):
        seen.append((i, value))
        assert value == bowl(hyper, i)
        assert np.allclose(gradient["a"], 2 * (hyper["a"] - 0.3))

    descent = meta.minimize(bowl, START, optimizer, 200, callback=callback)
    assert [i for i, _ in seen] == list(range(200))
    assert descent.values.tolist() == [value for _, value in seen]
    assert descent.values[-1] < 0.1 * descent.values[0]
    assert descent.gradient_norms[0] == pytest.approx(np.linalg.norm([1.4, -4.6, 1.0]))


def test_adam_is_the_published_one():
    """Written out for one number, as in the paper's Algorithm 1."""
    x, m, v = 1.0, 0.0, 0.0
    for t in range(1, 21):
        g = 2 * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= 0.05 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
    descent = meta.minimize(lambda h, i: h**2, 1.0, meta.Adam(0.05), 20)
    assert float(descent.hyper) == pytest.approx(x, rel=1e-12)


def test_the_authors_variant_is_theirs():
    """With their names: b1 = 0.1, b2 = 0.01, lam = 1e-4."""
    x, m, s = 1.0, 0.0, 0.0
    for i in range(20):
        g = 2 * x
        b = 1 - (1 - 0.1) * 1e-4**i
        m = b * g + (1 - b) * m
        s = 0.01 * g**2 + (1 - 0.01) * s
        mhat, shat = m / (1 - (1 - 0.1) ** (i + 1)), s / (1 - (1 - 0.01) ** (i + 1))
        x = x - 0.04 * mhat / (np.sqrt(shat) + 1e-4)
    descent = meta.minimize(lambda h, i: h**2, 1.0, meta.VanishingMomentumAdam(0.04), 20)
    assert float(descent.hyper) == pytest.approx(x, rel=1e-12)


@each_optimizer
def test_resumed_and_extended_descents_have_the_same_bits(optimizer, tmp_path):
    whole = meta.minimize(bowl, START, optimizer, 30)
    for steps in (0, 7, 7, 30):
        path = tmp_path / "descent.npz"
        parts = meta.minimize(bowl, START, optimizer, steps, checkpoint=path)
        assert len(parts.values) == steps
    assert np.array_equal(parts.values, whole.values)
    assert np.array_equal(parts.gradient_norms, whole.gradient_norms)
    assert np.array_equal(parts.hyper["a"], whole.hyper["a"])
    assert np.array_equal(parts.hyper["b"], whole.hyper["b"])


def test_what_the_callback_returns_is_kept_over_interruptions(tmp_path):
    def callback(i, hyper, value, gradient):
        seen.append(i)
        return {"a": hyper["a"], "slope": gradient["b"], "i": i}

    seen = []
    whole = meta.minimize(bowl, START, meta.Adam(0.05), 6, callback=callback)
    assert whole.kept["i"].tolist() == list(range(6)) == seen
    assert whole.kept["a"].shape == (6, 2)
    assert whole.kept["a"][0].tolist() == [1.0, -2.0]
    path, seen = tmp_path / "descent.npz", []
    for steps in (2, 5, 6):
        parts = meta.minimize(
            bowl, START, meta.Adam(0.05), steps, checkpoint=path, callback=callback
        )
    assert seen == list(range(6))
    for name, stack in whole.kept.items():
        assert np.array_equal(parts.kept[name], stack)


def test_seconds_are_those_of_all_sessions(tmp_path):
    def slow(hyper, i):
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return bowl(hyper, i)

    path = tmp_path / "descent.npz"
    for steps in (2, 4):
        descent = meta.minimize(slow, START, meta.SGD(0.1), steps, checkpoint=path)
    assert descent.seconds >= 0.2


def test_a_callback_that_changes_its_mind_is_an_error(tmp_path):
    path = tmp_path / "descent.npz"

    def minimize(callback):
        return meta.minimize(
            bowl, START, meta.SGD(0.1), 4, checkpoint=path, callback=lambda i, *_: callback(i)
        )

    with pytest.raises(ValueError, match=r"same names and shapes.*meta-iteration 2"):
        minimize(lambda i: {"a": i} if i < 2 else {"b": i})
    with pytest.raises(ValueError, match="meta-iteration 2"):
        minimize(lambda i: {"a": [i, i]})
    with pytest.raises(TypeError, match="'a' is not an array"):
        minimize(lambda i: {"a": None})
    descent = minimize(lambda i: {"a": i})  # the checkpoint has stayed at the step before
    assert descent.kept["a"].tolist() == [0, 1, 2, 3]


SCRIPT = """
import sys, time
import autograd.numpy as np
import revlearn as rl
from revlearn import meta

def objective(hyper, i):
    time.sleep(0.02)
    optimizer = rl.SGD(np.exp(hyper["log_rate"]), rl.sigmoid(hyper["logit_momentum"]))
    final = rl.train(lambda w, h, t: np.sum(np.cos(w + i)), np.ones(4), None, optimizer, 5)
    return np.sum(final**2)

hyper = {"log_rate": -1.0 * np.ones(5), "logit_momentum": np.zeros(5)}
checkpoint = sys.argv[1] if len(sys.argv) > 1 else None
descent = meta.minimize(
    objective,
    hyper,
    meta.Adam(0.05),
    40,
    checkpoint=checkpoint,
    callback=lambda i, hyper, value, gradient: gradient,
)
for array in (descent.hyper["log_rate"], descent.values, *descent.kept.values()):
    print(array.tobytes().hex())
"""


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    undisturbed = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    ).stdout
    path, dice, kills = tmp_path / "descent.npz", random.Random(0), 0
    while True:
        before = path.read_bytes() if path.exists() else b""
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, text=True
        )
        # Let it get on by at least one meta-iteration, then kill it at any moment.
        while process.poll() is None and (path.read_bytes() if path.exists() else b"") == before:
            time.sleep(0.005)
        time.sleep(0.3 * dice.random())
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        np.load(path).close()  # whole at every moment
    output, _ = process.communicate()
    assert process.returncode == 0
    assert output == undisturbed
    assert kills >= 3


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "descent.npz"
    meta.minimize(bowl, START, meta.Adam(0.05), 3, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"another descent \(optimizer differ\)"):
        meta.minimize(bowl, START, meta.Adam(0.06), 5, checkpoint=path)
    with pytest.raises(ValueError, match="start differ"):
        meta.minimize(bowl, {**START, "b": 0.6}, meta.Adam(0.05), 5, checkpoint=path)
    with pytest.raises(ValueError, match="hyperparameters and start differ"):
        meta.minimize(lambda h, i: h**2, 1.0, meta.Adam(0.05), 5, checkpoint=path)
    settings = {"steps": 7}
    with pytest.raises(ValueError, match="settings differ"):
        meta.minimize(bowl, START, meta.Adam(0.05), 5, checkpoint=path, settings=settings)
    with pytest.raises(ValueError, match="holds 3 meta-iterations, more than 2"):
        meta.minimize(bowl, START, meta.Adam(0.05), 2, checkpoint=path)
    assert path.read_bytes() == before


def test_a_hypergradient_that_is_not_finite_is_named_and_the_checkpoint_kept(tmp_path):
    path = tmp_path / "descent.npz"

    def objective(hyper, i):
        return np.sum(hyper["a"]) * (np.inf if i == 2 else 1.0) + hyper["b"]

    with pytest.raises(rl.NonFiniteError, match=r"leaf hyper\['a'\]\[0\].*meta-iteration 2 is inf"):
        meta.minimize(objective, START, meta.SGD(0.1), 5, checkpoint=path)
    assert len(meta.minimize(bowl, START, meta.SGD(0.1), 2, checkpoint=path).values) == 2


def test_a_value_that_is_not_finite_stops_it_though_the_hypergradient_is(tmp_path):
    path, seen = tmp_path / "descent.npz", []

    def callback(i, *_):
        seen.append(i)

    for wrong in (np.nan, np.inf, -np.inf):

        def objective(hyper, i, wrong=wrong):
            return bowl(hyper, i) + (wrong if i == 2 else 0.0)

        with pytest.raises(rl.NonFiniteError, match=rf"objective at meta-iteration 2 is {wrong}"):
            meta.minimize(objective, START, meta.SGD(0.1), 5, checkpoint=path, callback=callback)
        whole = meta.minimize(bowl, START, meta.SGD(0.1), 2)
        held = meta.minimize(bowl, START, meta.SGD(0.1), 2, checkpoint=path)
        assert np.array_equal(held.values, whole.values)
        assert np.array_equal(held.hyper["a"], whole.hyper["a"])
    assert seen == [0, 1]


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e160, 1.0])
def test_a_norm_neither_overflows_nor_vanishes(size):
    descent = meta.minimize(
        lambda h, i: size * np.sum(np.array([3.0, 4.0]) * h), np.ones(2), meta.SGD(1e-3), 1
    )
    assert descent.gradient_norms[0] == pytest.approx(5.0 * size, rel=1e-15)


@pytest.mark.parametrize(
    ("optimizer", "what"),
    [
        (meta.Adam(0.1), "square"),
        (meta.RMSprop(0.1), "square"),
        (meta.SGD(1e200), "hyperparameters"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_step_that_overflows_is_named_and_the_checkpoint_kept(tmp_path, optimizer, what):
    path = tmp_path / "descent.npz"

    def objective(hyper, i):
        return bowl(hyper, i) if i < 2 else 1e200 * hyper["b"]

    start = {"a": np.array([0.3, 0.3]), "b": 0.0}  # flat until then
    match = rf"leaf hyper\['b'\]: the meta-optimizer's {what} after meta-iteration 2: -?inf"
    with pytest.raises(rl.NonFiniteError, match=match):
        meta.minimize(objective, start, optimizer, 5, checkpoint=path)
    assert len(meta.minimize(bowl, start, optimizer, 2, checkpoint=path).values) == 2


@pytest.mark.parametrize("steps", [5.0, "5", None])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(TypeError, match="steps must be an integer, not"):
        meta.minimize(bowl, START, meta.SGD(0.1), steps)
    with pytest.raises(ValueError, match="steps must be 0 or more, not -1"):
        meta.minimize(bowl, START, meta.SGD(0.1), -1)
    assert len(meta.minimize(bowl, START, meta.SGD(0.1), np.int64(3)).values) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (rl.SGD(0.1, 0.9), r"SGD is a rule of training.*use meta\.SGD\(step_size=…\)"),
        (rl.Adam(0.1), r"Adam is a rule of training.*use meta\.Adam\(step_size=…\)"),
        (rl.Nesterov(0.1, 0.9), r"Nesterov is a rule.*use meta\.SGD\(step_size=…\)"),
        (rl.SGD, r"SGD is a rule of training.*use meta\.SGD"),
        (meta.Adam, r"is no meta-optimizer: use meta\.Adam\(step_size=…\)"),
        (0.1, r"0\.1 is no meta-optimizer: use meta\.SGD\(step_size=…\)"),
    ],
)
def test_what_is_no_meta_optimizer_is_refused(wrong, message):
    with pytest.raises(TypeError, match=message):
        meta.minimize(bowl, START, wrong, 3)


def keeping(i, hyper, value, gradient):
    return {"a": hyper["a"], "allow_pickle": np.array(i), "nan": np.nan}


def descend(path, steps=3, optimizer=OPTIMIZERS[3]):
    return meta.minimize(bowl, START, optimizer, steps, checkpoint=path, callback=keeping)


def test_interrupted_at_any_moment_of_writing_it_ends_with_the_same_bits(tmp_path):
    whole = descend(None)
    for number in range(200):
        path = tmp_path / str(number) / "descent.npz"
        with pytest.MonkeyPatch.context() as patch:
            crash = Crash(patch, number, interrupt)
            try:
                descend(path)
            except KeyboardInterrupt:
                pass
            else:
                break
        parts = descend(path)
        assert np.array_equal(parts.values, whole.values)
        assert np.array_equal(parts.gradient_norms, whole.gradient_norms)
        assert np.array_equal(parts.hyper["a"], whole.hyper["a"])
        for name, stack in whole.kept.items():
            assert np.array_equal(parts.kept[name], stack, equal_nan=True)
        files = sorted(file.name for file in path.parent.iterdir())
        assert files == ["descent.npz", "descent.npz.history"]
    assert number == crash.passed == 54  # 3 times six operations


def test_a_meta_iteration_writes_no_more_than_the_one_before(tmp_path, monkeypatch):
    """Bytes are counted where files are opened, whatever is written to them."""
    written, opened = [], Path.open

    def counting(path, mode="r", *arguments, **options):
        file = opened(path, mode, *arguments, **options)
        if set(mode) & set("wa+"):
            whole = file.write

            class Counting:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, content):
                    written[-1] += len(content)
                    return whole(content)

                def __getattr__(self, name):
                    return getattr(file, name)

            return Counting()
        return file

    monkeypatch.setattr(Path, "open", counting)

    def callback(i, hyper, value, gradient):
        written.append(0)
        return {"kept": np.arange(1000.0)}

    path = tmp_path / "descent.npz"
    for steps in (10, 60):
        meta.minimize(bowl, START, meta.Adam(0.05), steps, checkpoint=path, callback=callback)
    assert len(set(written)) == 1
    assert 8000 < written[0] < 12_000


def damages(whole):
    """Truncated at every length, and something else altogether."""
    yield from (whole[:length] for length in range(0, len(whole), 7))
    yield from (b"text", b"PK\x03\x04", whole[:-1], b"\0" * len(whole), whole[::-1])


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "descent.npz"
    descend(path)
    whole = path.read_bytes()
    for content in damages(whole):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"descent\.npz is damaged: .*Delete it"):
            descend(path)
        assert path.read_bytes() == content
    with np.load(io.BytesIO(whole)) as arrays:
        held = dict(arrays)
    for name in held:
        for changed in (
            {key: value for key, value in held.items() if key != name},
            held | {name: np.zeros((2, 3))},
        ):
            np.savez(path, **changed)
            with pytest.raises(DataError, match=r"descent\.npz is damaged: it (holds|does not)"):
                descend(path)
    for changed in (
        held | {"more": np.ones(1)},
        held | {"claim": np.array("[]")},
        held | {"claim": np.array("{}")},
        {key: held[key] for key in ("claim", "x", "seconds")} | {"values": np.ones(3)},
    ):
        np.savez(path, **changed)
        with pytest.raises(DataError, match=r"descent\.npz is damaged: it (holds|does not)"):
            descend(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"descent\.npz cannot be read: Is a directory"):
        descend(path)


def test_a_damaged_history_is_named(tmp_path):
    path, history = tmp_path / "descent.npz", tmp_path / "descent.npz.history"
    descend(path)
    whole, before = history.read_bytes(), path.read_bytes()
    for content in damages(whole):
        history.write_bytes(content)
        with pytest.raises(DataError, match=r"history is damaged: .*Delete descent\.npz, and"):
            descend(path)
    history.unlink()
    with pytest.raises(DataError, match=r"history is damaged: it holds 0 bytes of the"):
        descend(path)
    history.mkdir()
    with pytest.raises(DataError, match=r"history cannot be read: Is a directory"):
        descend(path)
    history.rmdir()
    assert path.read_bytes() == before
    history.write_bytes(whole + b"what an interruption left")
    assert np.array_equal(descend(path, 5).values, descend(None, 5).values)
    path.unlink()  # without it a history counts for nothing
    assert np.array_equal(descend(path, 2).values, descend(None, 2).values)


@pytest.mark.parametrize("operation", range(6))
@pytest.mark.parametrize("steps", [0, 2])
def test_a_full_disk_keeps_the_checkpoint_and_says_what_to_do(tmp_path, operation, steps):
    """At each operation of the first meta-iteration, and of a later one; each cut off half-way."""
    path = tmp_path / "descent.npz"
    descend(path, steps)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        Crash(patch, 3 * operation + 1, full)
        with pytest.raises(DataError, match=r"descent\.npz.* cannot be.*: No space.*Make room"):
            descend(path, 5)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert np.array_equal(descend(path, 5).values, descend(None, 5).values)


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match=r"descent\.npz\.history cannot be written.*folder"):
        descend(tmp_path / "file" / "descent.npz")


def test_a_folder_that_is_gone_is_named(tmp_path):
    path = tmp_path / "folder" / "descent.npz"

    def callback(i, *_):
        if i == 2:
            for file in path.parent.iterdir():
                file.unlink()
            path.parent.rmdir()

    with pytest.raises(DataError, match=r"history cannot be written: No such file"):
        meta.minimize(bowl, START, meta.SGD(0.1), 4, checkpoint=path, callback=callback)


def in_jax():
    jax = needs.module("jax")
    return rl.gradients.jax, jax.numpy, jax.numpy.asarray


def in_torch():
    torch = needs.module("torch")
    return rl.gradients.torch, torch, lambda x: torch.tensor(x, dtype=torch.float64)


FRAMEWORKS = pytest.mark.parametrize("framework", [in_jax, in_torch], ids=["jax", "torch"])


def objective_in(numpy, wrap, made):
    """The same objective in any framework: training with a learned rate and penalty."""

    def loss(weights, hyper, t):
        return numpy.sum(numpy.cos(weights + t)) + 0.5 * hyper * numpy.sum(weights**2)

    training = wrap(loss)

    def objective(hyper, i):
        optimizer = rl.SGD(numpy.exp(hyper["log_rates"]), 0.9)
        start = made([1.0, -0.5, 0.1 * i])
        final = rl.train(training, start, numpy.exp(hyper["log_penalty"]), optimizer, 5)
        return numpy.sum((final - 0.3) ** 2)

    return objective


HYPER = {"log_rates": np.full(5, -2.0), "log_penalty": -1.0}


@FRAMEWORKS
def test_an_objective_may_be_written_in_another_framework(framework, tmp_path):
    wrap, numpy, made = framework()
    mine = objective_in(np, lambda loss: loss, np.array)
    theirs = objective_in(numpy, wrap, made)
    expected = meta.minimize(mine, HYPER, meta.Adam(0.05), 6)
    start = {"log_rates": made([-2.0] * 5), "log_penalty": made(-1.0)}
    path = tmp_path / "descent.npz"

    def callback(i, hyper, value, gradient):
        assert type(hyper["log_rates"]) is type(gradient["log_rates"]) is np.ndarray
        return {"log_penalty": hyper["log_penalty"]}

    for steps, at in ((3, HYPER), (6, start)):
        found = meta.minimize(
            wrap(theirs), at, meta.Adam(0.05), steps, checkpoint=path, callback=callback
        )
    assert np.allclose(found.values, expected.values, rtol=1e-9, atol=0.0)
    assert np.allclose(found.gradient_norms, expected.gradient_norms, rtol=1e-9, atol=0.0)
    assert np.allclose(found.hyper["log_rates"], expected.hyper["log_rates"], rtol=1e-9)
    assert found.hyper["log_rates"].dtype == np.float64


@FRAMEWORKS
def test_an_objective_that_does_not_say_its_framework_is_told_to(framework):
    wrap, numpy, made = framework()
    objectives = [
        objective_in(numpy, wrap, made),
        lambda hyper, i: numpy.sum(hyper["log_rates"]),
        lambda hyper, i: numpy.exp(hyper["log_penalty"]),
        lambda hyper, i: numpy.sum(made(hyper["log_rates"])),
    ]
    for objective in objectives:
        with pytest.raises(TypeError, match=r"rl\.gradients\.jax\(objective\) or rl"):
            meta.minimize(objective, HYPER, meta.SGD(0.1), 2)


@FRAMEWORKS
def test_a_training_loss_that_fails_is_not_taken_for_the_objective(framework):
    wrap, numpy, made = framework()
    loss = wrap(lambda weights, hyper, t: numpy.sum(weights @ made([[1.0, 2.0]])))

    def objective(hyper, i):
        final = rl.train(loss, np.ones(3), None, rl.SGD(np.exp(hyper["log_rates"]), 0.9), 5)
        return np.sum(final**2)

    with pytest.raises(Exception) as caught:  # noqa: PT011 (the framework's own)
        meta.minimize(objective, HYPER, meta.SGD(0.1), 2)
    assert "gradients.jax" not in str(caught.value)


def test_a_tensor_that_was_detached_is_an_error():
    torch = needs.module("torch")
    for objective in (lambda h, i: torch.sum(h.detach()), lambda h, i: 3.0):
        with pytest.raises(TypeError, match=r"PyTorch does not follow.*detach\(\)"):
            meta.minimize(rl.gradients.torch(objective), np.ones(3), meta.SGD(0.1), 2)


def test_numpy_in_place_of_autograd_numpy_is_said():
    import math

    with pytest.raises(TypeError, match=r"Write it with autograd\.numpy"):
        meta.minimize(lambda h, i: math.exp(h), 1.0, meta.SGD(0.1), 2)


def test_other_errors_of_an_objective_are_its_own():
    def objective(hyper, i):
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        meta.minimize(objective, 1.0, meta.SGD(0.1), 2)


def test_a_descent_that_kept_what_a_callback_returned_goes_on_with_one(tmp_path):
    def objective(h, i):
        return (h - 1.0) ** 2

    def callback(i, h, value, gradient):
        return {"h": h}

    file = tmp_path / "descent"
    meta.minimize(objective, 3.0, meta.SGD(0.1), 3, checkpoint=file, callback=callback)
    with pytest.raises(ValueError, match=r"keeps what a callback returned \(h\): hand the"):
        meta.minimize(objective, 3.0, meta.SGD(0.1), 6, checkpoint=file)
    kept = meta.minimize(objective, 3.0, meta.SGD(0.1), 6, checkpoint=file, callback=callback).kept
    assert len(set(kept["h"].tolist())) == 6
