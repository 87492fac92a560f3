"""A figure that redraws when a control moves."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


class Explorer(ipywidgets.VBox):
    """Controls above a figure; each change calls one function and shows what it draws.

    Parameters
    ----------
    draw : callable
        ``draw(name=value, …)`` is called with the value of each control and returns a matplotlib
        figure and a sentence that says what the figure shows, with its numbers. The sentence
        stands below the figure and is its alternative text.
    **controls : ipywidgets.Widget
        Widgets with a ``value``, by the name that `draw` knows them under.

    Notes
    -----
    An error inside `draw` is shown in place of the figure.

    Examples
    --------
    >>> def draw(slope):
    ...     figure, axes = plt.subplots()
    ...     _ = axes.plot([0, 1], [0, slope])
    ...     return figure, f"A line of slope {slope:.1f}."
    >>> explorer = Explorer(draw, slope=ipywidgets.FloatSlider(1.0, description="slope"))
    >>> explorer.sentence
    'A line of slope 1.0.'
    >>> explorer.controls["slope"].value = 2.0
    >>> explorer.sentence
    'A line of slope 2.0.'
    """

    def __init__(
        self,
        draw: Callable[..., tuple[Figure, str]],
        **controls: ipywidgets.Widget,
    ):
        self._draw = draw
        self.controls = controls
        self.sentence = ""
        self._picture = ipywidgets.HTML()
        for control in controls.values():
            # Redraw when a slider is let go, not at every pixel on the way.
            if control.has_trait("continuous_update"):
                control.continuous_update = False
            control.style = {"description_width": "initial"}
            control.observe(self._update, names="value")
        super().__init__([*controls.values(), self._picture])
        self._update()

    def __repr__(self) -> str:
        return f"Explorer({', '.join(self.controls)})"

    def _update(self, change: Any = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        try:
            figure, self.sentence = self._draw(**values)
            self._picture.value = _as_html(figure, self.sentence)
            plt.close(figure)
        except Exception as error:  # whatever it is, the reader must see it
            self.sentence = f"{type(error).__name__}: {error}"
            self._picture.value = f'<p role="alert">{html.escape(self.sentence)}</p>'


def _as_html(figure: Figure, sentence: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = html.escape(sentence)
    return (
        f'<img src="data:image/png;base64,{encoded}" alt="{text}" style="max-width: 100%"/>'
        f'<p aria-live="polite">{text}</p>'
    )
