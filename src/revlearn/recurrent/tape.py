"""A run of a recurrent network, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import make_vjp
from autograd.tracer import isbox
from numpy.typing import NDArray

from ..checks import refuse_derivatives, refuse_outer_derivative
from ..errors import NonFiniteError, ReversalError, RevlearnError, closed_over, used_up
from ..gradients import Vector
from ..parameters import Nest, _take, read_only
from ..progress import progress
from .state import Setup, State


class RecurrentTape:
    """A finished run of a recurrent network, which can be rewound. Made by :func:`record`.

    Attributes
    ----------
    loss : float
        Sum of the losses of all steps.
    """

    def __init__(self, setup: Setup, weights: Vector, start: Vector):
        self._setup, self._weights = setup, weights
        self._nest = setup.weights.unflatten(read_only(weights))
        self._checksums = np.zeros(setup.steps, dtype=np.uint64)
        try:
            state = State(start)
        except RevlearnError as error:
            half, index = divmod(error.index or 0, start.size // 2)
            raise setup.located(error, half, index) from None
        self.loss = 0.0
        for t in progress(range(setup.steps), setup.steps, "recurrent"):
            self._checksums[t] = state.checksum
            for half in (0, 1):
                found = setup.cell(self._nest, half, setup.shaped(state.values(1 - half)), t)
                if any(isbox(array) for array in found):
                    raise closed_over("cell", "weights")
                try:
                    state.step(half, *found)
                except RevlearnError as error:
                    raise setup.located(error, half, error.index or 0, t) from None
            value = setup.loss(self._nest, state.both(), t)
            if isbox(value):
                raise closed_over("loss", "weights")
            if not np.isfinite(value):
                raise NonFiniteError(f"the loss is {value}").at(step=t)
            self.loss += float(value)
        self._kept: State | None = state

    @property
    def _state(self) -> State:
        if self._kept is None:
            raise used_up("tape")
        return self._kept

    @property
    def hidden(self) -> NDArray[np.float64]:
        """Final hidden state."""
        return self._setup.join(self._state.both())

    @property
    def num_bits(self) -> int:
        """Bits of memory that the information buffers really occupy, words and all."""
        return sum(buffer.num_bits for buffer in self._state.buffers)

    @property
    def information(self) -> float:
        """Bits of content in the buffers: Σ −log2(gate) over numbers and steps."""
        return sum(buffer.information for buffer in self._state.buffers)

    def rewind(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Run the network backwards.

        Yields
        ------
        (t, hidden)
            The state before step t, for t = steps − 1 … 0. The last is the initial state, bit for
            bit as fixed-point numbers.

        Raises
        ------
        ReversalError
            If a cell does not give the same bits as on the way forth; it names the step.
        """
        setup, state = self._setup, self._state.copy()
        for t in progress(range(setup.steps)[::-1], setup.steps, "backwards"):
            for half in (1, 0):
                with self._way_back(t):
                    state.unstep(
                        half, *setup.cell(self._nest, half, setup.shaped(state.values(1 - half)), t)
                    )
            self._check(state, t)
            yield t, setup.join(state.both())

    def pull_back(self, d_loss: float = 1.0, *, last: bool = False) -> tuple[Vector, Vector]:
        r"""Carry a derivative with respect to the loss back through the run.

        .. math::

            \bar z = \bar h \odot h, \quad \bar u = \bar h, \quad \bar h \leftarrow z \odot \bar h

        in each half step, with h the half before it; :math:`\bar z` and :math:`\bar u` are pulled
        back through the cell, to the weights and to the other half.

        Parameters
        ----------
        d_loss : float
            Derivative with respect to the sum of the losses.
        last : bool
            The tape is not needed afterwards: its state and buffers are used up.

        Returns
        -------
        tuple of ndarray
            Derivatives with respect to weights and initial hidden state, flat, the latter one half
            after the other.

        Raises
        ------
        ReversalError
            If a cell does not give the same bits as on the way forth; it names the step.
        NonFiniteError
            If a derivative is not finite; it names the step at which it arose.
        """
        setup, state = self._setup, self._state if last else self._state.copy()
        if last:
            self._kept = None
        refuse_outer_derivative(np.asarray(d_loss), "loss")
        d_weights, d_halves = np.zeros(self._weights.size), np.zeros(state.integers.shape)
        for t in progress(range(setup.steps)[::-1], setup.steps, "backwards"):
            _, pull_back = self._pullback(setup.loss, state.both(), t)
            to_weights, to_halves = pull_back(np.float64(d_loss))
            d_weights += to_weights
            d_halves += to_halves
            for half in (1, 0):
                d_half = d_halves[half]

                def both(weights: Nest, other: Any, t: int, half: int = half) -> Any:
                    return anp.stack(setup.cell(weights, half, other, t))

                with self._way_back(t):
                    other = setup.shaped(state.values(1 - half))
                    (gate, addition), pull_back = self._pullback(both, other, t)
                    state.unstep(half, gate, addition)
                to_both = np.stack([d_half * state.values(half), d_half])
                to_weights, to_other = pull_back(to_both.reshape(2, *setup.half_shape))
                d_weights += to_weights
                d_halves[1 - half] += np.ravel(to_other)
                d_half *= np.ravel(gate)
            self._check(state, t)
            refuse_derivatives(d_weights, t, setup.weights.name_of)
            for half, derivatives in enumerate(d_halves):
                refuse_derivatives(derivatives, t, partial(setup.name_of, half))
        return d_weights, d_halves.reshape(-1)

    def _pullback(
        self, function: Callable[[Nest, Any, int], Any], values: NDArray, t: int
    ) -> tuple[Any, Callable[[Any], tuple[Vector, NDArray]]]:
        """Return ``function(weights, values, t)`` and its pullback to both."""
        layout, size = self._setup.weights, self._weights.size
        # One vector for both, so that autograd sees one variable and adds in place.
        joint = np.concatenate([self._weights, np.ravel(values)])

        def of(joint: Any) -> Any:
            weights = layout.unflatten(_take(joint, 0, size, (size,)))
            result = function(weights, _take(joint, size, joint.size, values.shape), t)
            # Autograd warns of a result that depends on nothing: the loss of a step without one.
            return result if isbox(result) else result + 0.0 * _take(joint, size, size + 1, ())

        pull_back, result = make_vjp(of, joint)

        def split(cotangent: Any) -> tuple[Vector, NDArray]:
            both = pull_back(cotangent)
            return both[:size], both[size:].reshape(values.shape)

        return result, split

    @contextmanager
    def _way_back(self, t: int) -> Iterator[None]:
        """Call an error while undoing step `t` what it is: forwards there was none."""
        try:
            yield
        except (RevlearnError, IndexError, ValueError):
            raise self._irreproducible(t) from None

    def _check(self, state: State, t: int) -> None:
        if state.checksum != int(self._checksums[t]):
            raise self._irreproducible(t)

    def _irreproducible(self, t: int) -> RevlearnError:
        return ReversalError(
            "the cell on the way back does not give the same bits as on the way forth. It must be "
            "a pure function of (weights, half, other, t): seed its randomness by t, keep no state "
            "in it, and use the same number of threads (OPENBLAS_NUM_THREADS=1)"
        ).at(step=t)
