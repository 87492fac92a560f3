"""What is fixed about a run, its steps forwards, and where something went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import (
    differ_by_rounding,
    first_not_finite,
    refuse_derivatives,
    refuse_outer_derivative,
    whole_number,
)
from .errors import FixedPointOverflowError, NonFiniteError, RevlearnError
from .fixed_point import FRACTION_BITS
from .gradients import Loss, Vector, gradients_of
from .optimizers import Adjoint, ExactRun, Optimizer
from .parameters import Layout, Nest
from .progress import progress
from .schedules import expand_all
from .stores import OnDisk

Callback = Callable[[int, Nest, Nest, Nest], None]
# By how much, relative to its length, a gradient may change with the way it is traced.
_ROUNDING = {"float64": 1e-9, "float32": 1e-4}
# At an optimum the gradient is what rounding left of numbers that cancelled. They are taken to be
# of the size of the largest gradient of the run, rounded so many times.
_ROUNDINGS = 128


class Setup:
    """What is fixed about a run: its loss, its layout, its update rule."""

    def __init__(
        self,
        loss: Loss,
        weights: Nest,
        hyper: Nest,
        optimizer: Optimizer,
        steps: int,
        fraction_bits: int = FRACTION_BITS,
        callback: Callback | None = None,
        spill_to: str | os.PathLike[str] | None = None,
        compute_dtype: Any = np.float64,
    ):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                "optimizer must be an update rule with its schedules, for example "
                f"revlearn.SGD(learning_rate=0.1, momentum=0.9), not {optimizer!r}"
            )
        self.steps = whole_number(steps, "steps", 0)
        self.weights = Layout(weights, "weights")
        self.hyper = Layout(hyper, "hyper", only_floats=True)
        if self.weights.size == 0:
            raise ValueError("there are no weights to train")
        self.gradients = gradients_of(loss, self.weights, self.hyper, compute_dtype)
        dtype = np.dtype(compute_dtype)
        self._rounding, self._noise = _ROUNDING[dtype.name], _ROUNDINGS * float(np.finfo(dtype).eps)
        self.optimizer = optimizer
        self.fraction_bits = whole_number(fraction_bits, "fraction_bits", 1, 62)
        self.callback = callback
        if spill_to is not None and not Path(spill_to).is_dir():
            raise ValueError(f"spill_to must be an existing folder, not {spill_to!r}")
        self.spill_to = spill_to
        self.slots = ("weights", *optimizer.slots)

    def flatten(self, weights: Nest, hyper: Nest, **given: Nest) -> list[Any]:
        """Return flat arrays: every slot of the state, the hyperparameters, every schedule."""
        # One zero for all: they are kept as long as the run, for one more derivative.
        slots = {slot: np.broadcast_to(0.0, self.weights.size) for slot in self.slots}
        slots["weights"] = slots[self.optimizer.result] = self.weights.flatten(weights)
        for slot, nest in given.items():
            if nest is not None:
                if slot not in slots:
                    raise ValueError(f"{type(self.optimizer).__name__} has no {slot} to start from")
                slots[slot] = self.weights.flatten(nest, slot)
        schedules = expand_all(self.optimizer, self.weights, self.steps)
        self.schedule_names = list(schedules)
        return [*slots.values(), self.hyper.flatten(hyper), *schedules.values()]

    def start(self, *arguments: NDArray) -> tuple[ExactRun, Vector, dict[str, tuple[int, ...]]]:
        """Return the run at its start, the hyperparameters, and the shapes of schedules."""
        count = len(self.slots)
        state, hyper = dict(zip(self.slots, arguments[:count], strict=True)), arguments[count]
        schedules = dict(zip(self.schedule_names, arguments[count + 1 :], strict=True))
        with locating(self, None):
            run = self.optimizer.start(state, schedules, self.weights, self.fraction_bits)
        if self.spill_to is not None:
            run.spill_to(OnDisk(self.spill_to))
        return run, hyper, {name: rows.shape for name, rows in schedules.items()}

    def adjoint(
        self, d_weights: Vector, num_hyper: int, schedule_shapes: dict[str, tuple[int, ...]]
    ) -> Adjoint:
        """Return the adjoint at the end of a run."""
        size = self.weights.size
        d_weights = np.asarray(d_weights, dtype=np.float64)
        if d_weights.shape != (size,):
            raise ValueError(f"d_weights has shape {d_weights.shape}, expected ({size},)")
        refuse_outer_derivative(d_weights, self.weights.name_of)
        return Adjoint(
            slots={slot: np.zeros(size) for slot in self.slots}
            | {self.optimizer.result: d_weights.copy()},
            hyper=np.zeros(num_hyper),
            schedules={name: np.zeros(shape) for name, shape in schedule_shapes.items()},
        )

    def is_rounding(self, traced: Vector, gradient: Vector, largest: float) -> bool:
        """Say whether a gradient that was traced differs from the plain one by rounding alone.

        Parameters
        ----------
        traced, gradient : ndarray
            The two gradients.
        largest : float
            Length of the largest gradient of the run.
        """
        unit = 2.0**-self.fraction_bits * np.sqrt(gradient.size)
        least = max(self._noise * largest, unit)
        return differ_by_rounding(traced, gradient, self._rounding, least)

    def refuse_step(self, adjoint: Adjoint, t: int) -> None:
        """Raise unless what came through the gradient of step `t` is finite."""
        refuse_derivatives(adjoint.slots["weights"], t, self.weights.name_of)
        refuse_derivatives(adjoint.hyper, t, self.hyper.name_of)

    def refuse_end(self, adjoint: Adjoint) -> None:
        """Raise unless all derivatives that leave are finite.

        What comes to a slot by the rule itself shows in the schedules of the same step, so that
        these are not looked through at each step.
        """
        steps = {
            name: int(np.argwhere(~np.isfinite(rows))[:, 1].max())
            for name, rows in adjoint.schedules.items()
            if first_not_finite(rows) is not None
        }
        if steps:
            name = max(steps, key=steps.__getitem__)  # the first on the way back
            column = adjoint.schedules[name][:, steps[name]]
            refuse_derivatives(column, steps[name], name)
        for slot, values in adjoint.slots.items():
            refuse_derivatives(values, 0, partial(self.name_of, slot))

    def name_of(self, slot: str, index: int) -> str:
        """Return the name of one number of a slot."""
        return slot + self.weights.name_of(index).removeprefix(self.weights.name)


def forwards(setup: Setup, run: ExactRun, hyper: Vector) -> Iterator[tuple[int, Vector]]:
    """Take every step of a run; yield its number and its gradient before it is taken."""
    layout = setup.weights
    for t in progress(range(setup.steps), setup.steps, "training"):
        gradient = setup.gradients.gradient(run.values("weights"), hyper, t)
        yield t, gradient
        if setup.callback is not None:
            _refuse_gradient(setup, t, gradient)
            setup.callback(
                t,
                layout.unflatten(run.values("weights")),
                layout.unflatten(run.values("velocity")),
                layout.unflatten(gradient.copy()),
            )
        try:
            with locating(setup, t, gradient):
                run.step(t, gradient)
        except RevlearnError:
            _refuse_gradient(setup, t, gradient)  # looked for only when something went wrong
            raise


def _refuse_gradient(setup: Setup, t: int, gradient: Vector) -> None:
    """Raise if a gradient is not finite."""
    bad = first_not_finite(gradient)
    if bad is not None:
        remedy = (
            "The loss is not differentiable or not finite at the initial weights"
            if t == 0
            else "Training diverged, or the loss is not differentiable here: try a smaller "
            "learning rate"
        )
        raise NonFiniteError(f"the gradient is {gradient[bad]}. {remedy}").at(
            step=t, leaf=setup.weights.name_of(bad)
        )


@contextmanager
def locating(setup: Setup, t: int | None, gradient: Vector | None = None) -> Iterator[None]:
    """Turn positions in flat vectors into names of leaves, and name the remedy."""
    try:
        yield
    except FixedPointOverflowError as error:
        bits, index = error.fraction_bits or setup.fraction_bits, error.index or 0
        option = "fraction_bits" if bits == setup.fraction_bits else f"{error.slot}_bits"
        error.message += (
            f" ±{2 ** (63 - bits)}. {_remedy(error, t, gradient)}, or choose a wider range: "
            f"{option} below {bits}"
        )
        raise error.at(step=t, leaf=setup.name_of(error.slot or "weights", index)) from None


def _remedy(error: RevlearnError, t: int | None, gradient: Vector | None) -> str:
    if t is None or gradient is None:
        return "Start from smaller values"
    if error.slot == "weights":
        return "Try a smaller learning rate or initial scale"
    # Nothing that a learning rate has to do with comes before the first gradient.
    diverged = " If training diverged, try a smaller learning rate." * (t > 0)
    return (
        f"The gradient is {gradient[error.index or 0]:.3g} there.{diverged} If the loss is that "
        "steep, divide it by a constant, clip its gradient (Clipped)"
    )
