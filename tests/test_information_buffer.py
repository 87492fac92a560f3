import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revlearn import InformationBuffer
from revlearn.fixed_point import BLOCK

pytestmark = pytest.mark.usefixtures("either_loops")

D = 2**16


class Paper:
    """Algorithm 3 of the paper for one number, with Python's unbounded integers."""

    def __init__(self):
        self.i = 0

    def multiply(self, c, n, d):
        self.i = self.i * d + c % d
        c = c // d
        c = c * n + self.i % n
        self.i //= n
        return c

    def divide(self, c, n, d):
        self.i = self.i * n + c % n
        c = c // n
        c = c * d + self.i % d
        self.i //= d
        return c


class Spilling(Paper):
    """The same, with 32 bits put aside whenever a number below the bound could outgrow 64 bits."""

    def __init__(self):
        super().__init__()
        self.bound, self.history, self.aside = 0, [], []

    def multiply(self, c, n, d):
        self.history.append((self.bound, len(self.aside)))
        if n < d and self.bound * d + d - 1 >= 2**64:
            self.aside.append(self.i % 2**32)
            self.i, self.bound = self.i // 2**32, self.bound // 2**32
        self.bound = max(self.bound, (self.bound * d + d - 1) // n) if n < d else self.bound
        return super().multiply(c, n, d)

    def divide(self, c, n, d):
        c = super().divide(c, n, d)
        self.bound, depth = self.history.pop()
        if len(self.aside) > depth:
            self.i = self.i * 2**32 + self.aside.pop()
        return c

    def content(self):
        value = self.i
        for digit in reversed(self.aside):
            value = value * 2**32 + digit
        return value


def contents(buffer):
    """Read the buffer as one unbounded integer per number."""
    values = [int(word) for word in buffer._words]
    for _, low, whose in reversed(buffer._spilled):
        digits = low.get().tolist()
        if whose is None:
            places = range(len(values))
        else:
            places = np.flatnonzero(np.unpackbits(whose.get(), count=len(values)))
        for place, digit in zip(places, digits, strict=True):
            values[place] = (values[place] << 32) | digit
    return values


class Long:
    """A buffer of the paper's for each number, of which the long ones put 32 bits aside."""

    def __init__(self, size):
        self.each = [Paper() for _ in range(size)]
        self.aside, self.history = [[] for _ in self.each], []

    def multiply(self, values, numerators, d):
        trips = max(one.i for one in self.each) * d + d - 1 >= 2**64
        self.history.append([trips and one.i >= 2**32 for one in self.each])
        for one, aside, long in zip(self.each, self.aside, self.history[-1], strict=True):
            if long:
                aside.append(one.i % 2**32)
                one.i //= 2**32
        triples = zip(self.each, values, numerators, strict=True)
        return [one.multiply(c, n, d) for one, c, n in triples]

    def divide(self, values, numerators, d):
        triples = zip(self.each, values, numerators, strict=True)
        values = [one.divide(c, n, d) for one, c, n in triples]
        for one, aside, long in zip(self.each, self.aside, self.history.pop(), strict=True):
            if long:
                one.i = one.i * 2**32 + aside.pop()
        return values

    def contents(self):
        found = []
        for one, aside in zip(self.each, self.aside, strict=True):
            value = one.i
            for digit in reversed(aside):
                value = value * 2**32 + digit
            found.append(value)
        return found


numbers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6)
ratios = st.lists(st.integers(1, D), min_size=1, max_size=120)


@given(numbers, ratios)
def test_equals_unbounded_integers_digit_for_digit(values, numerators):
    buffer, fast = InformationBuffer(len(values)), np.array(values, dtype=np.int64)
    references = [Spilling() for _ in values]
    slow = list(values)
    for n in numerators:
        buffer.multiply(fast, n)
        slow = [r.multiply(c, n, D) for r, c in zip(references, slow, strict=True)]
        assert fast.tolist() == slow
        assert contents(buffer) == [r.content() for r in references]
    for n in reversed(numerators):
        buffer.divide(fast, n)
        slow = [r.divide(c, n, D) for r, c in zip(references, slow, strict=True)]
        assert fast.tolist() == slow
        assert contents(buffer) == [r.content() for r in references]
    assert slow == values
    assert contents(buffer) == [0] * len(values)
    assert not buffer._spilled


@given(numbers, st.integers(D // 2, D))
def test_is_the_papers_algorithm_until_the_first_word_is_full(values, n):
    buffer, fast = InformationBuffer(len(values)), np.array(values, dtype=np.int64)
    references, slow = [Paper() for _ in values], list(values)
    for _ in range(45):  # at most one bit each, beside 16 for the next digit
        buffer.multiply(fast, n)
        slow = [r.multiply(c, n, D) for r, c in zip(references, slow, strict=True)]
    assert fast.tolist() == slow
    assert contents(buffer) == [r.i for r in references]
    assert buffer.num_bits == 64 * len(values)


@given(numbers, st.lists(st.tuples(st.booleans(), st.integers(1, D)), max_size=150))
def test_forwards_and_backwards_may_alternate(values, moves):
    buffer, fast, done = InformationBuffer(len(values)), np.array(values, dtype=np.int64), []
    for forwards, n in moves:
        if forwards:
            done.append((n, fast.copy(), contents(buffer)))
            buffer.multiply(fast, n)
        elif done:
            n, before, content = done.pop()
            buffer.divide(fast, n)
            assert fast.tolist() == before.tolist()
            assert contents(buffer) == content
        assert all(int(word) <= buffer._bound for word in buffer._words)


@given(numbers, st.integers(0, 2**32 - 1), st.integers(1, D), st.integers(1, 200))
def test_a_ratio_for_each_number_equals_unbounded_integers(values, seed, smallest, steps):
    random = np.random.RandomState(seed)
    buffer, fast = InformationBuffer(len(values)), np.array(values, dtype=np.int64)
    reference, slow, done = Long(len(values)), list(values), []
    lowest = random.randint(smallest, D + 1, size=len(values))  # of different rates of growth
    for _ in range(steps):
        n = random.randint(lowest, D + 1).astype(np.int64)
        done.append(n)
        slow = reference.multiply(slow, n.tolist(), D) if n.min() < D else slow
        buffer.multiply(fast, n)
        assert fast.tolist() == slow
        assert all(int(word) <= buffer._bound for word in buffer._words)
    assert contents(buffer) == reference.contents()
    assert buffer.information == pytest.approx(-np.log2(np.array(done) / D).sum(), abs=1e-6)
    for n in reversed(done):
        buffer.divide(fast, n)
        slow = reference.divide(slow, n.tolist(), D) if n.min() < D else slow
        assert fast.tolist() == slow
    assert slow == values
    assert contents(buffer) == [0] * len(values)
    assert not buffer._spilled


@given(numbers, st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, D)), max_size=150))
def test_one_ratio_and_ratios_for_each_may_alternate(values, moves):
    buffer, fast, done = InformationBuffer(len(values)), np.array(values, dtype=np.int64), []
    for forwards, each, n in moves:
        if forwards:
            own = np.random.RandomState(n).randint(n, D + 1, size=len(values))
            done.append((own if each else n, fast.copy(), contents(buffer)))
            buffer.multiply(fast, done[-1][0])
        elif done:
            n, before, content = done.pop()
            buffer.divide(fast, n)
            assert fast.tolist() == before.tolist()
            assert contents(buffer) == content
        assert all(int(word) <= buffer._bound for word in buffer._words)


def test_ratios_for_each_number_are_made_again_bit_for_bit_from_any_point():
    """Whether words are spilled depends on them, not on the bound that the way here has left."""
    random, size = np.random.RandomState(0), 5
    buffer, values = InformationBuffer(size), random.randint(-(2**60), 2**60, size=size)
    ratios, seen = random.randint(D // 8, D + 1, size=(500, size)), []
    for n in ratios:
        buffer.multiply(values, n)
        seen.append(values.copy())
    for turn in (400, 250, 90, 3):
        for n in ratios[turn:][::-1]:
            buffer.divide(values, n)
        assert np.array_equal(values, seen[turn - 1])
        for n, expected in zip(ratios[turn:], seen[turn:], strict=True):
            buffer.multiply(values, n)
            assert np.array_equal(values, expected)


@pytest.mark.parametrize("bits", [10, 16, 24])
def test_memory_stays_near_the_information_where_ratios_differ(bits):
    """Rates of growth from 0.01 to 1 bit: the slow words need not be spilled with the fast."""
    size, steps = 64, 4000
    decay = np.geomspace(0.01, 1.0, size)
    numerators = np.rint(2.0 ** (bits - decay)).astype(np.int64)
    buffer = InformationBuffer(size, bits)
    values = np.random.RandomState(0).randint(-(2**60), 2**60, size=size)
    for _ in range(steps):
        buffer.multiply(values, numerators)
    assert buffer.information <= buffer.num_bits
    shared = steps * size * decay.max()  # what it would take if all were spilled together
    excess = (buffer.num_bits - 64 * size) / buffer.information - 1
    assert excess < {10: 0.25, 16: 0.3, 24: 0.3}[bits], excess
    assert buffer.num_bits < 0.4 * shared


@given(st.integers(1, 32), numbers, st.data())
def test_any_denominator(bits, values, data):
    buffer, fast = InformationBuffer(len(values), bits), np.array(values, dtype=np.int64)
    numerators = data.draw(st.lists(st.integers(1, 2**bits), min_size=1, max_size=40))
    for n in numerators:
        buffer.multiply(fast, n)
    for n in reversed(numerators):
        buffer.divide(fast, n)
    assert fast.tolist() == values


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.5, 0.9, 0.98, 0.999, 1.0])
def test_memory_stays_near_the_information_at_every_length(gamma):
    n, size = round(gamma * D), 3
    buffer = InformationBuffer(size)
    values = np.random.RandomState(0).randint(-(2**60), 2**60, size=size)
    for step in range(1, 3001):
        buffer.multiply(values, n)
        assert buffer.information == pytest.approx(step * size * math.log2(D / n), rel=1e-9)
        assert buffer.num_bits <= 1.03 * buffer.information + 64 * size
        assert buffer.num_bits >= buffer.information


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.999, 0.9999])
def test_finer_ratios_cost_no_more_memory(gamma, bits):
    n = round(gamma * 2**bits)
    buffer = InformationBuffer(2, bits)
    values = np.random.RandomState(0).randint(-(2**60), 2**60, size=2)
    for _ in range(20_000):
        buffer.multiply(values, n)
    assert buffer.information <= buffer.num_bits <= 1.03 * buffer.information + 64 * 2


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_the_bound_is_reached_and_holds_in_both_directions(bits):
    """At n = 1 a value of −1 stays, and each digit it leaves is the largest."""
    buffer, values = InformationBuffer(1, bits), np.array([-1], dtype=np.int64)
    for _ in range(9):
        buffer.multiply(values, 1)
        assert values.tolist() == [-1]
        assert int(buffer._words[0]) == buffer._bound
    for _ in range(9):
        buffer.divide(values, 1)
        assert int(buffer._words[0]) <= buffer._bound


def test_forth_back_and_forth_again_takes_the_same_memory():
    buffer, values = InformationBuffer(3), np.array([7, -8, 2**50], dtype=np.int64)
    sizes = []
    for _ in range(5):
        for _ in range(300):
            buffer.multiply(values, D // 2)
        sizes.append(buffer.num_bits)
        for _ in range(300):
            buffer.divide(values, D // 2)
        assert buffer.information == pytest.approx(0.0, abs=1e-6)
        assert buffer.num_bits == 64 * 3
    assert len(set(sizes)) == 1


def test_a_run_taken_back_and_made_again_is_the_same_run():
    numerator = round(0.9 * D)
    buffer, rng = InformationBuffer(4), np.random.RandomState(0)
    start = rng.randint(-(2**60), 2**60, 4, dtype=np.int64)
    runs = []
    for _ in range(2):
        values, seen = start.copy(), []
        for _ in range(600):  # past the second spill
            buffer.multiply(values, numerator)
            seen.append(values.copy())
        runs.append(seen)
        for _ in range(600):
            buffer.divide(values, numerator)
        assert np.array_equal(values, start)
    assert np.array_equal(*runs)


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_content_is_as_large_as_the_information_claims(gamma):
    n, steps = round(gamma * D), 2000
    values = np.random.RandomState(0).randint(-(2**60), 2**60, size=50)
    buffer = InformationBuffer(values.size)
    for _ in range(steps):
        buffer.multiply(values, n)
    bits = np.mean([content.bit_length() for content in contents(buffer)])
    assert bits == pytest.approx(steps * math.log2(D / n), rel=0.01)


def test_many_blocks_are_as_good_as_one():
    size = 2 * BLOCK + 77
    values = np.random.RandomState(0).randint(-(2**62), 2**62, size=size)
    buffer, fast = InformationBuffer(size), values.copy()
    for _ in range(60):
        buffer.multiply(fast, D // 2)
    chosen = [0, BLOCK - 1, BLOCK, 2 * BLOCK + 76]
    for place in chosen:
        reference, slow = Spilling(), int(values[place])
        for _ in range(60):
            slow = reference.multiply(slow, D // 2, D)
        assert slow == fast[place]
    for _ in range(60):
        buffer.divide(fast, D // 2)
    assert np.array_equal(fast, values)


def test_copy_is_independent():
    buffer, values = InformationBuffer(2), np.array([12345, -99999], dtype=np.int64)
    for _ in range(100):
        buffer.multiply(values, D // 3)
    copy, copied = buffer.copy(), values.copy()
    before = contents(buffer)
    for _ in range(100):
        copy.divide(copied, D // 3)
    assert copied.tolist() == [12345, -99999]
    assert contents(buffer) == before
    assert copy.num_bits == 2 * 64
    assert buffer.num_bits > copy.num_bits


def test_misuse_is_named():
    buffer, values = InformationBuffer(1), np.array([5], dtype=np.int64)
    with pytest.raises(IndexError, match="empty"):
        buffer.divide(values, D // 2)
    for numerator in (0, D + 1):
        with pytest.raises(ValueError, match="numerator"):
            buffer.multiply(values, numerator)
    for wrong in (np.zeros(2, dtype=np.int64), np.zeros(1)):
        with pytest.raises(ValueError, match=r"int64 of shape \(1,\)"):
            buffer.multiply(wrong, D // 2)
    for wrong in (np.ones(2, dtype=np.int64), np.ones(1)):
        with pytest.raises(ValueError, match=r"numerators must be int64 of shape \(1,\)"):
            buffer.multiply(values, wrong)
    for numerator in (0, D + 1):
        with pytest.raises(ValueError, match=f"numerator must lie in 1..{D}, not {numerator}"):
            buffer.multiply(values, np.array([numerator], dtype=np.int64))
    with pytest.raises(ValueError, match="denominator_bits"):
        InformationBuffer(1, denominator_bits=33)
    assert values.tolist() == [5]
