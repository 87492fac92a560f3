"""Decay factors as ratios n / 2**bits, rounded once and used wherever the factor stands."""

from __future__ import annotations

import numpy as np
from autograd.extend import defvjp, primitive
from numpy.typing import NDArray

from ..parameters import Layout


def ratios(
    factors: NDArray[np.float64],
    bits: int,
    layout: Layout | None = None,
    *,
    name: str = "momentum",
    above: float = 0.0,
    averages: bool = True,
) -> NDArray[np.float64]:
    """Return the ratios n / 2**bits nearest to decay factors, with n at least 1.

    Parameters
    ----------
    factors : ndarray, shape (rows, steps)
        One row for all leaves, or one for each.
    bits : int
        Bits of the denominator.
    layout : Layout, optional
        Names the leaves in errors.
    name : str
        Name of the schedule in errors.
    above : float
        Factors must be larger than this, and at most 1.
    averages : bool
        Whether something new enters with the factor 1 − n / 2**bits. It must then not be rounded
        to 0; decay of weights may, where the learning rate is next to nothing.

    Returns
    -------
    ndarray of float64, shape (rows, steps)
        Multiples of 2**-bits, in (0, 1]: floats hold them exactly.

    Raises
    ------
    ValueError
        If a factor lies outside (above, 1]; or, of an average, is below 1 and would be rounded
        to 1.
    """
    denominator = 2.0**bits
    rounded = np.rint(factors * denominator)

    def first(bad: NDArray[np.bool_]) -> str:
        row, step = np.argwhere(bad)[0]
        leaf = layout.name_as(name, row) if layout and len(factors) > 1 else name
        return f"{leaf} is {factors[row, step]} at step {step}"

    outside = ~((factors > above) & (factors <= 1.0))
    if outside.any():
        reason = (
            "At 0 (sigmoid(x) is 0 below −37) each step would discard the whole moving average, 64 "
            f"bits a weight; the smallest ratio, 2**-{bits}, discards {bits}. Above 1 it would grow"
            if averages
            else "Below, a step would discard more than a bit of each weight; above, weights would "
            "grow. Choose a smaller weight decay or learning rate, neither of them negative"
        )
        raise ValueError(f"{first(outside)}; it must lie in ({above:g}, 1]. {reason}")
    lost = (rounded == denominator) & (factors < 1.0)
    if averages and lost.any():
        finer = (
            f", more bits in SGD (momentum_bits={min(bits + 8, 32)})" if name == "momentum" else ""
        )
        raise ValueError(
            f"{first(lost)}, which {bits} bits round to 1: nothing decays, and nothing new enters. "
            f"Choose at most 1 - 2**-{bits}{finer}, or 1 itself"
        )
    np.maximum(rounded, np.floor(above * denominator) + 1, out=rounded)
    rounded /= denominator
    return rounded


@primitive
def nearest_ratio(factors, bits, name="momentum", above=0.0, averages=True):
    """Return decay factors as :func:`ratios` rounds them; the derivative is that of the ratio.

    Parameters
    ----------
    factors : scalar or ndarray, shape (rows, steps)
        Factors, or boxes of autograd.
    bits : int
        Bits of the denominator.
    name, above, averages
        As for :func:`ratios`.
    """
    rows = np.reshape(factors, (-1, 1)) if np.ndim(factors) < 2 else factors
    return ratios(rows, bits, name=name, above=above, averages=averages).reshape(np.shape(factors))


# The ratio moves as if it could take any value.
defvjp(nearest_ratio, lambda ans, factors, *rest: lambda g: g, argnums=(0,))
