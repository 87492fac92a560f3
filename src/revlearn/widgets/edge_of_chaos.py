"""Where the derivative of the final loss stops telling anything about the next learning rate."""

from __future__ import annotations

import json

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from .explorable import Explorable, bundle


class EdgeOfChaos(Explorable):
    """The final loss over the learning rate, and its exact derivative against what the eye sees.

    A network of three tanh units, that tells eight numbers apart, is trained with momentum 0.9 in
    the reader's browser. Around one learning rate the curve is shown under a magnifying glass,
    with the tangent that the hypergradient gives and the secant across the window.

    Parameters
    ----------
    log_rates, losses, slopes : array_like of shape (n,), optional
        An experiment of your own to choose instead: increasing logarithms of the learning rate,
        at each the final loss, and its derivative by the logarithm. What is not finite is left
        out of the drawing. Stored to six digits.
    log_rate : float, default 3.8
        log α, which a grip on the curve moves.
    width : float, default 0.1
        Of the window around it in log α, between 10⁻⁸ and 1.
    steps : int, default 50
        Of training, between 10 and 120.
    source : {"network", "stored"}
        What is shown: the network, or the arrays.

    Examples
    --------
    >>> EdgeOfChaos(log_rate=2.0)
    EdgeOfChaos(log_rate=2.0, width=0.1, steps=50)
    """

    _esm = bundle("edge_of_chaos.js")
    title = traitlets.Unicode("The edge of chaos").tag(sync=True)
    log_rate = traitlets.Float(min=-20.0, max=20.0).tag(sync=True)
    width = traitlets.Float(1.0, min=1e-8, max=1.0).tag(sync=True)
    steps = traitlets.Int(10, min=10, max=120).tag(sync=True)
    source = traitlets.Enum(["network", "stored"]).tag(sync=True)
    stored = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        log_rates: ArrayLike = (),
        losses: ArrayLike = (),
        slopes: ArrayLike = (),
        *,
        log_rate: float = 3.8,
        width: float = 0.1,
        steps: int = 50,
        source: str = "network",
    ) -> None:
        columns = {"log_rates": log_rates, "losses": losses, "slopes": slopes}
        arrays = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        rates = arrays["log_rates"]
        if len(set(shapes.values())) > 1 or rates.ndim != 1 or 0 < rates.size < 3:
            raise ValueError(f"three arrays of one shape (n,) with n at least 3 wanted: {shapes}")
        if not (np.isfinite(rates).all() and (np.diff(rates) > 0.0).all()):
            raise ValueError("log_rates must be finite and increase")
        if source == "stored" and not rates.size:
            raise ValueError("nothing is stored: give log_rates, losses and slopes")
        super().__init__(
            stored=_rows(*arrays.values()),
            log_rate=log_rate,
            width=width,
            steps=steps,
            source=source,
        )

    def __repr__(self) -> str:
        return f"EdgeOfChaos(log_rate={self.log_rate}, width={self.width:g}, steps={self.steps})"


def _rows(*columns: NDArray) -> str:
    """Return JSON: a row for each point, of six digits, and null for what is not finite."""
    rows = [
        [float(f"{value:.6g}") if np.isfinite(value) else None for value in row]
        for row in zip(*columns, strict=True)
    ]
    return json.dumps(rows, separators=(",", ":"))
