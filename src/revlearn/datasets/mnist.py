"""MNIST: 70,000 handwritten digits, and 5,000 of them that come with the package."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..losses import one_hot
from .files import fetch

_MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
]
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}


@dataclass(frozen=True)
class Digits:
    """Images of digits and their labels.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (examples, 784)
        Row-major images of 28×28, 0 is paper and 255 ink.
    labels : ndarray of int64, shape (examples,)
        0 to 9.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> NDArray[np.float64]:
        """Pixels as numbers in [0, 1], float64, shape (examples, 784); made anew at each call."""
        return self.pixels / 255.0

    @property
    def targets(self) -> NDArray[np.float64]:
        """One-hot labels, float64, shape (examples, 10)."""
        return one_hot(self.labels, 10)

    def split(self, *sizes: int) -> tuple[Digits, ...]:
        """Return consecutive rows, for example ``split(10_000, 10_000, 10_000)``.

        Raises
        ------
        ValueError
            If there are fewer digits than the sizes ask for.
        """
        if sum(sizes) > len(self):
            raise ValueError(f"cannot split {len(self)} digits into {sizes}: {sum(sizes)} needed")
        ends = np.cumsum([0, *sizes])
        return tuple(
            Digits(self.pixels[start:end], self.labels[start:end]) for start, end in pairwise(ends)
        )


def mnist() -> Digits:
    """Return all 70,000 digits: the 60,000 for training, then the 10,000 for testing.

    Downloaded once (11 MB) into the user's cache, or read from the folder that the environment
    variable ``REVLEARN_DATA`` names. Every file's checksum is verified.

    Raises
    ------
    DataError
        If a file is missing and cannot be downloaded, or is damaged.
    """
    images = [_idx(f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    labels = [_idx(f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")]
    pixels = np.concatenate(images)
    return Digits(pixels.reshape(len(pixels), 784), np.concatenate(labels).astype(np.int64))


def mnist_subset() -> Digits:
    """Return 5,000 digits, 500 of each class, shuffled. They come with the package: no network.

    Examples
    --------
    >>> digits = mnist_subset()
    >>> len(digits), digits.images.shape
    (5000, (5000, 784))
    >>> train, validation = digits.split(4000, 1000)
    """
    file = resources.files(__package__) / "mnist_5000.npz"
    with resources.as_file(file) as path, np.load(path, allow_pickle=False) as arrays:
        return Digits(arrays["pixels"], arrays["labels"].astype(np.int64))


def _idx(name: str) -> NDArray[np.uint8]:
    """Read one file of the IDX format: a magic number, the shape, the bytes."""
    path = fetch(f"mnist/{name}", _SHA256[name], [mirror + name for mirror in _MIRRORS])
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    if content[:3] != b"\x00\x00\x08" or dimensions not in (1, 3):
        raise DataError(f"{path} is not an IDX file of bytes")
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(np.int64)
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(shape)
