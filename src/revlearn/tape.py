"""A run, forwards and backwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FixedPointOverflowError, NonFiniteError, ReversalError, RevlearnError
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
            raise TypeError(f"optimizer must be one of revlearn's, not {type(optimizer)}")
        if steps < 0:
            raise ValueError(f"steps must be 0 or more, not {steps}")
        if not 1 <= fraction_bits <= 62:
            raise ValueError(f"fraction_bits must lie in 1..62, not {fraction_bits}")
        self.weights = Layout(weights, "weights")
        self.hyper = Layout(hyper, "hyper", only_floats=True)
        if self.weights.size == 0:
            raise ValueError("there are no weights to train")
        self.gradients = gradients_of(loss, self.weights, self.hyper, compute_dtype)
        self.rounding = _ROUNDING[np.dtype(compute_dtype).name]
        self.optimizer, self.steps = optimizer, steps
        self.fraction_bits, self.callback = fraction_bits, callback
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
        with _locating(self, None):
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
        return Adjoint(
            slots={slot: np.zeros(size) for slot in self.slots}
            | {self.optimizer.result: d_weights.copy()},
            hyper=np.zeros(num_hyper),
            schedules={name: np.zeros(shape) for name, shape in schedule_shapes.items()},
        )


class Tape:
    """A finished run that can be rewound, any number of times.

    Made by :func:`record`.
    """

    def __init__(
        self,
        setup: Setup,
        hyper: Vector,
        schedule_shapes: dict[str, tuple[int, ...]],
        run: ExactRun,
        checksums: NDArray[np.uint64],
    ):
        self._setup, self._hyper, self._schedule_shapes = setup, hyper, schedule_shapes
        self._run, self._checksums = run, checksums

    def __repr__(self) -> str:
        return (
            f"Tape(steps={self.steps}, num_parameters={self.num_parameters}, "
            f"num_bits={self.num_bits})"
        )

    @property
    def final_weights(self) -> Vector:
        """Final weights, or their average where the optimizer keeps one, as one flat vector."""
        return self._run.values(self._setup.optimizer.result)

    @property
    def weights(self) -> Nest:
        """Final weights, or their average where the optimizer keeps one (:class:`Averaged`)."""
        return self._setup.weights.unflatten(self.final_weights)

    @property
    def velocity(self) -> Nest:
        """Final velocity, nested like the weights."""
        return self._setup.weights.unflatten(self._run.values("velocity"))

    @property
    def steps(self) -> int:
        """Number of steps recorded."""
        return self._setup.steps

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return self._setup.weights.size

    @property
    def num_bits(self) -> int:
        """Bits of memory that the information buffers really occupy, words and all."""
        return self._run.num_bits

    @property
    def information(self) -> float:
        """Bits of content in the buffers: Σ log2(d/n) over weights and steps."""
        return self._run.information

    def rewind(self) -> Iterator[tuple[int, Nest, Nest]]:
        """Run training backwards.

        Yields
        ------
        (t, weights, velocity)
            The state before step t, for t = steps − 1 … 0. The last is the initial state, bit
            for bit as fixed-point numbers.

        Raises
        ------
        ReversalError
            If a gradient is not the same bits as on the way forth; it names the step.
        """
        run, layout = self._run.copy(), self._setup.weights
        for t in progress(range(self.steps)[::-1], self.steps, "backwards"):
            with self._way_back(run, t):
                run.unstep(t, self._gradient_at(t))
            if not self._arrived(run, t):
                raise self._irreproducible(run, t)
            yield (
                t,
                layout.unflatten(run.values("weights")),
                layout.unflatten(run.values("velocity")),
            )

    def pull_back(
        self, d_weights: Vector, *, wrt_hyper: bool = True, last: bool = False
    ) -> Adjoint:
        r"""Carry a derivative with respect to the final weights back through training.

        Parameters
        ----------
        d_weights : ndarray, shape (num_parameters,)
            Derivative of the outer loss with respect to :attr:`weights`, flat.
        wrt_hyper : bool
            Whether the hyperparameters of the loss are wanted, too.
        last : bool
            The tape is not needed afterwards. Its state and buffers are used up instead of copied,
            and it cannot be rewound any more.

        Returns
        -------
        Adjoint
            Derivatives with respect to the initial weights and slots, the hyperparameters of the
            loss, and every schedule.
        """
        run, setup = self._run if last else self._run.copy(), self._setup
        adjoint = setup.adjoint(
            d_weights, self._hyper.size if wrt_hyper else 0, self._schedule_shapes
        )
        del d_weights  # the adjoint has its own; the caller may keep none
        for t in progress(range(self.steps)[::-1], self.steps, "backwards"):
            self._pull_back_step(run, t, adjoint, wrt_hyper)
        return adjoint

    def _pull_back_step(self, run: ExactRun, t: int, adjoint: Adjoint, wrt_hyper: bool) -> None:
        """Undo one step, and carry the adjoint back over it."""
        # A function of its own, so that what a gradient keeps goes before the next one is taken.
        run.pull_back_weights(t, adjoint)
        with self._way_back(run, t):
            run.undo_weights(t)
            cotangent = run.cotangent(t, adjoint)
            gradient, pull_back_gradient = self._setup.gradients.gradient_and_pullback(
                run.values("weights"), self._hyper, t, wrt_hyper=wrt_hyper, known=cotangent
            )
            run.undo_slots(t, gradient)
            if not self._arrived(run, t):
                # Traced for its derivative, a function may round differently than without.
                # Take the step again and undo it with the very function that went forward.
                forward = self._gradient_at(t)(run.values("weights"))
                run.step(t, gradient)
                run.unstep(t, lambda _: forward)
                difference = np.linalg.norm(gradient - forward)
                only_rounding = difference <= self._setup.rounding * np.linalg.norm(gradient)
                if not (only_rounding and self._arrived(run, t)):
                    raise self._irreproducible(run, t)
        adjoint.add(*pull_back_gradient(run.pull_back_slots(t, gradient, adjoint, cotangent)))

    def _gradient_at(self, t: int) -> Callable[[Vector], Vector]:
        return lambda weights: self._setup.gradients.gradient(weights, self._hyper, t)

    def _arrived(self, run: ExactRun, t: int) -> bool:
        return run.checksum == int(self._checksums[t])

    @contextmanager
    def _way_back(self, run: ExactRun, t: int) -> Iterator[None]:
        """Call an overflow while undoing step `t` what it is: forwards there was none."""
        try:
            yield
        except (FixedPointOverflowError, NonFiniteError):
            raise self._irreproducible(run, t) from None

    def _irreproducible(self, run: ExactRun, t: int) -> RevlearnError:
        # Two calls at the same weights show where, if the loss differs from call to call.
        first, second = (self._gradient_at(t)(run.values("weights")) for _ in range(2))
        differing = np.flatnonzero(first != second)
        leaf = self._setup.weights.name_of(int(differing[0])) if differing.size else None
        return ReversalError(
            "the gradient on the way back is not the same bits as on the way forth. The loss must "
            "be a pure function of (weights, hyper, t): seed its randomness by t, keep no state in "
            "it, and use the same number of threads in both directions (OPENBLAS_NUM_THREADS=1)"
        ).at(step=t, leaf=leaf)


def record_run(setup: Setup, *arguments: NDArray) -> Tape:
    """Run training forwards on flat arrays, and keep what it takes to go back."""
    run, hyper, shapes = setup.start(*arguments)
    checksums = np.zeros(setup.steps, dtype=np.uint64)
    for t in forwards(setup, run, hyper):
        checksums[t] = run.checksum
    return Tape(setup, hyper, shapes, run, checksums)


def forwards(setup: Setup, run: ExactRun, hyper: Vector) -> Iterator[int]:
    """Take every step of a run; yield its number before it is taken."""
    layout = setup.weights
    for t in progress(range(setup.steps), setup.steps, "training"):
        yield t
        gradient = setup.gradients.gradient(run.values("weights"), hyper, t)
        if setup.callback is not None:
            _refuse_gradient(setup, t, gradient)
            setup.callback(
                t,
                layout.unflatten(run.values("weights")),
                layout.unflatten(run.values("velocity")),
                layout.unflatten(gradient.copy()),
            )
        try:
            with _locating(setup, t):
                run.step(t, gradient)
        except RevlearnError:
            _refuse_gradient(setup, t, gradient)  # looked for only when something went wrong
            raise


def _refuse_gradient(setup: Setup, t: int, gradient: Vector) -> None:
    """Raise if a gradient is not finite."""
    finite = np.isfinite(gradient)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise NonFiniteError(
            f"the gradient is {gradient[bad]}. Training diverged, or the loss is not "
            "differentiable here: try a smaller learning rate"
        ).at(step=t, leaf=setup.weights.name_of(bad))


@contextmanager
def _locating(setup: Setup, t: int | None) -> Iterator[None]:
    """Turn positions in flat vectors into names of leaves, and name the remedy."""
    try:
        yield
    except FixedPointOverflowError as error:
        bits = error.fraction_bits or setup.fraction_bits
        option = "fraction_bits" if bits == setup.fraction_bits else f"{error.slot}_bits"
        error.message += (
            f" ±{2 ** (63 - bits)}. Try a smaller learning rate or initial scale, or a wider "
            f"range: {option} below {bits}"
        )
        leaf = setup.weights.name_of(error.index or 0).removeprefix("weights")
        raise error.at(step=t, leaf=f"{error.slot}{leaf}") from None
