"""How the book's figures look. Needs matplotlib; ``import revlearn`` does not load this module."""

from __future__ import annotations

import matplotlib as mpl
from cycler import cycler

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
