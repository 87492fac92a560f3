"""A run, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .checks import length
from .errors import ReversalError, RevlearnError, used_up
from .fixed_point import checksum
from .gradients import Vector
from .optimizers import Adjoint, ExactRun
from .parameters import Nest
from .progress import progress
from .setup import Setup, forwards


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
        start: int,
        gradients: NDArray[np.uint64],
        largest: float,
    ):
        self._setup, self._hyper, self._schedule_shapes = setup, hyper, schedule_shapes
        self._kept: ExactRun | None = run
        # Checksums: of the state at the start, and of the gradient of each step.
        self._start, self._gradients = start, gradients
        self._largest = largest  # length of a gradient

    @property
    def _run(self) -> ExactRun:
        if self._kept is None:
            raise used_up("tape")
        return self._kept

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
            run.unstep(t, partial(self._gradient_of_step, t))
            if t == 0:
                self._check_start(run)
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
            The tape is not needed afterwards. Its state and buffers are used up instead of copied:
            it has no final weights and cannot be rewound any more.

        Returns
        -------
        Adjoint
            Derivatives with respect to the initial weights and slots, the hyperparameters of the
            loss, and every schedule.

        Raises
        ------
        ReversalError
            If a gradient is not the same bits as on the way forth; it names the step.
        NonFiniteError
            If a derivative is not finite; it names the step at which it arose.
        """
        run, setup = self._run if last else self._run.copy(), self._setup
        if last:
            self._kept = None
        adjoint = setup.adjoint(
            d_weights, self._hyper.size if wrt_hyper else 0, self._schedule_shapes
        )
        del d_weights  # the adjoint has its own; the caller may keep none
        for t in progress(range(self.steps)[::-1], self.steps, "backwards"):
            self._pull_back_step(run, t, adjoint, wrt_hyper)
            setup.refuse_step(adjoint, t)
        setup.refuse_end(adjoint)
        self._check_start(run)
        return adjoint

    def _pull_back_step(self, run: ExactRun, t: int, adjoint: Adjoint, wrt_hyper: bool) -> None:
        """Undo one step, and carry the adjoint back over it."""
        # A function of its own, so that what a gradient keeps goes before the next one is taken.
        run.pull_back_weights(t, adjoint)
        run.undo_weights(t)
        cotangent = run.cotangent(t, adjoint)
        gradient, pull_back_gradient = self._setup.gradients.gradient_and_pullback(
            run.values("weights"), self._hyper, t, wrt_hyper=wrt_hyper, known=cotangent
        )
        if not self._is_of_step(t, gradient):
            # Traced for its derivative, a function may round differently than without: then the
            # step is undone with the very function that went forward.
            traced, gradient = gradient, self._gradient_of_step(t, run.values("weights"))
            if not self._setup.is_rounding(traced, gradient, self._largest):
                raise self._irreproducible(t, run.values("weights"))
        run.undo_slots(t, gradient)
        adjoint.add(*pull_back_gradient(run.pull_back_slots(t, gradient, adjoint, cotangent)))

    def _gradient_at(self, t: int) -> Callable[[Vector], Vector]:
        return lambda weights: self._setup.gradients.gradient(weights, self._hyper, t)

    def _gradient_of_step(self, t: int, weights: Vector) -> Vector:
        """Return the gradient with which step `t` was taken; another one would undo it wrongly."""
        gradient = self._gradient_at(t)(weights)
        if not self._is_of_step(t, gradient):
            raise self._irreproducible(t, weights)
        return gradient

    def _is_of_step(self, t: int, gradient: Vector) -> bool:
        return checksum_of(gradient) == int(self._gradients[t])

    def _check_start(self, run: ExactRun) -> None:
        if checksum(*run.integers.values()) != self._start:
            rule = type(self._setup.optimizer).__name__
            raise ReversalError(
                "the run did not return to its start, although all gradients were the same: "
                f"{rule} does not undo what its step does"
            )

    def _irreproducible(self, t: int, weights: Vector) -> RevlearnError:
        # Two calls at the same weights show where, if the loss differs from call to call.
        first, second = (self._gradient_at(t)(weights) for _ in range(2))
        differing = np.flatnonzero(first != second)
        leaf = self._setup.weights.name_of(int(differing[0])) if differing.size else None
        return ReversalError(
            "the gradient on the way back is not the same bits as on the way forth. The loss must "
            "be a pure function of (weights, hyper, t): seed its randomness by t, keep no state in "
            "it, and use the same number of threads in both directions (OPENBLAS_NUM_THREADS=1)"
        ).at(step=t, leaf=leaf)


def checksum_of(gradient: Vector) -> int:
    """Return a checksum of the bits of a gradient."""
    return checksum(np.ascontiguousarray(gradient).view(np.uint64))


def record_run(setup: Setup, *arguments: NDArray) -> Tape:
    """Run training forwards on flat arrays, and keep what it takes to go back."""
    run, hyper, shapes = setup.start(*arguments)
    start = checksum(*run.integers.values())
    gradients, largest = np.zeros(setup.steps, dtype=np.uint64), 0.0
    for t, gradient in forwards(setup, run, hyper):
        gradients[t] = checksum_of(gradient)
        largest = max(largest, length(gradient))
    return Tape(setup, hyper, shapes, run, start, gradients, largest)
