"""Chains that were run, the way back, and the derivatives carried along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from autograd.core import make_vjp
from autograd.tracer import isbox
from numpy.typing import NDArray

from ..checks import differ_by_rounding, refuse_derivatives, refuse_outer_derivative
from ..errors import (
    FixedPointOverflowError,
    NonFiniteError,
    ReversalError,
    RevlearnError,
    closed_over,
    used_up,
)
from ..gradients import AutogradGradients, Pullback, Vector
from ..optimizers import Adjoint
from ..parameters import Layout, Nest, plain, read_only
from ..progress import progress
from .dynamics import ExactChains, GradientAt, State, noise

Term = Callable[[State, State, Nest, int], Any]

# By how much, relative to its length, a gradient may change with the way it is traced.
_ROUNDING = 1e-9


@dataclass
class Setup:
    """What is fixed about a run of chains."""

    shape: tuple[int, int]
    hyper: Layout
    gradients: AutogradGradients
    term: Term | None
    transitions: int
    leaps: int
    seed: int
    fraction_bits: int

    def state(self, chains: ExactChains) -> State:
        """Return the state of chains in its natural shape."""
        return State(*(chains.values(slot).reshape(self.shape) for slot in State._fields))

    def term_at(self, before: State, after: State, hyper: Any, t: int) -> Any:
        """Return the term of a transition, checked."""
        if self.term is None:
            return 0.0
        value = self.term(before, after, self.hyper.unflatten(read_only(hyper)), t)
        if not np.isfinite(plain(value)).all():
            raise NonFiniteError("the term of this transition is not finite").at(step=t)
        return value

    def gradient_at(self, hyper: Vector, t: int) -> GradientAt:
        """Return ∇U(·, θ, t), which refuses what is not finite."""

        def gradient(position: Vector) -> Vector:
            found = self.gradients.gradient(position, hyper, t)
            if not np.isfinite(found).all():
                bad = int(np.argmin(np.isfinite(found)))
                raise NonFiniteError(
                    f"the gradient of the potential is {found[bad]}. The chain left the region "
                    "where the potential is finite, or diverged: try a smaller step size"
                ).at(step=t, leaf=self.name_of("position", bad))
            return found

        return gradient

    def name_of(self, slot: str, index: int) -> str:
        """Return the name of one number of the state."""
        return f"{slot}[{index // self.shape[1]}, {index % self.shape[1]}]"

    @contextmanager
    def locating(self, t: int | None) -> Iterator[None]:
        """Say where a number left the range, and what to do."""
        try:
            yield
        except FixedPointOverflowError as error:
            error.message += (
                f" ±{2 ** (63 - self.fraction_bits)}. Try a smaller step size, or a wider range: "
                f"fraction_bits below {self.fraction_bits}"
            )
            raise error.at(
                step=t, leaf=self.name_of(error.slot or "position", error.index or 0)
            ) from None


class Recording:
    """Chains that were run and can be run backwards, made by :func:`record`.

    Attributes
    ----------
    total : ndarray
        The sum of the term over all transitions.
    """

    def __init__(
        self,
        setup: Setup,
        position: Vector,
        velocity: Vector,
        hyper: Vector,
        step_size: NDArray[np.float64],
        momentum: Vector,
    ):
        self._setup, self._hyper = setup, hyper
        with setup.locating(None):
            chains = ExactChains(
                position,
                velocity,
                step_size,
                momentum,
                setup.seed,
                setup.leaps,
                setup.fraction_bits,
            )
        self.total = np.zeros(())
        self._checksums = np.zeros(setup.transitions, dtype=np.uint64)
        for t in progress(range(setup.transitions), setup.transitions, "chains"):
            with setup.locating(t):
                chains.refresh(t)
                self._checksums[t] = chains.checksum()
                before = setup.state(chains)
                chains.leapfrog(t, setup.gradient_at(hyper, t))
            value = setup.term_at(before, setup.state(chains), hyper, t)
            if isbox(value):
                raise closed_over("term", "hyper")
            self.total = self.total + value
        self._kept: ExactChains | None = chains

    @property
    def _chains(self) -> ExactChains:
        if self._kept is None:
            raise used_up("recording")
        return self._kept

    @property
    def state(self) -> State:
        """Final positions and velocities."""
        return self._setup.state(self._chains)

    @property
    def num_bits(self) -> int:
        """Bits of memory that the information buffer really occupies."""
        return self._chains.buffer.num_bits

    @property
    def information(self) -> float:
        """Bits of content in the buffer: Σ log2(1/γ) over numbers and transitions."""
        return self._chains.buffer.information

    def rewind(self) -> Iterator[tuple[int, State]]:
        """Run the chains backwards.

        Yields
        ------
        (t, state)
            The state before transition t, for t = transitions − 1 … 0. The last is the initial
            state, bit for bit as fixed-point numbers.

        Raises
        ------
        ReversalError
            If a gradient is not the same bits as on the way forth; it names the transition.
        """
        chains = self._chains.copy()
        for t in reversed(range(self._setup.transitions)):
            with self._way_back(t):
                chains.undo_leapfrog(t, self._setup.gradient_at(self._hyper, t))
            self._check_arrival(chains, t)
            chains.undo_refresh(t)
            yield t, self._setup.state(chains)

    def pull_back(
        self,
        d_position: NDArray[np.float64],
        d_velocity: NDArray[np.float64],
        d_total: NDArray[np.float64],
        *,
        last: bool = False,
    ) -> Adjoint:
        """Carry derivatives back through all transitions.

        Parameters
        ----------
        d_position, d_velocity : ndarray, shape (chains, dimensions)
            Derivatives with respect to the final state.
        d_total : ndarray
            Derivative with respect to the total, of its shape.
        last : bool
            The recording is used up instead of copied.

        Returns
        -------
        Adjoint
            Slots ``"position"`` and ``"velocity"`` at the start, flat; the hyperparameters of
            potential and term; schedules ``"step_size"`` (transitions, dimensions) and
            ``"momentum"`` (transitions,), NaN where that is 1.

        Raises
        ------
        ReversalError
            If a gradient is not the same bits as on the way forth; it names the transition.
        NonFiniteError
            If another derivative is not finite; it names the transition at which it arose.
        """
        chains, setup = self._chains if last else self._chains.copy(), self._setup
        if last:
            self._kept = None
        for name, outer in zip(
            (*State._fields, "total"), (d_position, d_velocity, d_total), strict=True
        ):
            refuse_outer_derivative(np.asarray(outer), name)
        adjoint = Adjoint(
            {"position": d_position.reshape(-1).copy(), "velocity": d_velocity.reshape(-1).copy()},
            np.zeros(self._hyper.size),
            {
                "step_size": np.zeros(chains.step_size.shape),
                "momentum": np.zeros(setup.transitions),
            },
        )
        for t in progress(reversed(range(setup.transitions)), setup.transitions, "backwards"):
            after = setup.state(chains)
            leaps = self._undo_and_trace(chains, t)
            before = setup.state(chains)
            if setup.term is not None:
                d_before, d_after = self._pull_back_term(before, after, t, d_total, adjoint)
                _add(adjoint, d_after)
            _pull_back_leaps(chains, t, leaps, before.velocity.reshape(-1), adjoint)
            if setup.term is not None:
                _add(adjoint, d_before)
            chains.undo_refresh(t)
            self._pull_back_refresh(chains, t, adjoint)
            for slot in State._fields:
                refuse_derivatives(adjoint.slots[slot], t, partial(setup.name_of, slot))
            refuse_derivatives(adjoint.hyper, t, setup.hyper.name_of)
            refuse_derivatives(adjoint.schedules["step_size"][t], t, "step_size")
        return adjoint

    def _undo_and_trace(self, chains: ExactChains, t: int) -> list[tuple[Vector, Vector, Pullback]]:
        """Undo the leaps of a transition; return velocity, gradient and pullback of each."""
        start = {slot: numbers.copy() for slot, numbers in chains.integers.items()}
        plain_gradient = self._setup.gradient_at(self._hyper, t)
        # Traced for its derivative, a function may round differently than without. If so, go back
        # once more with the very function that went forward.
        for as_forward in (False, True):
            leaps: list[tuple[Vector, Vector, Pullback]] = []

            def traced(position: Vector, into=leaps, as_forward=as_forward) -> Vector:
                gradient, pull_back = self._setup.gradients.gradient_and_pullback(
                    position, self._hyper, t, wrt_hyper=self._hyper.size > 0
                )
                if as_forward:
                    forward = plain_gradient(position)
                    if not differ_by_rounding(gradient, forward, _ROUNDING):
                        raise _irreproducible(t)
                    gradient = forward
                # The velocity as it was after this kick: it is undone next.
                into.append((chains.values("velocity"), gradient, pull_back))
                return gradient

            with suppress(FixedPointOverflowError, NonFiniteError):  # there was none forwards
                chains.undo_leapfrog(t, traced)
            if chains.checksum() == int(self._checksums[t]):
                return leaps
            for slot, numbers in start.items():
                chains.integers[slot][...] = numbers
        raise _irreproducible(t)

    def _pull_back_term(
        self, before: State, after: State, t: int, d_total: NDArray, adjoint: Adjoint
    ) -> tuple[State, State]:
        """Add the term's derivative for the hyperparameters; return those for both states."""

        def term(arguments: Any) -> Any:
            return self._setup.term_at(
                State(arguments[0], arguments[1]),
                State(arguments[2], arguments[3]),
                arguments[4],
                t,
            )

        pull_back, _ = make_vjp(term, (*before, *after, self._hyper))
        parts = pull_back(d_total)
        adjoint.hyper += parts[4]
        return State(*parts[:2]), State(*parts[2:4])

    def _pull_back_refresh(self, chains: ExactChains, t: int, adjoint: Adjoint) -> None:
        gamma, scale = chains.momentum[t], chains.scale_of_noise(t)
        d_velocity = adjoint.slots["velocity"]
        if scale > 0.0:
            draw = noise(self._setup.seed, t, d_velocity.size)
            slope = chains.values("velocity") - gamma / scale * draw
            adjoint.schedules["momentum"][t] = d_velocity @ slope
        else:  # the root has no derivative at γ = 1
            adjoint.schedules["momentum"][t] = np.nan
        d_velocity *= gamma

    def _check_arrival(self, chains: ExactChains, t: int) -> None:
        if chains.checksum() != int(self._checksums[t]):
            raise _irreproducible(t)

    @contextmanager
    def _way_back(self, t: int) -> Iterator[None]:
        """Call an overflow on the way back what it is: forwards there was none."""
        try:
            yield
        except (FixedPointOverflowError, NonFiniteError):
            raise _irreproducible(t) from None


def _pull_back_leaps(
    chains: ExactChains,
    t: int,
    leaps: list[tuple[Vector, Vector, Pullback]],
    first_velocity: Vector,
    adjoint: Adjoint,
) -> None:
    """Carry the adjoint back over the leaps, which were undone last one first."""
    h, d_step = chains.steps(t), adjoint.schedules["step_size"][t]
    d_position, d_velocity = adjoint.slots["position"], adjoint.slots["velocity"]

    def over_drift(share: float, velocity: Vector) -> None:
        d_step[...] += share * _by_coordinate(d_position * velocity, d_step.size)
        d_velocity[...] += share * h * d_position

    for share, (velocity, gradient, pull_back) in zip(
        reversed(chains.shares()), leaps, strict=True
    ):
        over_drift(share, velocity)
        d_step -= _by_coordinate(d_velocity * gradient, d_step.size)
        to_position, to_hyper = pull_back(-h * d_velocity)
        d_position += to_position
        if to_hyper.size:
            adjoint.hyper += to_hyper
    over_drift(0.5, first_velocity)


def _by_coordinate(products: Vector, dimensions: int) -> Vector:
    return products.reshape(-1, dimensions).sum(axis=0)


def _add(adjoint: Adjoint, derivatives: State) -> None:
    for slot, values in zip(State._fields, derivatives, strict=True):
        adjoint.slots[slot] += values.reshape(-1)


def _irreproducible(t: int) -> RevlearnError:
    return ReversalError(
        "the gradient of the potential on the way back is not the same bits as on the way forth. "
        "The potential must be a pure function of (position, hyper, t): keep no state in it, and "
        "use the same number of threads in both directions (OPENBLAS_NUM_THREADS=1)"
    ).at(step=t)
