r"""Adam and AdamW, exactly reversible.

.. math::

    v_{t+1} &= \beta_1 v_t - (1 - \beta_1)\,g_t, \qquad
    s_{t+1} = \beta_2 s_t + (1 - \beta_2)\,g_t^2 \\
    w_{t+1} &= (1 - \alpha\lambda)\,w_t
    + \alpha\,\frac{v_{t+1} / c_1}{\sqrt{s_{t+1} / c_2} + \epsilon},
    \qquad c_k = 1 - \prod_{i \le t} \beta_{k,i}

with :math:`\lambda = 0` for Adam. The step depends on the two moments after the update, which are
still there on the way back: it is computed again and subtracted, and only then is the gradient
needed. No square root is ever inverted.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; Loshchilov and Hutter,
"Decoupled Weight Decay Regularization", ICLR 2019. The velocity is the first moment with its sign
turned, so that it moves the weights here as in SGD.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from numpy.typing import NDArray

from ..checks import whole_number
from ..gradients import Vector
from ..information_buffer import InformationBuffer
from ..parameters import Layout, plain
from ..rounding_buffer import RoundingBuffer
from .base import Optimizer
from .exact_run import Adjoint, ExactRun
from .parts import Part
from .ratios import nearest_ratio, ratios

BETA1_BITS, BETA2_BITS, DECAY_BITS = 16, 24, 30


class Adam(Optimizer):
    r"""Steps along the mean of the gradients, divided by the root of the mean of their squares.

    Parameters
    ----------
    learning_rate : schedule
        α, any finite number.
    beta1 : schedule
        How much of the velocity is kept, in (0, 1). Rounded to the nearest n/2**16.
    beta2 : schedule
        How much of the mean square is kept, in (1/2, 1). Rounded to the nearest n/2**24.
    epsilon : schedule
        ε, added to the root, positive.
    square_bits : int, optional
        Bits after the binary point of the mean square: the default 56 gives steps of 1.4e-17 and
        a range of ±128. Where squares of gradients are larger, choose less.

    Notes
    -----
    The velocity decays through an :class:`~revlearn.InformationBuffer`, which leaves noise of up
    to 2**16 units of 2**-52 in it. The mean square is often below 1e-11 and would drown in such
    noise. It decays through a :class:`~revlearn.rounding_buffer.RoundingBuffer`, whose error is
    half a unit, at a price of 2(1 − β₂) bits a weight and step in place of log₂(1/β₂).
    It is never negative. Both corrections are products of the β so far, so that schedules of β are
    corrected, too; for constant β they are 1 − βᵗ⁺¹.

    Examples
    --------
    >>> Adam(learning_rate=0.001).schedules
    {'learning_rate': 0.001, 'beta1': 0.9, 'beta2': 0.999, 'epsilon': 1e-08}
    """

    slots = ("velocity", "square")

    def __init__(
        self,
        learning_rate: Any,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        *,
        square_bits: int = 56,
    ):
        self.schedules = {
            "learning_rate": learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
        }
        self.square_bits = whole_number(square_bits, "square_bits", 1, 62)

    def derived(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Return the bias corrections; see :class:`Optimizer`."""
        return {
            "correction1": _correction(_beta1(schedules["beta1"]), "beta1"),
            "correction2": _correction(_beta2(schedules["beta2"]), "beta2"),
        }

    def fraction_bits(self, slot: str, fraction_bits: int) -> int:
        """Return the bits after the binary point; see :class:`Optimizer`."""
        return self.square_bits if slot == "square" else fraction_bits

    def rates(
        self, schedules: dict[str, NDArray[np.float64]], layout: Layout
    ) -> dict[str, NDArray]:
        """Return the schedules, with both decays as ratios; see :class:`Optimizer`."""
        check_epsilon(schedules["epsilon"])
        beta1, beta2 = schedules["beta1"], schedules["beta2"]
        return schedules | {
            "beta1": ratios(beta1, BETA1_BITS, layout, name="beta1"),
            "beta2": ratios(beta2, BETA2_BITS, layout, name="beta2", above=0.5),
        }

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactRun:
        """Round the initial state to integers; see :class:`Optimizer`."""
        check_square(state["square"], layout)
        return super().start(state, schedules, layout, fraction_bits)

    def part(self, *state: Any) -> ExactAdam:
        """Return the rule on integers; see :class:`Optimizer`."""
        return ExactAdam(self, *state)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights and moments after a step, in floats."""
        beta1, beta2 = _beta1(rates["beta1"]), _beta2(rates["beta2"])
        velocity = beta1 * state["velocity"] - (1.0 - beta1) * gradient
        square = beta2 * state["square"] + (1.0 - beta2) * gradient * gradient
        root = square_root(square / rates["correction2"]) + rates["epsilon"]
        step = rates["learning_rate"] * velocity / rates["correction1"] / root
        return {"weights": state["weights"] + step, "velocity": velocity, "square": square}


class AdamW(Adam):
    r"""Adam with weight decay that is not part of the gradient: w ← (1 − αλ) w, then Adam's step.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon : schedule
        As for :class:`Adam`.
    weight_decay : schedule
        λ. The factor 1 − αλ must lie in (1/2, 1]; it is rounded to the nearest n/2**30. Below
        αλ = 2**-31 that is 1, and nothing decays.
    square_bits : int, optional
        As for :class:`Adam`.

    Notes
    -----
    The decay discards 2αλ bits a weight and step, kept in a
    :class:`~revlearn.rounding_buffer.RoundingBuffer`.

    Examples
    --------
    >>> AdamW(learning_rate=0.001, weight_decay=0.1).schedules["weight_decay"]
    0.1
    """

    def __init__(
        self,
        learning_rate: Any,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        weight_decay: Any = 0.01,
        *,
        square_bits: int = 56,
    ):
        super().__init__(learning_rate, beta1, beta2, epsilon, square_bits=square_bits)
        self.schedules["weight_decay"] = weight_decay

    def derived(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Return the bias corrections and the factor of the weights; see :class:`Optimizer`."""
        kept = 1.0 - schedules["learning_rate"] * schedules["weight_decay"]
        name = "1 − learning_rate·weight_decay"
        shrinkage = nearest_ratio(kept, DECAY_BITS, name, 0.5, False)
        return super().derived(schedules) | {"shrinkage": shrinkage}

    def part(self, *state: Any) -> ExactAdamW:
        """Return the rule on integers; see :class:`Optimizer`."""
        return ExactAdamW(self, *state)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights and moments after a step, in floats."""
        shrunk = state | {"weights": rates["shrinkage"] * state["weights"]}
        return super().float_step(shrunk, gradient, rates)


class ExactAdam(Part):
    """Weights and both moments as integers, with a buffer of either kind."""

    def __init__(self, optimizer: Adam, *state: Any):
        super().__init__(optimizer, *state)
        for piece in self.pieces:
            size = piece.stop - piece.start
            self.buffers.setdefault("velocity", []).append(InformationBuffer(size, BETA1_BITS))
            self.buffers.setdefault("square", []).append(RoundingBuffer(size, BETA2_BITS))

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("velocity", self.rates["beta1"][:, t])
        self.multiply("square", self.rates["beta2"][:, t])
        self._add_gradient(t, gradient, 1.0)
        self.add("weights", self._direction(t), self._step_size(t))

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        self.add("weights", self._direction(t), -self._step_size(t))

    def undo_slots(self, t: int, gradient: Vector) -> None:
        """Take both moments back; see :class:`ExactRun`."""
        self._add_gradient(t, gradient, -1.0)
        self.divide("velocity", self.rates["beta1"][:, t])
        self.divide("square", self.rates["beta2"][:, t])

    def _add_gradient(self, t: int, gradient: Vector, sign: float) -> None:
        first, second = (1.0 - self.rates[name][:, t] for name in ("beta1", "beta2"))
        self.add("velocity", gradient, -sign * first * self.unit("velocity"))
        self.add("square", gradient * gradient, sign * second * self.unit("square"))

    def _step_size(self, t: int) -> Vector:
        return self.rates["learning_rate"][:, t] * self.unit("weights")

    def _direction(self, t: int) -> Vector:
        """Return what the learning rate multiplies, from the moments as they are."""
        velocity, square = self.values("velocity"), self.values("square")
        for i, piece in enumerate(self.pieces):
            rates = {name: rows[i, t] for name, rows in self.rates.items()}
            root = np.sqrt(square[piece] / rates["correction2"]) + rates["epsilon"]
            velocity[piece] /= rates["correction1"] * root
        return velocity

    def pull_back_weights(self, t: int, adjoint: Adjoint) -> None:
        """Carry the adjoint back over w + α·direction; see :class:`ExactRun`."""
        velocity, square = self.values("velocity"), self.values("square")
        names = ("learning_rate", "correction1", "correction2", "epsilon")
        slopes = {name: np.zeros(len(self.pieces)) for name in names}
        for i, piece in enumerate(self.pieces):
            rates = {name: rows[i, t] for name, rows in self.rates.items()}
            d_weights, d_velocity, d_square = (
                adjoint.slots[slot][piece] for slot in ("weights", "velocity", "square")
            )
            corrected = square[piece] / rates["correction2"]
            root = np.sqrt(corrected)
            total = root + rates["epsilon"]
            direction = velocity[piece] / rates["correction1"] / total
            slopes["learning_rate"][i] = d_weights @ direction
            d_direction = rates["learning_rate"] * d_weights
            d_velocity += d_direction / (rates["correction1"] * total)
            slopes["correction1"][i] = -(d_direction @ direction) / rates["correction1"]
            d_total = -d_direction * direction / total
            slopes["epsilon"][i] = d_total.sum()
            d_corrected = d_total * slope_of_root(root)
            d_square += d_corrected / rates["correction2"]
            slopes["correction2"][i] = -(d_corrected @ corrected) / rates["correction2"]
        for name, slope in slopes.items():
            adjoint.accumulate(name, t, slope)

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over the two moving averages; see :class:`ExactRun`."""
        d_velocity, d_square = adjoint.slots["velocity"], adjoint.slots["square"]
        beta1, beta2 = (self.spread(self.rates[name][:, t]) for name in ("beta1", "beta2"))
        slope1 = self.dots(d_velocity, self.values("velocity") + gradient)
        slope2 = self.dots(d_square, self.values("square") - gradient * gradient)
        adjoint.accumulate("beta1", t, slope1)
        adjoint.accumulate("beta2", t, slope2)
        cotangent = 2.0 * (1.0 - beta2) * d_square * gradient - (1.0 - beta1) * d_velocity
        d_velocity *= beta1
        d_square *= beta2
        return cotangent


class ExactAdamW(ExactAdam):
    """The same, with weights that decay through a buffer of their own."""

    def __init__(self, optimizer: AdamW, *state: Any):
        super().__init__(optimizer, *state)
        self.buffers["weights"] = [
            RoundingBuffer(piece.stop - piece.start, DECAY_BITS) for piece in self.pieces
        ]

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("weights", self.rates["shrinkage"][:, t])
        super().step(t, gradient)

    def undo_weights(self, t: int) -> None:
        """Take the weights back; see :class:`ExactRun`."""
        super().undo_weights(t)
        self.divide("weights", self.rates["shrinkage"][:, t])

    def pull_back_slots(
        self, t: int, gradient: Vector, adjoint: Adjoint, known: Vector | None
    ) -> Vector:
        """Carry the adjoint back over the decay, too; see :class:`ExactRun`."""
        d_weights = adjoint.slots["weights"]
        adjoint.accumulate("shrinkage", t, self.dots(d_weights, self.values("weights")))
        d_weights *= self.spread(self.rates["shrinkage"][:, t])
        return super().pull_back_slots(t, gradient, adjoint, known)


def check_square(square: Vector, layout: Layout) -> None:
    """Refuse an initial mean square that is negative."""
    if (square < 0.0).any():
        where = layout.name_of(int(np.argmax(square < 0.0)))
        raise ValueError(f"an initial mean square is negative, at {where}")


def check_epsilon(epsilon: NDArray[np.float64]) -> None:
    """Refuse a schedule of epsilon that is not positive."""
    if not (epsilon > 0.0).all():
        raise ValueError("epsilon must be positive: where the mean square is 0 it stands alone")


def _beta1(values: Any) -> Any:
    return nearest_ratio(values, BETA1_BITS, "beta1")


def _beta2(values: Any) -> Any:
    return nearest_ratio(values, BETA2_BITS, "beta2", 0.5)


def _correction(beta: Any, name: str) -> Any:
    if not (plain(beta) < 1.0).all():
        raise ValueError(f"{name} must be below 1: what never forgets has no bias to correct")
    return 1.0 - anp.exp(anp.cumsum(anp.log(beta), axis=1))


@primitive
def square_root(x: Any) -> Any:
    """Return the root of numbers ≥ 0; at 0 the derivative is taken as 0.

    There no gradient has come yet, the velocity is 0, and so is the step whatever the root.
    """
    return np.sqrt(x)


def slope_of_root(root: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the derivative of the root where its value is `root`; 0 at 0."""
    return np.divide(0.5, root, out=np.zeros_like(root), where=root > 0.0)


defvjp(square_root, lambda ans, x: lambda g: g * slope_of_root(ans))
