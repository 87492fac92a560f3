"""Spilled words on disk: shared by threads and processes, copied, and out of room."""

import copy
import errno
import gc
import io
import os
import pickle
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import autograd.numpy as np
import pytest

import needs
import revlearn as rl
from revlearn.stores import InMemory, OnDisk

forked = pytest.mark.skipif(not hasattr(os, "fork"), reason=needs.reason("fork"))
# Whoever runs the tests may have threads, of which newer Pythons warn.
pytestmark = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")

START = np.linspace(-1.0, 1.0, 3000)
STEPS = 200


def loss(weights, hyper, t):
    return np.sum(np.cos(weights + 0.1 * t))


def record(folder):
    return rl.record(loss, START, None, rl.SGD(0.05, 0.5), STEPS, spill_to=folder)


def comes_back(tape):
    """Rewind, and say whether the start is there; raises ReversalError where it is not."""
    for _, weights, velocity in tape.rewind():
        pass
    return np.array_equal(weights, rl.from_fixed(rl.to_fixed(START))) and not velocity.any()


def numbered(folder):
    """Return arrays on disk, each full of its number."""
    store = OnDisk(folder)
    return [store.put(np.full(500, i)) for i in range(40)]


def all_are_read(stored, seed, times=3000):
    """Read arrays at random, and say whether each is the one that was asked for."""
    chosen = np.random.RandomState(seed).randint(len(stored), size=times)
    return all((stored[i].get() == i).all() for i in chosen)


def test_threads_may_read_one_store_at_once(tmp_path):
    stored, interval = numbered(tmp_path), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(all_are_read, [stored] * 4, range(4)))
    finally:
        sys.setswitchinterval(interval)


@forked
def test_forked_processes_may_read_one_store_at_once(tmp_path):
    stored, children = numbered(tmp_path), []
    for seed in range(2):
        child = os.fork()
        if not child:
            fine = False
            try:
                fine = all_are_read(stored, seed, times=20_000)
            finally:
                os._exit(not fine)
        children.append(child)
    assert all_are_read(stored, 2, times=20_000)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def test_threads_may_rewind_one_spilled_tape_at_once(tmp_path):
    tape = record(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(comes_back, [tape] * 4))


@forked
def test_forked_processes_may_use_one_spilled_tape_at_once(tmp_path):
    tape = record(tmp_path)
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            # A run of its own, which spills, too, while the others read.
            fine = False
            try:
                fine = comes_back(tape)
                run = tape._run.copy()
                for t in range(STEPS):
                    run.step(t, np.ones(START.size))
            finally:
                os._exit(not fine)
        children.append(child)
    assert comes_back(tape)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert comes_back(tape)


@forked
def test_what_a_forked_process_puts_away_is_not_what_its_parent_does(tmp_path):
    store = OnDisk(tmp_path)
    first = store.put(np.arange(1000))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        own = store.put(np.full(1000, 7))
        os.read(reading, 1)  # until the parent has put its own away
        right = np.array_equal(own.get(), np.full(1000, 7))
        os._exit(not (right and np.array_equal(first.get(), np.arange(1000))))
    second = store.put(np.full(1000, 8))
    os.write(writing, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    os.close(writing)
    assert np.array_equal(second.get(), np.full(1000, 8))
    assert np.array_equal(first.get(), np.arange(1000))


@pytest.mark.parametrize("spilled", [False, True], ids=["in memory", "spilled"])
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda tape: pickle.loads(pickle.dumps(tape))], ids=["deep", "sent"]
)
def test_a_tape_can_be_copied_and_sent(spilled, again, tmp_path):
    tape = record(tmp_path if spilled else None)
    other = again(tape)
    del tape
    gc.collect()
    assert comes_back(other)
    assert np.array_equal(
        other.pull_back(np.ones(START.size)).slots["weights"],
        record(None).pull_back(np.ones(START.size)).slots["weights"],
    )


def test_without_positioned_reads_it_works_the_same(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pread", raising=False)
    assert comes_back(record(tmp_path))


class FullDisk(io.RawIOBase):
    """A file that takes so many bytes and no more."""

    def __init__(self, room):
        self.room, self.content = room, io.BytesIO()

    def seek(self, *place):
        return self.content.seek(*place)

    def tell(self):
        return self.content.tell()

    def write(self, data):
        if self.content.tell() >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.content.write(bytes(data)[: self.room - self.content.tell()])


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_named_and_nothing_is_said_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FullDisk(30_000))
    with pytest.raises(rl.DataError, match=r"No space left on device.*spill_to") as caught:
        record(tmp_path)
    assert str(tmp_path) in str(caught.value)
    del caught
    gc.collect()


def test_after_a_failed_write_what_was_there_is_there(tmp_path, monkeypatch):
    disk = FullDisk(1000)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: disk)
    monkeypatch.delattr(os, "pread", raising=False)
    disk.read = lambda n: disk.content.read(n)
    store = OnDisk(tmp_path)
    first = store.put(np.arange(100))
    with pytest.raises(rl.DataError, match="No space left"):
        store.put(np.arange(100))
    disk.room = 10_000
    second = store.put(-np.arange(50))
    assert np.array_equal(first.get(), np.arange(100))
    assert np.array_equal(second.get(), -np.arange(50))


def test_a_folder_that_takes_no_file_is_named_before_anything_runs(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    def never(weights, hyper, t):
        pytest.fail("a step was taken")

    with pytest.raises(rl.DataError, match="Permission denied"):
        rl.record(never, START, None, rl.SGD(0.1, 0.9), 5, spill_to=tmp_path)


def test_a_store_that_was_sent_keeps_in_memory(tmp_path):
    assert isinstance(pickle.loads(pickle.dumps(OnDisk(tmp_path))), InMemory)
