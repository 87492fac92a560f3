"""Descent on hyperparameters: right steps, and interruptions that leave no trace."""

import random
import signal
import subprocess
import sys
import time

import autograd.numpy as np
import pytest

import revlearn as rl
from revlearn import meta

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
