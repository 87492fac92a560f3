"""Shared settings and small problems."""

import os

# Before numpy is loaded: the number of threads changes last bits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as np
import pytest
from hypothesis import settings

import needs
import revlearn as rl
from needs import pytest_addoption, pytest_terminal_summary  # noqa: F401 pytest calls them

# It holds no examples, and two files of this name cannot both be imported to look for some.
collect_ignore = ["conftest.py", "book/conftest.py"]

settings.register_profile("revlearn", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("revlearn")


@pytest.fixture(scope="module", params=["numpy", "numba"])
def either_loops(request):
    """Run the tests of a module with numpy's loops, and with compiled ones, whatever the sizes."""
    found = needs.module("revlearn.compiled") if request.param == "numba" else None
    with pytest.MonkeyPatch.context() as patch:
        for module in ("fixed_point", "information_buffer"):
            patch.setattr(f"revlearn.{module}.compiled", lambda size: found)
        yield


@pytest.fixture(scope="session")
def digits():
    """Real digits: 200 to train, 200 to validate."""
    return rl.datasets.mnist_subset().split(200, 200)


@pytest.fixture(scope="session")
def bowl():
    """Return a loss on a nest of dict, list and tuple, with minibatch noise, and a start."""
    start = {
        "a": np.array([[0.5, -1.0], [2.0, 0.1]]),
        "b": [np.array([1.0, -0.3, 0.7]), (np.array(0.25), np.zeros((0, 2)))],
    }
    noise = np.random.RandomState(1).randn(7, 3)

    def loss(weights, hyper, t):
        shift = noise[t % 7]
        inner = np.sum(np.cos(weights["a"])) * np.sin(weights["b"][1][0])
        return (
            inner + np.sum((weights["b"][0] - 0.1 * shift) ** 2) + 0.1 * np.sum(weights["a"] ** 2)
        )

    return loss, start
