"""How the book's figures look. Needs matplotlib; ``import revlearn`` does not load this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey print by the line styles.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
}
# Purple below zero, orange above, white at zero: told apart by colour-blind readers, and dark at
# both ends in grey print.
DIVERGING = "PuOr_r"


def use_style() -> None:
    """Set matplotlib's defaults to the book's: colours and line styles, sizes, a light grid.

    Examples
    --------
    >>> use_style()
    >>> mpl.rcParams["figure.dpi"]
    110.0
    """
    styles = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]
    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=list(COLOURS.values())) + cycler(linestyle=styles),
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110.0,
            "figure.figsize": (6.4, 3.6),
            "font.size": 10.0,
            "grid.alpha": 0.3,
            "image.cmap": "cividis",
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.facecolor": "white",
        }
    )


def schedules_by_leaf(
    axes: Axes, schedules: Sequence[Mapping[str, NDArray]], leaf: str = "weights"
) -> list[Line2D]:
    """Draw a schedule for each layer of a perceptron, one line a layer.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw. The axis of steps is labelled; the other, the scale and the legend are the
        caller's.
    schedules : sequence of mappings
        For each layer a mapping to arrays of shape (steps,), nested like the weights of
        :func:`revlearn.models.init_mlp`.
    leaf : str
        Which leaf of each layer: ``"weights"`` or ``"biases"``.

    Returns
    -------
    list of matplotlib.lines.Line2D
        Labelled ``layer 1``, ``layer 2``, …, from the inputs to the outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> schedules = [{"weights": np.ones(5), "biases": np.zeros(5)} for _ in range(2)]
    >>> lines = schedules_by_leaf(Figure().add_subplot(), schedules)
    >>> [line.get_label() for line in lines]
    ['layer 1', 'layer 2']
    """
    lines = [
        axes.plot(layer[leaf], label=f"layer {number}")[0]
        for number, layer in enumerate(schedules, 1)
    ]
    axes.set_xlabel("step $t$")
    return lines


def learning_curves(
    axes: Axes,
    curves: Mapping[str, ArrayLike],
    *,
    xlabel: str = "meta-iteration",
    ylabel: str = "loss [nats]",
    ticks: Sequence[float] | None = None,
) -> list[Line2D]:
    """Draw losses over steps or meta-iterations, from 0, on a logarithmic axis with a legend.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    curves : mapping of str to array, shape (iterations,)
        The label of each curve and its values, positive.
    xlabel, ylabel : str
        What the axes show, with the unit.
    ticks : sequence of float, optional
        Where the logarithmic axis has its ticks; matplotlib's choice by default.

    Returns
    -------
    list of matplotlib.lines.Line2D
        One line for each curve.

    Examples
    --------
    >>> lines = learning_curves(Figure().add_subplot(), {"validation": [2.3, 0.8, 0.5]})
    >>> lines[0].get_label()
    'validation'
    """
    lines = [axes.semilogy(values, label=label)[0] for label, values in curves.items()]
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if ticks is not None:
        plain_ticks(axes.yaxis, ticks)
    axes.legend()
    return lines


def plain_ticks(axis: Axis, values: Sequence[float]) -> None:
    """Put ticks at these values only, written as plain numbers: for logarithmic axes.

    Examples
    --------
    >>> axes = Figure().add_subplot()
    >>> plain_ticks(axes.yaxis, [0.1, 1.0])
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['0.1', '1']
    """
    axis.set_ticks(values, labels=[f"{value:g}" for value in values])
    axis.set_ticks([], minor=True)


def images(
    figure: Figure,
    pixels: ArrayLike,
    titles: Sequence[str],
    *,
    columns: int = 5,
    limit: float | None = None,
    unit: str = "pixel value",
) -> list[AxesImage]:
    """Draw vectors of pixels, or of weights by pixel, as square images with one colour bar.

    Purple is below zero and orange above, on the same scale in all images.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Where to draw; it or a subfigure.
    pixels : array, shape (images, side²)
        Row-major images.
    titles : sequence of str
        One for each image.
    columns : int
        Images in a row.
    limit : float, optional
        Value of the darkest colours; larger ones are clipped. By default the largest magnitude.
    unit : str
        Label of the colour bar.

    Returns
    -------
    list of matplotlib.image.AxesImage
        One for each image.

    Examples
    --------
    >>> drawn = images(Figure(), np.eye(4), ["a", "b", "c", "d"], columns=2)
    >>> drawn[0].get_array().shape
    (2, 2)
    """
    pixels = np.asarray(pixels)
    side = round(pixels.shape[1] ** 0.5)
    if side * side != pixels.shape[1]:
        raise ValueError(f"{pixels.shape[1]} pixels do not make a square image")
    if len(titles) != len(pixels):
        raise ValueError(f"{len(pixels)} images need as many titles, not {len(titles)}")
    limit = float(np.abs(pixels).max()) if limit is None else limit
    panels = np.ravel(figure.subplots(-(-len(pixels) // columns), columns, squeeze=False))
    drawn = []
    for panel, image, title in zip(panels, pixels, titles, strict=False):
        square = image.reshape(side, side)
        drawn.append(panel.imshow(square, cmap=DIVERGING, vmin=-limit, vmax=limit))
        panel.set_title(title, fontsize=9)
    for panel in panels:
        panel.set_axis_off()
    clipped = "both" if np.abs(pixels).max() > limit else "neither"
    figure.colorbar(drawn[0], ax=panels.tolist(), label=unit, shrink=0.8, extend=clipped)
    return drawn


def correlations(axes: Axes, matrix: ArrayLike, labels: Sequence[str]) -> AxesImage:
    """Draw a matrix of correlations, with its numbers to one digit.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    matrix : array, shape (n, n)
        Numbers from −1 to 1.
    labels : sequence of str
        Name of each row, and of the column of the same number.

    Returns
    -------
    matplotlib.image.AxesImage
        For a colour bar.

    Examples
    --------
    >>> image = correlations(Figure().add_subplot(), np.eye(2), ["a", "b"])
    >>> image.get_clim()
    (-1.0, 1.0)
    """
    matrix = np.asarray(matrix)
    image = axes.imshow(matrix, cmap=DIVERGING, vmin=-1.0, vmax=1.0)
    for (row, column), value in np.ndenumerate(matrix):
        # dark cells need light digits
        colour = "white" if abs(value) > 0.6 else "black"
        text = f"{round(float(value), 1) + 0.0:.1f}".replace("0.", ".").replace("1.0", "1")
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(labels)), labels=labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels=labels, fontsize=7)
    axes.grid(False)
    return image
