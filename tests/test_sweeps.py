"""Sweeps take up where they were, in one process, in several, and on a cluster."""

import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import needs
from revlearn.errors import DataError, how_to_install
from revlearn.sweeps import resumable_map


def test_a_sweep_takes_up_where_it_was(tmp_path):
    calls = []

    def function(item):
        calls.append(item)
        if item == 3 and calls.count(3) == 1:
            raise KeyboardInterrupt
        return {"square": np.float64(item) ** 2, "nan": float("nan")}

    with pytest.raises(KeyboardInterrupt):
        resumable_map(function, range(1, 6), tmp_path / "sweep", settings={"a": 1})
    found, seconds = resumable_map(function, range(1, 6), tmp_path / "sweep", settings={"a": 1})
    assert calls == [1, 2, 3, 3, 4, 5]
    assert [entry["square"] for entry in found] == [1, 4, 9, 16, 25]
    assert all(np.isnan(entry["nan"]) for entry in found)
    assert seconds > 0.0
    stored = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("0*.json")]
    assert seconds == pytest.approx(sum(entry["seconds"] for entry in stored))


def test_a_folder_of_another_run_is_refused(tmp_path):
    resumable_map(abs, [1, 2], tmp_path, settings={"a": 1})
    with pytest.raises(ValueError, match=r"another run \(settings differ\)"):
        resumable_map(abs, [1, 2], tmp_path, settings={"a": 2})
    with pytest.raises(ValueError, match="items_sha256 differ"):
        resumable_map(abs, [1, 3], tmp_path, settings={"a": 1})
    assert resumable_map(abs, [1, 2], tmp_path, settings={"a": 1})[0] == [1, 2]


@pytest.mark.parametrize("name", ["settings.json", "000001.json"])
def test_a_damaged_file_is_named_before_anything_is_computed(tmp_path, name):
    resumable_map(abs, [1, 2], tmp_path, settings={"a": 1})
    (tmp_path / "000000.json").unlink()
    file, computed = tmp_path / name, []
    whole = file.read_bytes()
    shapes = [b"[]", b"3", b"null", b"{}", b'{"result": 1}', b'{"result": 1, "seconds": "1"}']
    more = json.dumps(json.loads(whole) | {"more": 1}).encode()
    for content in (*(whole[:end] for end in range(len(whole))), b"text", b"\xff", *shapes, more):
        file.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} is damaged: .*Delete it"):
            resumable_map(computed.append, [1, 2], tmp_path, settings={"a": 1})
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        resumable_map(computed.append, [1, 2], tmp_path, settings={"a": 1})
    file.rmdir()
    assert computed == []
    assert resumable_map(abs, [1, 2], tmp_path, settings={"a": 1})[0] == [1, 2]


def test_a_full_disk_keeps_what_is_stored(tmp_path, monkeypatch):
    whole = Path.write_bytes

    def full(self, content):
        if "000002" in self.name:
            whole(self, content[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"000002\.json cannot be.*: No space left.*Make room"):
        resumable_map(abs, [-1, -2, -3], tmp_path, settings={})
    monkeypatch.undo()
    names = ["000000.json", "000001.json", "settings.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    calls = []
    resumable_map(calls.append, [-1, -2, -3], tmp_path, settings={})
    assert calls == [-3]


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("text")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"settings\.json cannot be written.*folder"):
            resumable_map(abs, [1], folder, settings={})


def test_several_processes_give_the_same_in_the_same_order(tmp_path):
    needs.module("joblib")
    items = [-3, -2, 5, -7]
    found, _ = resumable_map(abs, items, tmp_path, settings={}, jobs=2)
    assert found == [abs(item) for item in items]


def test_large_arrays_reach_the_processes_as_arrays(tmp_path):
    needs.module("joblib")
    large = np.zeros(1_000_000)

    def kind(item):
        return type(large).__name__

    assert resumable_map(kind, [0, 1], tmp_path, settings={}, jobs=2)[0] == ["ndarray"] * 2


def test_without_joblib_only_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert resumable_map(abs, [-1, 2], tmp_path / "one", settings={})[0] == [1, 2]
    with pytest.raises(ImportError, match=re.escape(how_to_install("cluster"))):
        resumable_map(abs, [-1, 2], tmp_path / "two", settings={}, jobs=2)


def test_importing_it_does_not_import_joblib():
    program = "import sys, revlearn.sweeps; assert 'joblib' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)


def test_a_cluster_that_loses_a_worker_loses_nothing(tmp_path):
    """Two worker processes of a real dask cluster; one is killed in the middle of its work."""
    joblib = needs.module("joblib")
    distributed = needs.module("distributed")
    beside = tmp_path / "pids"
    beside.mkdir()

    def work(item):
        (beside / f"{item}-{os.getpid()}").touch()
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        return {"item": item, "square": item * item, "pid": os.getpid()}

    items = list(range(24))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        victim = min(client.run(os.getpid).values())
        killer = f"""
import os, pathlib, signal, time
started = lambda: list(pathlib.Path({str(beside)!r}).glob("*-{victim}"))
while len(started()) < 3: time.sleep(0.01)
time.sleep(0.05)
os.kill({victim}, signal.SIGKILL)
"""
        killing = subprocess.Popen([sys.executable, "-c", killer])
        found, seconds = resumable_map(work, items, tmp_path / "sweep", settings={})
        assert killing.wait(timeout=30) == 0
    assert [(entry["item"], entry["square"]) for entry in found] == [(i, i * i) for i in items]
    pids = {entry["pid"] for entry in found}
    assert len(pids) >= 2
    assert os.getpid() not in pids
    assert seconds >= 0.2 * len(items)
    # the killed process had begun work that another had to finish
    begun = {int(path.name.split("-")[0]) for path in beside.glob(f"*-{victim}")}
    finished = {entry["item"] for entry in found if entry["pid"] == victim}
    assert begun - finished
