"""The compiled loops give the same bits as numpy's, over all that 64 bits can hold."""

import os
import subprocess
import sys

import autograd.numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import needs
import revlearn as rl
from revlearn import FixedPointOverflowError, NonFiniteError, fixed_point, information_buffer
from revlearn.fixed_point import BLOCK, add_scaled, checksum

compiled = needs.module("revlearn.compiled")

INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = arrays(np.int64, 40, elements=INT64)
RATIOS = st.integers(13, 32).flatmap(
    lambda bits: st.tuples(st.integers(compiled.LEAST_DIVISOR, 2**bits), st.just(bits))
)


def with_either(function):
    """Return what a function returns with numpy's loops, and with compiled ones."""
    found = []
    for loops in (None, compiled):
        with pytest.MonkeyPatch.context() as patch:
            for module in (fixed_point, information_buffer):
                patch.setattr(module, "compiled", lambda size, loops=loops: loops)
            found.append(function())
    return found


@given(NUMBERS, arrays(np.uint64, 40, elements=st.integers(0, 2**64 - 1)), RATIOS)
def test_products_are_those_of_big_integers_and_come_back(values, words, ratio):
    n, bits = ratio
    words >>= np.uint64(bits)  # as full as a buffer lets them become
    before = values.copy(), words.copy()
    contents = [(int(w) << bits) + int(v) % 2**bits for v, w in zip(values, words, strict=True)]
    products = [
        (int(v) >> bits) * n + content % n for v, content in zip(values, contents, strict=True)
    ]
    compiled.multiply(values, words, n, bits)
    assert values.tolist() == products
    assert words.tolist() == [content // n for content in contents]
    compiled.divide(values, words, n, bits)
    assert np.array_equal(values, before[0])
    assert np.array_equal(words, before[1])


def outcome(target, values, scale, bound):
    """Return what an addition leaves and says, or how it is refused."""
    target = target.copy()
    try:
        bound = add_scaled(target, values, scale, bound)
    except (FixedPointOverflowError, NonFiniteError) as error:
        return target.tolist(), type(error), str(error)
    assert all(abs(number) <= bound for number in target.tolist())
    return target.tolist(), None, None


@given(
    NUMBERS,
    st.one_of(NUMBERS, arrays(np.float64, 40, elements=st.floats(width=64))),
    st.one_of(
        st.floats(-1e18, 1e18),
        st.floats(-2.0, 2.0),
        arrays(np.float64, 40, elements=st.floats(-1e15, 1e15)),
    ),
    st.booleans(),
)
def test_sums_are_the_same_or_refused_the_same(target, values, scale, bounded):
    bound = float(np.abs(target.astype(np.float64)).max()) if bounded else np.inf
    numpys, numbas = with_either(lambda: outcome(target, values, scale, bound))
    assert numpys == numbas


@given(NUMBERS, arrays(np.float64, 40, elements=st.floats(-1e4, 1e4)), st.floats(-1e12, 1e12))
def test_what_is_added_can_be_taken_back(target, values, scale):
    before = target.copy()
    compiled.add(target, values, np.array([scale]), 1)
    compiled.add(target, values, np.array([scale]), -1)
    assert np.array_equal(target, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**51, -(2.0**51), 2.0**80, -1e300])
def test_what_is_too_long_for_a_fast_addition_is_noticed(value):
    target = np.zeros(3, dtype=np.int64)
    assert compiled.add(target, np.array([1.0, value, 1.0]), np.ones(1), 1) >= fixed_point.SHORT
    compiled.add(target, np.array([1.0, value, 1.0]), np.ones(1), -1)
    assert target.tolist() == [0, 0, 0]


@given(st.lists(NUMBERS, max_size=3))
def test_checksums_are_the_same(parts):
    numpys, numbas = with_either(lambda: checksum(*parts))
    assert numpys == numbas
    long = np.tile(parts[0], BLOCK // 40 + 1) if parts else np.zeros(0, dtype=np.int64)
    assert len(set(with_either(lambda: checksum(long)))) == 1


@pytest.mark.parametrize("momentum", [0.9, 0.1])  # large numerators are compiled, small ones not
def test_a_run_may_go_forwards_with_one_and_backwards_with_the_other(momentum, monkeypatch):
    random = np.random.RandomState(0)
    start, target = random.randn(2, 5000)

    def loss(weights, hyper, t):
        return np.sum(np.float64(0.5) * (weights - target) ** 2)

    def record():
        return rl.record(loss, start, None, rl.SGD(0.5, momentum), steps=300)

    numpys, numbas = with_either(record)
    assert np.array_equal(numpys.weights, numbas.weights)
    assert numpys.num_bits == numbas.num_bits
    for tape, loops in ((numpys, compiled), (numbas, None)):
        for module in (fixed_point, information_buffer):
            monkeypatch.setattr(module, "compiled", lambda size, loops=loops: loops)
        *_, (_, weights, velocity) = tape.rewind()
        assert np.array_equal(weights, rl.from_fixed(rl.to_fixed(start)))
        assert not velocity.any()


def test_nothing_is_compiled_for_a_few_numbers_nor_where_numba_is_switched_off():
    script = (
        "import sys, numpy as np, revlearn as rl; from revlearn.fixed_point import compiled\n"
        "rl.to_fixed(np.ones(100)); assert 'numba' not in sys.modules\n"
        "assert (compiled(10**5) is None) == (len(sys.argv) > 1)\n"
    )
    for off in ([], ["off"]):
        environment = os.environ | ({"NUMBA_DISABLE_JIT": "1"} if off else {})
        subprocess.run([sys.executable, "-c", script, *off], check=True, env=environment)
