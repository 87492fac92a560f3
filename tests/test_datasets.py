import errno
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import os
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pooch
import pytest
from PIL import Image

import needs
import revlearn as rl
from revlearn.datasets import files
from revlearn.errors import DataError


def test_the_subset_is_five_thousand_digits_of_every_class():
    digits = rl.datasets.mnist_subset()
    assert digits.pixels.shape == (5000, 784)
    assert digits.pixels.dtype == np.uint8
    assert digits.labels.dtype == np.int64
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert len(np.unique(digits.pixels, axis=0)) == 5000
    assert set(digits.labels[:100]) == set(range(10))  # shuffled
    assert np.array_equal(digits.images, digits.pixels / 255)
    assert np.array_equal(digits.targets.argmax(axis=1), digits.labels)


def test_split_takes_consecutive_rows_and_never_more_than_there_are():
    digits = rl.datasets.mnist_subset()
    one, two = digits.split(10, 20)
    assert np.array_equal(two.pixels, digits.pixels[10:30])
    assert (len(one), len(two)) == (10, 20)
    with pytest.raises(ValueError, match="5001 needed"):
        digits.split(5000, 1)


@pytest.fixture
def data_folder():
    """Return the folder with the real files, or skip."""
    folder = os.environ.get("REVLEARN_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        needs.skip("data")
    return Path(folder)


def test_real_mnist(data_folder):
    digits = rl.datasets.mnist()
    assert digits.pixels.shape == (70000, 784)
    assert digits.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert digits.labels[60000:60005].tolist() == [7, 2, 1, 0, 4]
    assert round(digits.pixels[:60000].mean() / 255, 4) == 0.1307
    everything = {row.tobytes() for row in digits.pixels}
    assert all(row.tobytes() in everything for row in rl.datasets.mnist_subset().pixels)


def test_real_omniglot(data_folder):
    one, two = rl.datasets.omniglot(1), rl.datasets.omniglot(2)
    assert sorted(set(one.alphabets)) == ["Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"]
    for drawings in (one, two):
        assert drawings.ink.shape[1:] == (105, 105)
        assert 0.01 < drawings.ink.mean() < 0.2
        counts = np.unique([drawings.alphabets, drawings.characters.astype(str)], axis=1).shape[1]
        assert len(drawings) == 20 * counts
        assert set(drawings.drawers) == set(range(20))
    greek = one.alphabet("Greek")
    assert len(greek) == 24 * 20
    with pytest.raises(ValueError, match="'Balinese', 'Early_Aramaic'"):
        one.alphabet("Klingon")
    with pytest.raises(ValueError, match="1 or 2"):
        rl.datasets.omniglot(3)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_file_is_named_with_both_checksums(data_folder, damage, tmp_path, monkeypatch):
    shutil.copytree(data_folder / "mnist", tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    kept = {"truncate": content[:-100], "flip": content, "empty": b""}[damage]
    path.write_bytes(kept)
    monkeypatch.setenv("REVLEARN_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        rl.datasets.mnist()
    message = str(caught.value)
    assert "train-labels-idx1-ubyte.gz is damaged" in message
    assert "expected 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c" in message
    assert "Put the original there" in message


def test_a_missing_file_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("REVLEARN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"does not exist.*REVLEARN_DATA"):
        rl.datasets.mnist()
    with pytest.raises(DataError, match=r"does not exist.*REVLEARN_DATA"):
        rl.datasets.omniglot()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Give an empty cache, and a folder that plays the mirror."""
    monkeypatch.delenv("REVLEARN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    return tmp_path / "cache", mirror


def serve(folder):
    """Serve a folder on the loopback address; return the address and a way to stop."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/", server


def test_download_is_checked_cached_and_falls_back_to_the_next_mirror(cache):
    folder, mirror = cache
    content = gzip.compress(b"digits")
    (mirror / "file.gz").write_bytes(content)
    (mirror / "bad.gz").write_bytes(b"something else")
    sha256 = hashlib.sha256(content).hexdigest()
    address, server = serve(mirror)
    try:
        path = files.fetch("set/file.gz", sha256, [address + "missing.gz", address + "file.gz"])
        assert path.read_bytes() == content
        assert path == folder / "set" / "file.gz"
        with pytest.raises(DataError, match="cannot be downloaded"):
            files.fetch("set/other.gz", sha256, [address + "bad.gz"])
        assert not (folder / "set" / "other.gz").exists()
    finally:
        server.shutdown()
        server.server_close()
    assert files.fetch("set/file.gz", sha256, [address + "file.gz"]).read_bytes() == content
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"is damaged.*Delete it"):
        files.fetch("set/file.gz", sha256, [address + "file.gz"])


def test_offline_with_nothing_cached_says_what_to_do(cache):
    with pytest.raises(DataError, match=r"cannot be downloaded.*Without a network, put the file"):
        files.fetch("mnist/x.gz", "0" * 64, ["http://127.0.0.1:9/x.gz"])


def test_a_folder_where_a_file_should_be_is_named(cache, tmp_path, monkeypatch):
    folder, _ = cache
    (folder / "set" / "file.gz").mkdir(parents=True)
    with pytest.raises(DataError, match=r"file\.gz cannot be read: Is a directory"):
        files.fetch("set/file.gz", "0" * 64, ["http://127.0.0.1:9/file.gz"])
    monkeypatch.setenv("REVLEARN_DATA", str(folder))
    with pytest.raises(DataError, match=r"file\.gz cannot be read: Is a directory"):
        files.fetch("set/file.gz", "0" * 64, ["http://127.0.0.1:9/file.gz"])


def test_a_cache_that_cannot_be_written_is_named(cache, monkeypatch):
    """A file in its place; then a disk that is full in the middle of the download."""
    folder, mirror = cache
    content = b"digits" * 100_000
    (mirror / "file.gz").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    address, server = serve(mirror)
    try:
        folder.write_text("text")
        with pytest.raises(DataError, match=r"cannot be downloaded.*put the file at"):
            files.fetch("set/file.gz", sha256, [address + "file.gz"])
        folder.unlink()

        def full(self, chunk_size):
            yield content[:chunk_size]
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("requests.Response.iter_content", full)
        with pytest.raises(DataError, match=r"cannot be downloaded.*No space left"):
            files.fetch("set/file.gz", sha256, [address + "file.gz"])
        assert [path for path in folder.rglob("*") if path.is_file()] == []
        monkeypatch.undo()
    finally:
        server.shutdown()
        server.server_close()


def test_an_archive_cannot_write_anywhere(tmp_path, monkeypatch):
    """A member that points outside is refused, and nothing is extracted."""
    archive = tmp_path / "data" / "omniglot" / "images_background_small1.zip"
    archive.parent.mkdir(parents=True)
    picture = io.BytesIO()
    Image.new("1", (105, 105), 1).save(picture, "PNG")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../escaped/character01/0001_01.png", picture.getvalue())
    monkeypatch.setenv("REVLEARN_DATA", str(tmp_path / "data"))
    module = importlib.import_module("revlearn.datasets.omniglot")
    monkeypatch.setitem(
        module._SHA256,
        "images_background_small1.zip",
        hashlib.sha256(archive.read_bytes()).hexdigest(),
    )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="unexpected entry"):
        rl.datasets.omniglot(1)
    assert sorted(tmp_path.rglob("*")) == before


def test_in_a_browser_the_error_says_what_there_is(monkeypatch):
    monkeypatch.delenv("REVLEARN_DATA", raising=False)
    monkeypatch.setattr(sys, "platform", "emscripten")
    with pytest.raises(DataError, match="mnist_subset"):
        rl.datasets.mnist()
