r"""Expected improvement over the best value so far, its logarithm, and the slope of that.

.. math:: \mathrm{EI}(x) = \mathrm{E}[\max(y^* - f(x), 0)] = \sigma\, h(z), \qquad
    h(z) = \varphi(z) + z\, \Phi(z), \qquad z = (y^* - \mu) / \sigma

for a normal distribution of :math:`f(x)` and the best value :math:`y^*`. Needs scipy.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from scipy.special import erfcx, ndtr

from .gaussian_process import Vector


def log_expected_improvement(mean: Any, deviation: Any, best: float) -> Any:
    """Return the logarithm of the expected improvement; autograd may trace it.

    The logarithm stays finite, and keeps a slope, where the improvement itself underflows.

    Parameters
    ----------
    mean, deviation : ndarray, shape (m,)
        Of normal distributions; deviations are positive.
    best : float
        The value to improve on, by being smaller.

    References
    ----------
    D. R. Jones, M. Schonlau, W. J. Welch, "Efficient Global Optimization of Expensive Black-Box
    Functions", Journal of Global Optimization 1998; for the logarithm S. Ament, S. Daulton,
    D. Eriksson, M. Balandat, E. Bakshy, "Unexpected Improvements to Expected Improvement for
    Bayesian Optimization", NeurIPS 2023.

    Examples
    --------
    >>> log_expected_improvement(np.array([0.0, 5.0]), np.ones(2), best=0.0).round(3)
    array([ -0.919, -16.744])
    """
    return anp.log(deviation) + _log_h((best - mean) / deviation)


@primitive
def _log_h(z: Vector) -> Vector:
    """Return log h(z). For z < 0 it is log φ(z) + log(1 + z M(z)), with Mills' ratio M = Φ/φ."""
    below, above = np.minimum(z, 0.0), np.maximum(z, 0.0)
    return np.where(
        z < 0.0,
        _log_density(below) + np.log(_relative_h(below)),
        np.log(np.exp(_log_density(above)) + above * ndtr(above)),
    )


def _log_density(z: Vector) -> Vector:
    """Return log φ(z)."""
    return -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi)


def _relative_h(z: Vector) -> Vector:
    """Return h(z) / φ(z) = 1 + z M(z) for z ≤ 0; its leading term 1/z² where that cancels."""
    return np.where(z > -1e3, 1.0 + z * _mills(z), 1.0 / np.minimum(z, -1.0) ** 2)


def _mills(z: Vector) -> Vector:
    """Return Φ(z) / φ(z) for z ≤ 0."""
    return np.sqrt(0.5 * np.pi) * erfcx(-z / np.sqrt(2.0))


def _slope_of_log_h(z: Vector) -> Vector:
    """Return Φ(z) / h(z), the derivative of log h."""
    below, above = np.minimum(z, 0.0), np.maximum(z, 0.0)
    h_above = np.exp(_log_density(above)) + above * ndtr(above)
    return np.where(z < 0.0, _mills(below) / _relative_h(below), ndtr(above) / h_above)


defvjp(_log_h, lambda ans, z: lambda g: g * _slope_of_log_h(z))
