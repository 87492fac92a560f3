import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from revlearn import FixedPointOverflowError, NonFiniteError, from_fixed, to_fixed
from revlearn.fixed_point import BLOCK, add_scaled, checksum

pytestmark = pytest.mark.usefixtures("either_loops")

INT64 = st.integers(-(2**63), 2**63 - 1)
IN_RANGE = st.floats(-2047.999, 2047.999)


@given(arrays(np.float64, st.integers(0, 40), elements=IN_RANGE), st.integers(20, 52))
def test_conversion_rounds_once_to_the_nearest(values, bits):
    fixed = to_fixed(values, bits)
    assert fixed.dtype == np.int64
    expected = [round(float(v) * 2**bits) for v in values]  # Python's integers, half to even
    assert fixed.tolist() == expected
    assert np.all(np.abs(from_fixed(fixed, bits) - values) <= 2.0 ** -(bits + 1))


@given(arrays(np.float64, 30, elements=IN_RANGE))
def test_conversion_returns_what_52_bits_can_hold(values):
    once = from_fixed(to_fixed(values))
    assert np.array_equal(from_fixed(to_fixed(once)), once)


@given(
    arrays(np.int64, 50, elements=INT64),
    arrays(np.float64, 50, elements=st.floats(-1e4, 1e4)),
    st.floats(-1e15, 1e15),
)
def test_adding_is_undone_exactly_or_refused(target, values, scale):
    before = target.copy()
    exact = [int(a) + round(v * scale) for a, v in zip(target, values, strict=True)]
    fits = all(-(2**63) <= total < 2**63 for total in exact)
    fits &= all(abs(v * scale) < 2**63 for v in values)
    try:
        add_scaled(target, values, scale)
    except FixedPointOverflowError as error:
        assert not fits
        assert (
            not -(2**63) <= exact[error.index] < 2**63 or abs(values[error.index] * scale) >= 2**63
        )
        assert np.array_equal(target, before)
    else:
        assert fits
        assert target.tolist() == exact
        add_scaled(target, values, -scale)
        assert np.array_equal(target, before)


def test_both_ends_of_the_range_are_used():
    top = np.array([2**63 - 1, -(2**63)], dtype=np.int64)
    add_scaled(top, np.array([-1.0, 1.0]), 1.0)
    assert top.tolist() == [2**63 - 2, -(2**63) + 1]
    add_scaled(top, np.array([1.0, -1.0]), 1.0)
    with pytest.raises(FixedPointOverflowError) as caught:
        add_scaled(top, np.array([0.0, -1.0]), 1.0)
    assert caught.value.index == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2048.0, -2049.0])
def test_what_does_not_fit_is_refused_and_located_in_any_block(bad):
    values = np.zeros(2 * BLOCK + 5)
    values[BLOCK + 3] = bad
    kind = NonFiniteError if np.isnan(bad) else FixedPointOverflowError
    with pytest.raises(kind) as caught:
        to_fixed(values)
    assert caught.value.index == BLOCK + 3


def test_integers_are_added_without_passing_through_floats_twice():
    target, velocity = np.zeros(3, dtype=np.int64), np.array([3, -5, 2**40 + 1], dtype=np.int64)
    add_scaled(target, velocity, 0.5)
    assert target.tolist() == [2, -2, 2**39]  # halves go to even


@given(arrays(np.int64, 20, elements=INT64), st.integers(0, 19), st.integers(1, 2**63))
def test_checksum_sees_every_change_of_one_number(numbers, place, change):
    before = checksum(numbers)
    numbers.view(np.uint64)[place : place + 1] += np.uint64(change)
    assert checksum(numbers) != before


def test_checksum_sees_exchanged_blocks_and_arrays():
    random = np.random.RandomState(0)
    numbers = random.randint(-(2**63), 2**63 - 1, size=2 * BLOCK, dtype=np.int64)
    exchanged = np.concatenate([numbers[BLOCK:], numbers[:BLOCK]])
    assert checksum(numbers) != checksum(exchanged)
    assert checksum(numbers[:5], numbers[5:]) != checksum(numbers[5:], numbers[:5])


@pytest.mark.parametrize("size", [2, 4, 1000, 2 * BLOCK + 2])
def test_a_checksum_tells_floats_from_their_negatives(size):
    """An even number of changed signs does not cancel."""
    values = np.random.RandomState(0).randn(size)
    words, negated = values.view(np.uint64), (-values).view(np.uint64)
    assert checksum(words) != checksum(negated)
    some = values.copy()
    some[:2] *= -1.0
    assert checksum(words) != checksum(some.view(np.uint64))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.data())
def test_a_change_of_one_word_changes_the_checksum(words, data):
    place = data.draw(st.integers(0, len(words) - 1))
    changed = list(words)
    changed[place] = data.draw(st.integers(0, 2**64 - 1).filter(lambda word: word != words[place]))
    one, other = (np.array(numbers, dtype=np.uint64) for numbers in (words, changed))
    assert checksum(one) != checksum(other)
