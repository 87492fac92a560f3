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

from ..gradients import Pullback, Vector
from ..information_buffer import InformationBuffer
from ..parameters import Layout, plain
from ..rounding_buffer import RoundingBuffer
from .base import Adjoint, GradientAt, Optimizer, PiecewiseRun
from .ratios import nearest_ratio, numerators

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
        if not 1 <= square_bits <= 62:
            raise ValueError(f"square_bits must lie in 1..62, not {square_bits}")
        self.schedules = {
            "learning_rate": learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
        }
        self.square_bits = square_bits

    def derived(self, schedules: dict[str, Any]) -> dict[str, Any]:
        """Return the bias corrections; see :class:`Optimizer`."""
        return {
            "correction1": _correction(_beta1(schedules["beta1"]), "beta1"),
            "correction2": _correction(_beta2(schedules["beta2"]), "beta2"),
        }

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactAdam:
        """Round the initial state to integers; see :class:`Optimizer`."""
        return ExactAdam(self, state, schedules, layout, fraction_bits)

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
        λ. The factor 1 − αλ must lie in (1/2, 1]; it is rounded to the nearest n/2**30.
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
        shrinkage = nearest_ratio(kept, DECAY_BITS, "1 − learning_rate·weight_decay", 0.5)
        return super().derived(schedules) | {"shrinkage": shrinkage}

    def start(
        self,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ) -> ExactAdamW:
        """Round the initial state to integers; see :class:`Optimizer`."""
        return ExactAdamW(self, state, schedules, layout, fraction_bits)

    def float_step(
        self, state: dict[str, Any], gradient: Any, rates: dict[str, Any]
    ) -> dict[str, Any]:
        """Return one leaf's weights and moments after a step, in floats."""
        shrunk = state | {"weights": rates["shrinkage"] * state["weights"]}
        return super().float_step(shrunk, gradient, rates)


class ExactAdam(PiecewiseRun):
    """Weights and both moments as integers, with a buffer of either kind."""

    def __init__(
        self,
        optimizer: Adam,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ):
        bits = dict.fromkeys(state, fraction_bits) | {"square": optimizer.square_bits}
        super().__init__(state, schedules, layout, bits)
        refuse(self.integers["square"] < 0, layout, "an initial mean square is negative")
        if not (self.rates["epsilon"] > 0.0).all():
            raise ValueError("epsilon must be positive: where the mean square is 0 it stands alone")
        self._numerators = {
            "velocity": numerators(self.rates["beta1"], BETA1_BITS, layout, name="beta1"),
            "square": numerators(self.rates["beta2"], BETA2_BITS, layout, name="beta2", above=0.5),
        }
        self._beta1 = self._numerators["velocity"] / 2.0**BETA1_BITS
        self._beta2 = self._numerators["square"] / 2.0**BETA2_BITS
        for piece in self.pieces:
            size = piece.stop - piece.start
            self.buffers.setdefault("velocity", []).append(InformationBuffer(size, BETA1_BITS))
            self.buffers.setdefault("square", []).append(RoundingBuffer(size, BETA2_BITS))

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        for slot in ("velocity", "square"):
            self.multiply(slot, self._numerators[slot][:, t])
        self._add_gradient(t, gradient, 1.0)
        self.add("weights", self._direction(t), self._step_size(t))

    def unstep(self, t: int, gradient_at: GradientAt) -> None:
        """Undo one step; see :class:`ExactRun`."""
        self.add("weights", self._direction(t), -self._step_size(t))
        self._add_gradient(t, gradient_at(self.values("weights")), -1.0)
        for slot in ("velocity", "square"):
            self.divide(slot, self._numerators[slot][:, t])

    def _add_gradient(self, t: int, gradient: Vector, sign: float) -> None:
        self.add("velocity", gradient, -sign * (1.0 - self._beta1[:, t]) * self.unit("velocity"))
        squared = gradient * gradient
        self.add("square", squared, sign * (1.0 - self._beta2[:, t]) * self.unit("square"))

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

    def pull_back(
        self,
        t: int,
        later: dict[str, Vector],
        gradient: Vector,
        pull_back_gradient: Pullback,
        adjoint: Adjoint,
    ) -> None:
        """Carry the adjoint back; see :class:`ExactRun`."""
        before = {slot: self.values(slot) for slot in ("velocity", "square")}
        cotangent = np.empty_like(gradient)
        slopes = {name: np.zeros(len(self.pieces)) for name in adjoint.schedules}
        for i, piece in enumerate(self.pieces):
            rates = {name: rows[i, t] for name, rows in self.rates.items()}
            d_weights, d_velocity, d_square = (
                adjoint.slots[slot][piece] for slot in ("weights", "velocity", "square")
            )
            corrected = later["square"][piece] / rates["correction2"]
            root = np.sqrt(corrected)
            total = root + rates["epsilon"]
            direction = later["velocity"][piece] / rates["correction1"] / total
            # w + α·direction
            slopes["learning_rate"][i] = d_weights @ direction
            d_direction = rates["learning_rate"] * d_weights
            d_velocity += d_direction / (rates["correction1"] * total)
            slopes["correction1"][i] = -(d_direction @ direction) / rates["correction1"]
            d_total = -d_direction * direction / total
            slopes["epsilon"][i] = d_total.sum()
            d_corrected = d_total * slope_of_root(root)
            d_square += d_corrected / rates["correction2"]
            slopes["correction2"][i] = -(d_corrected @ corrected) / rates["correction2"]
            # the two moving averages
            beta1, beta2, own = self._beta1[i, t], self._beta2[i, t], gradient[piece]
            slopes["beta1"][i] = d_velocity @ (before["velocity"][piece] + own)
            slopes["beta2"][i] = d_square @ (before["square"][piece] - own * own)
            cotangent[piece] = 2.0 * (1.0 - beta2) * d_square * own - (1.0 - beta1) * d_velocity
            d_velocity *= beta1
            d_square *= beta2
        for name, slope in slopes.items():
            self.accumulate(adjoint, name, t, slope)
        to_weights, to_hyper = pull_back_gradient(cotangent)
        adjoint.slots["weights"] += to_weights
        adjoint.hyper += to_hyper


class ExactAdamW(ExactAdam):
    """The same, with weights that decay through a buffer of their own."""

    def __init__(
        self,
        optimizer: Adam,
        state: dict[str, Vector],
        schedules: dict[str, NDArray[np.float64]],
        layout: Layout,
        fraction_bits: int,
    ):
        super().__init__(optimizer, state, schedules, layout, fraction_bits)
        self._numerators["weights"] = np.rint(self.rates["shrinkage"] * 2.0**DECAY_BITS).astype(
            np.int64
        )
        self.buffers["weights"] = [
            RoundingBuffer(piece.stop - piece.start, DECAY_BITS) for piece in self.pieces
        ]

    def step(self, t: int, gradient: Vector) -> None:
        """Advance by one step; see :class:`ExactRun`."""
        self.multiply("weights", self._numerators["weights"][:, t])
        super().step(t, gradient)

    def unstep(self, t: int, gradient_at: GradientAt) -> None:
        """Undo one step; see :class:`ExactRun`."""

        def before_decay(_: Vector) -> Vector:
            self.divide("weights", self._numerators["weights"][:, t])
            return gradient_at(self.values("weights"))

        super().unstep(t, before_decay)

    def pull_back(
        self,
        t: int,
        later: dict[str, Vector],
        gradient: Vector,
        pull_back_gradient: Pullback,
        adjoint: Adjoint,
    ) -> None:
        """Carry the adjoint back; see :class:`ExactRun`."""
        d_weights = adjoint.slots["weights"]

        def through_decay(cotangent: Vector) -> tuple[Vector, Vector]:
            self.accumulate(adjoint, "shrinkage", t, self.dots(d_weights, self.values("weights")))
            d_weights[...] *= self.spread(self.rates["shrinkage"][:, t])
            return pull_back_gradient(cotangent)

        super().pull_back(t, later, gradient, through_decay, adjoint)


def refuse(bad: NDArray[np.bool_], layout: Layout, message: str) -> None:
    """Raise a ValueError that names the first number of a flat vector that is bad, if any is."""
    if bad.any():
        raise ValueError(f"{message}, at {layout.name_of(int(np.argmax(bad)))}")


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
