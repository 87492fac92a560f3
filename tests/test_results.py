"""Results of long runs are whole or absent."""

import subprocess
import sys

import numpy as np
import pytest

from revlearn import results

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


def test_an_interrupted_save_leaves_the_old_result(tmp_path, monkeypatch):
    results.save(tmp_path / "run", **WHOLE)
    before = (tmp_path / "run.json").read_bytes(), (tmp_path / "run.npz").read_bytes()

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(results.np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.save(tmp_path / "run", **(WHOLE | {"seconds": 9.0}))
    assert ((tmp_path / "run.json").read_bytes(), (tmp_path / "run.npz").read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


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
