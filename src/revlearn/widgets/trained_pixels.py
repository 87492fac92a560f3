"""A training set that is learned: its images after each update, and what they teach."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from .explorable import Explorable, bundle

LEVELS = 15  # above zero and below: the images weigh 90 KB for 41 snapshots of ten


class TrainedPixels(Explorable):
    """Learned images through the updates, one for each class, beside the validation loss.

    With digits to test on, softmax regression is trained on the images in the reader's browser,
    from blank weights and with momentum 0.9.

    Parameters
    ----------
    images : array_like, shape (snapshots, classes, side, side)
        The images, from the first snapshot to the last. Stored as differences of 31 levels; what
        one rounds away the next makes up for.
    losses : array_like, shape (snapshots,)
        The validation loss at each snapshot.
    iterations : array_like of int, shape (snapshots,), optional
        How many updates have led to each; 0, 1, 2, … by default.
    digits : array_like, shape (n, side, side), optional
        Real images to test on, with the same mean taken out as from those of the outer loss.
        Stored in 31 levels.
    labels : array_like of int, shape (n,), optional
        Their classes, from 0.
    penalties : array_like, shape (snapshots,), optional
        λ at each snapshot, which multiplies the squares of all weights; 0 by default.
    steps : int, default 20
        Length of the training that the images are learned for.
    rate : float, default 1.0
        Learning rate of the training in the browser, between 0.1 and 100.

    Examples
    --------
    >>> TrainedPixels(np.zeros((3, 10, 28, 28)), [2.3, 1.2, 0.8])
    TrainedPixels(3 snapshots of 10 images)
    """

    _esm = bundle("trained_pixels.js")
    title = traitlets.Unicode("A learned training set").tag(sync=True)
    snapshot = traitlets.Int(min=0).tag(sync=True)
    rate = traitlets.Float(1.0, min=0.1, max=100.0).tag(sync=True)
    steps = traitlets.Int(20, min=1, max=100).tag(sync=True)
    shape = traitlets.Tuple().tag(sync=True)
    packed = traitlets.Unicode().tag(sync=True)
    scales: traitlets.List[float] = traitlets.List().tag(sync=True)
    losses: traitlets.List[float] = traitlets.List().tag(sync=True)
    iterations: traitlets.List[float] = traitlets.List().tag(sync=True)
    penalties: traitlets.List[float] = traitlets.List().tag(sync=True)
    labels: traitlets.List[int] = traitlets.List().tag(sync=True)
    digits = traitlets.Unicode().tag(sync=True)
    digit_scale = traitlets.Float().tag(sync=True)

    def __init__(
        self,
        images: ArrayLike,
        losses: ArrayLike,
        *,
        iterations: ArrayLike | None = None,
        digits: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        penalties: ArrayLike | None = None,
        steps: int = 20,
        rate: float = 1.0,
    ) -> None:
        images = np.asarray(images, dtype=float)
        if images.ndim != 4 or images.shape[2] != images.shape[3] or 0 in images.shape:
            raise ValueError(
                f"images of shape (snapshots, classes, side, side) wanted, not {images.shape}"
            )
        count, classes, side, _ = images.shape
        if iterations is None:
            iterations = np.arange(count)
        columns = {
            "losses": losses,
            "iterations": iterations,
            "penalties": np.zeros(count) if penalties is None else penalties,
        }
        for name, column in columns.items():
            if np.shape(column) != (count,):
                raise ValueError(
                    f"{name} of shape ({count},) wanted, one a snapshot, not {np.shape(column)}"
                )
            if not np.isfinite(column).all():
                raise ValueError(f"{name} must be finite")
        if (digits is None) != (labels is None):
            raise ValueError("digits and labels are given together or not at all")
        digits = np.zeros((0, side, side)) if digits is None else np.asarray(digits, dtype=float)
        labels = np.zeros(0, dtype=int) if labels is None else np.asarray(labels)
        if digits.shape != (labels.size, side, side):
            raise ValueError(
                f"digits of shape (n, {side}, {side}) and labels of shape (n,) wanted, "
                f"not {digits.shape} and {labels.shape}"
            )
        if not np.isin(labels, np.arange(classes)).all():
            raise ValueError(f"labels must be whole numbers from 0 to {classes - 1}")
        if not (np.isfinite(images).all() and np.isfinite(digits).all()):
            raise ValueError("images and digits must be finite")
        differences, scales = _differences(images.reshape(count, -1))
        digit_scale = _scale(digits)
        super().__init__(
            snapshot=count - 1,
            steps=steps,
            rate=rate,
            shape=images.shape,
            packed=_pack(differences),
            scales=scales,
            **{name: [float(f"{x:.6g}") for x in np.ravel(columns[name])] for name in columns},
            labels=labels.tolist(),
            digits=_pack(np.round(digits.reshape(-1, side * side) / digit_scale)),
            digit_scale=digit_scale,
        )

    def __repr__(self) -> str:
        return f"TrainedPixels({self.shape[0]} snapshots of {self.shape[1]} images)"


def _scale(values: NDArray) -> float:
    """Return what one level is worth, so that the largest value takes the last."""
    return float(np.abs(values).max(initial=0.0)) / LEVELS or 1.0


def _differences(snapshots: NDArray) -> tuple[NDArray, list[float]]:
    """Return each snapshot minus what the rounded ones before add up to, in levels."""
    so_far, differences, scales = np.zeros(snapshots.shape[1]), [], []
    for snapshot in snapshots:
        scale = _scale(snapshot - so_far)
        levels = np.round((snapshot - so_far) / scale)
        so_far = so_far + scale * levels
        differences.append(levels)
        scales.append(scale)
    return np.array(differences), scales


def _pack(levels: NDArray) -> str:
    """Return small whole numbers as text: a byte each, column by column, deflated."""
    data = levels.T.astype(np.int8).tobytes()
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
