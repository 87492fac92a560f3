"""Rounded products come back exactly, for the bits that theory asks."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revlearn.rounding_buffer import BitStack, RoundingBuffer

numbers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6)


@st.composite
def ratios(draw):
    bits = draw(st.integers(1, 30))
    numerator = st.integers(2 ** (bits - 1) + 1, 2**bits)
    return bits, draw(st.lists(numerator, min_size=1, max_size=40))


@given(numbers, ratios())
def test_each_product_is_the_nearest_integer_and_comes_back(values, ratio):
    bits, numerators = ratio
    buffer, fast = RoundingBuffer(len(values), bits), np.array(values, dtype=np.int64)
    states = []
    for n in numerators:
        states.append(fast.tolist())
        buffer.multiply(fast, n)
        nearest = [floor(Fraction(c * n, 2**bits) + Fraction(1, 2)) for c in states[-1]]
        assert fast.tolist() == nearest
    for n, state in zip(reversed(numerators), reversed(states), strict=True):
        buffer.divide(fast, n)
        assert fast.tolist() == state
    assert buffer.num_bits == 0
    assert buffer.information == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("bits", "n"), [(10, 1023), (10, 922), (24, 16760439), (4, 9)])
def test_bits_are_those_of_theory(bits, n):
    random = np.random.RandomState(0)
    buffer, size, steps = RoundingBuffer(40_000, bits), 40_000, 5
    for _ in range(steps):  # fresh numbers: products of a few hundred steps are no longer spread
        buffer.multiply(random.randint(-(2**40), 2**40, size=size), n)
    theory = steps * size * 2 * (1 - n / 2**bits)
    assert buffer.information == pytest.approx(theory)
    assert buffer.num_bits == pytest.approx(theory, rel=0.02, abs=4 * theory**0.5)


def test_zeros_cost_next_to_nothing_and_stay_zero():
    buffer, zeros = RoundingBuffer(100, 24), np.zeros(100, dtype=np.int64)
    n = round(0.999 * 2**24)
    for _ in range(50):
        buffer.multiply(zeros, n)
    assert not zeros.any()
    for _ in range(50):
        buffer.divide(zeros, n)
    assert not zeros.any()


def test_numbers_at_rest_cost_a_bit_each_at_most():
    """At 0.99, the nearest integer to 49.5 is 50 again: 50 and 51 both lead there."""
    buffer, values = RoundingBuffer(10, 16), np.full(10, 50, dtype=np.int64)
    for _ in range(40):
        buffer.multiply(values, round(0.99 * 2**16))
    assert values.tolist() == [50] * 10
    assert 0 < buffer.num_bits <= 10 * 40


def test_positive_numbers_stay_positive_or_zero():
    values = np.arange(1000, dtype=np.int64)
    buffer = RoundingBuffer(1000, 10)
    for _ in range(200):
        buffer.multiply(values, 900)
        assert values.min() >= 0


def test_a_copy_is_independent():
    values = np.arange(100, dtype=np.int64)
    buffer = RoundingBuffer(100, 4)
    buffer.multiply(values, 13)
    other, there = buffer.copy(), values.copy()
    other.divide(there, 13)
    assert there.tolist() == list(range(100))
    buffer.multiply(values, 11)
    buffer.divide(values, 11)
    buffer.divide(values, 13)
    assert values.tolist() == list(range(100))


def test_what_cannot_be_undone_is_refused():
    values = np.arange(4, dtype=np.int64)
    buffer = RoundingBuffer(4, 4)
    with pytest.raises(IndexError, match="nothing is left to undo"):
        buffer.divide(values + 1, 9)
    for numerator in (0, 8, 17):
        with pytest.raises(ValueError, match="numerator must lie above 8, up to 16"):
            buffer.multiply(values, numerator)
    with pytest.raises(ValueError, match="int64 of shape"):
        buffer.multiply(values[:2], 9)
    with pytest.raises(ValueError, match="denominator_bits"):
        RoundingBuffer(4, 31)


@given(st.lists(st.lists(st.booleans(), max_size=30), max_size=30), st.data())
def test_bits_come_off_in_any_portions(pushed, data):
    stack, reference = BitStack(), []
    for bits in pushed:
        stack.push(np.array(bits, dtype=np.bool_))
        reference += bits
        assert stack.num_bits == len(reference)
        count = data.draw(st.integers(0, len(reference)))
        kept = len(reference) - count
        assert stack.pop(count).tolist() == reference[kept:]
        reference = reference[:kept]
    with pytest.raises(IndexError):
        stack.pop(len(reference) + 1)
