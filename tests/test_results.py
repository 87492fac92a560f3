"""Results of long runs are whole or absent."""

import errno
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from crashes import Crash, interrupt
from revlearn import results
from revlearn.errors import DataError

WHOLE = {
    "settings": {"points": 3, "rate": 0.1},
    "seconds": 1.25,
    "numbers": {"loss": np.float64(0.1), "count": np.int64(4)},
    "arrays": {"x": np.array([0.1, np.nan]), "names": np.array(["a", "bc"])},
}


def test_what_is_saved_is_loaded(tmp_path):
    results.save(tmp_path / "new" / "run.v2", **WHOLE)
    loaded = results.load(tmp_path / "new" / "run.v2")
    assert loaded.settings == WHOLE["settings"]
    assert loaded.numbers == {"loss": 0.1, "count": 4}
    assert loaded.seconds == pytest.approx(1.25, abs=0.06)
    np.testing.assert_array_equal(loaded.arrays["x"], WHOLE["arrays"]["x"])
    assert loaded.arrays["names"].tolist() == ["a", "bc"]
    assert 2**24 < loaded.memory < 2**36
    assert loaded.versions["numpy"] == np.__version__
    assert set(loaded.versions) == {"python", "numpy", "autograd", "revlearn"}
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "run.v2.json",
        "run.v2.npz",
    ]


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    results.save(tmp_path / "run", **WHOLE)
    assert results.load(tmp_path / "run").commit is None


def test_the_commit_is_that_of_the_source(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", ".")
    git("commit", "-m", "first")
    results.save(tmp_path / "run", **WHOLE)
    head = git("rev-parse", "HEAD").stdout.strip()
    assert results.load(tmp_path / "run").commit == head
    (tmp_path / "file").write_text("two")
    results.save(tmp_path / "run", **WHOLE)
    assert results.load(tmp_path / "run").commit == head + "-dirty"


def test_objects_and_nan_are_refused_before_a_file_is_touched(tmp_path):
    with pytest.raises(TypeError, match="'x' holds Python objects"):
        results.save(tmp_path / "run", **(WHOLE | {"arrays": {"x": np.array([None])}}))
    with pytest.raises(ValueError, match="JSON"):
        results.save(tmp_path / "run", **(WHOLE | {"numbers": {"loss": np.nan}}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["allow_pickle", "file", "args", "", "a b/ü:*?", "self", "x.npz"])
def test_an_array_may_have_any_name(tmp_path, name):
    arrays = {name: np.arange(3.0), "other": np.array(["a"])}
    results.save(tmp_path / "run", **(WHOLE | {"arrays": arrays}))
    assert results.load(tmp_path / "run").arrays.keys() == arrays.keys()
    with np.load(tmp_path / "run.npz", allow_pickle=False) as stored:
        assert stored.files == [name, "other"]
        assert stored[name].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("name", ["x.npy", "a\\b", "a\0b", "\udc80", "x" * 70_000])
def test_a_name_that_an_archive_cannot_hold_is_refused_before_a_file_is_touched(tmp_path, name):
    with pytest.raises(ValueError, match="cannot hold an array named"):
        results.save(tmp_path / "run", **(WHOLE | {"arrays": {name: np.ones(2)}}))
    with pytest.raises(TypeError, match="names of arrays are text, not 3"):
        results.save(tmp_path / "run", **(WHOLE | {"arrays": {3: np.ones(2)}}))
    assert list(tmp_path.iterdir()) == []


NEW = WHOLE | {"numbers": {"loss": 0.2}, "arrays": {"x": np.array([1.0, 2.0, 3.0])}}


def is_whole(path):
    """Say whether a result is the new one; fail unless it is the old or the new one."""
    loaded = results.load(path)
    new = loaded.numbers == NEW["numbers"]
    assert new or loaded.numbers == {"loss": 0.1, "count": 4}
    assert len(loaded.arrays["x"]) == (3 if new else 2)
    return new


@pytest.mark.parametrize("again", [False, True])
def test_an_interrupted_save_leaves_the_old_or_the_new_result(tmp_path, again):
    """Interrupted at any moment, and once more when it is saved again."""
    for number in range(100):
        path = tmp_path / str(number) / "run"
        results.save(path, **WHOLE)
        with pytest.MonkeyPatch.context() as patch:
            Crash(patch, number, interrupt)
            try:
                results.save(path, **NEW)
            except KeyboardInterrupt:
                pass
            else:
                break
        assert not list(path.parent.glob("*.partial"))
        if again:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Path, "write_bytes", lambda *_: interrupt())
                with pytest.raises(KeyboardInterrupt):
                    results.save(path, **NEW)
        new = is_whole(path)
        assert is_whole(path) == new
        results.save(path, **NEW)
        assert sorted(file.name for file in path.parent.iterdir()) == ["run.json", "run.npz"]
    assert number == 21  # two files opened, written and moved, one moved again


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import pytest
from crashes import Crash
from revlearn import results
from test_results import NEW
Crash(pytest.MonkeyPatch(), int(sys.argv[3]), lambda: os._exit(9))
results.save(sys.argv[2], **NEW)
"""


@pytest.mark.parametrize("moment", [0, 4, 8, 13, 16, 17, 19, 30])
def test_a_killed_save_leaves_the_old_or_the_new_result(tmp_path, moment):
    path = tmp_path / "run"
    results.save(path, **WHOLE)
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path), str(moment)]
    killed = subprocess.run(command)
    assert killed.returncode == (9 if moment < 21 else 0)
    assert is_whole(path) == (moment > 16)  # from then on the JSON file is the new one


@pytest.mark.parametrize("operation", ["write_bytes", "replace"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, operation, count):
    results.save(tmp_path / "run", **WHOLE)
    passed, whole = [], getattr(Path, operation)

    def full(self, *arguments):
        passed.append(self)
        if len(passed) <= count:
            return whole(self, *arguments)
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, operation, full)
    if (operation, count) == ("write_bytes", 2):
        results.save(tmp_path / "run", **NEW)
        return
    with pytest.raises(DataError, match=r"run\.\w+(\.next)? cannot.*: No space.*Make room"):
        results.save(tmp_path / "run", **NEW)
    monkeypatch.undo()
    assert is_whole(tmp_path / "run") == (count == 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.json", "run.npz"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "file" / "run", tmp_path / "file" / "folder" / "run"):
        with pytest.raises(DataError, match=r"run\.npz\.next cannot be written.*folder"):
            results.save(path, **WHOLE)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(DataError, match=r"run\.json cannot be written"):
        results.save(tmp_path / "run", **WHOLE)
    with pytest.raises(DataError, match=r"run\.json cannot be read"):
        results.load(tmp_path / "run")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "run.json"]


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_file_is_named(tmp_path, suffix):
    path, message = tmp_path / "run", rf"run\{suffix} .*(Restore|run what made)"
    results.save(path, **WHOLE)
    file = tmp_path / f"run{suffix}"
    whole = file.read_bytes()
    for length in {*range(40), *range(40, len(whole) - 2, 97), len(whole) // 2, len(whole) - 2}:
        file.write_bytes(whole[:length])
        with pytest.raises((DataError, ValueError), match=message):
            results.load(path)
    for content in (b"some text", b"\xff\xfe", b"[" * 100_000):
        file.write_bytes(content)
        with pytest.raises((DataError, ValueError), match=message):
            results.load(path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"run\{suffix}"):
        results.load(path)


def test_json_of_another_shape_is_named(tmp_path):
    path, file = tmp_path / "run", tmp_path / "run.json"
    results.save(path, **WHOLE)
    whole = json.loads(file.read_text())
    for key in whole:
        for content in (
            {name: value for name, value in whole.items() if name != key},
            whole | {key: [1]},
        ):
            file.write_text(json.dumps(content))
            with pytest.raises(DataError, match=rf"run\.json is damaged.*{key}"):
                results.load(path)
    for content in ([], 3, None, whole | {"more": 1}):
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"run\.json is damaged: it holds"):
            results.load(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", "pickled", "empty", "no array"])
def test_an_archive_of_something_else_is_named(tmp_path, content):
    """Even one whose checksum is the one written down."""
    path = tmp_path / "run"
    results.save(path, **WHOLE)
    file = tmp_path / "run.npz"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "pickled":
        np.savez(file, x=np.array([None], dtype=object))
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", b"" if content == "empty" else b"not an array")
    described = json.loads((tmp_path / "run.json").read_text())
    described["arrays_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"run\.npz is damaged.*archive of arrays.*Restore"):
        results.load(path)


def test_files_that_do_not_belong_together_are_noticed(tmp_path):
    results.save(tmp_path / "one", **WHOLE)
    results.save(tmp_path / "two", **(WHOLE | {"arrays": {"x": np.ones(2)}}))
    (tmp_path / "two.npz").replace(tmp_path / "one.npz")
    with pytest.raises(ValueError, match="does not belong"):
        results.load(tmp_path / "one")


def test_peak_memory_counts_bytes():
    # In a process of its own: here, earlier tests may have needed more.
    code = (
        "import numpy as np; from revlearn import results; held = np.ones(2**27); "
        "print(results.peak_memory(), held.nbytes)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    peak, held = map(int, result.stdout.split())
    assert held <= peak <= 3 * held
