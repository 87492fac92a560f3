"""How the book's figures look. Needs matplotlib; ``import revlearn`` does not load this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

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
