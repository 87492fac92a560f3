"""Momentum as motion with friction, on a quadratic."""

from __future__ import annotations

import traitlets

from .explorable import Explorable, bundle


class PhaseSpace(Explorable):
    """A particle in phase space: its way, the energy it loses, and the bits that a step discards.

    The loss is h w² / 2. A step is v ← γ v − κ h w, then w ← w + α v. The energy is
    h w² / 2 + α v² / (2 κ). Each step scales areas of phase space by γ, so that it discards
    log2(1/γ) bits per parameter; at γ = 1 it is the leapfrog and discards nothing.

    Attributes
    ----------
    learning_rate : float, default 0.3
        α, between 0.01 and 4.
    momentum : float, default 0.9
        γ, between 0 and 1.
    curvature : float, default 1
        h, between 0.1 and 4.
    form : {"classical", "paper"}
        κ = 1 or κ = 1 − γ.
    start : tuple of float, default (1.5, 0)
        The first weight and velocity; a point that can be dragged.

    Examples
    --------
    >>> PhaseSpace(momentum=0.99)
    PhaseSpace(learning_rate=0.3, momentum=0.99, curvature=1.0, form='classical')
    """

    _esm = bundle("phase_space.js")
    title = traitlets.Unicode("Momentum in phase space").tag(sync=True)
    learning_rate = traitlets.Float(0.3, min=0.01, max=4.0).tag(sync=True)
    momentum = traitlets.Float(0.9, min=0.0, max=1.0).tag(sync=True)
    curvature = traitlets.Float(1.0, min=0.1, max=4.0).tag(sync=True)
    form = traitlets.Enum(["classical", "paper"], default_value="classical").tag(sync=True)
    start = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(1.5, 0.0)).tag(
        sync=True
    )

    def __repr__(self) -> str:
        return (
            f"PhaseSpace(learning_rate={self.learning_rate}, momentum={self.momentum}, "
            f"curvature={self.curvature}, form={self.form!r})"
        )
