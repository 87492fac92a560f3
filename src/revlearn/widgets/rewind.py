"""A run of training that is taken back step by step, in integers or in floats."""

from __future__ import annotations

import traitlets

from .explorable import Explorable, bundle


class Rewind(Explorable):
    """Training on two weights, undone: the weights, the velocity and each bit of the buffer.

    The loss is (w₂ − w₁²/2)²/2 + (w₁ − 1)²/40, a curved valley. The run is that of `revlearn.SGD`,
    carried out in the browser in 64-bit integers that agree with Python's word for word.

    Attributes
    ----------
    learning_rate : float, default 0.6
        α, between 0.05 and 1.
    momentum : float, default 0.8
        γ, between 0.5 and 0.99, rounded to the nearest ratio of denominator 2**16.
    steps : int, default 300
        Length of the run, between 10 and 500.
    position : int, default 300
        The step that the run is taken back to. At most `steps`.
    arithmetic : {"exact", "forgetful", "float"}
        How the run is taken back: in integers with the information buffer, in integers after the
        buffer's bits were set to zero, or in floats, by division by γ.
    start : tuple of float, default (-1.6, 2.2)
        The first weights; a point that can be dragged.

    Examples
    --------
    >>> Rewind(momentum=0.9)
    Rewind(learning_rate=0.6, momentum=0.9, steps=300, arithmetic='exact')
    """

    _esm = bundle("rewind.js")
    title = traitlets.Unicode("Training, rewound").tag(sync=True)
    learning_rate = traitlets.Float(0.6, min=0.05, max=1.0).tag(sync=True)
    momentum = traitlets.Float(0.8, min=0.5, max=0.99).tag(sync=True)
    steps = traitlets.Int(300, min=10, max=500).tag(sync=True)
    position = traitlets.Int(300, min=0, max=500).tag(sync=True)
    arithmetic = traitlets.Enum(["exact", "forgetful", "float"], default_value="exact").tag(
        sync=True
    )
    start = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(-1.6, 2.2)).tag(
        sync=True
    )

    def __repr__(self) -> str:
        return (
            f"Rewind(learning_rate={self.learning_rate}, momentum={self.momentum}, "
            f"steps={self.steps}, arithmetic={self.arithmetic!r})"
        )
