r"""Gaussian processes that are told values *and* gradients.

A derivative is a linear map, so the derivatives of a Gaussian process are Gaussian, jointly with
its values. Their covariances are derivatives of the kernel:

.. math:: \operatorname{cov}(f(x), \partial_j f(x')) = \frac{\partial k}{\partial x'_j}, \qquad
    \operatorname{cov}(\partial_i f(x), \partial_j f(x'))
    = \frac{\partial^2 k}{\partial x_i \, \partial x'_j} .

The kernel is Matérn 5/2 with a length scale for each dimension. Its samples have the one derivative
that is needed, and no more. Needs scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Logarithms of the signal's and both noises' standard deviations: a priori means, deviations, and
# bounds. Values are standardised, gradients are per side of a box of unit sides.
_LOG_SIGNAL = (0.0, 1.0, np.log(0.1), np.log(100.0))
_LOG_VALUE_NOISE = (np.log(1e-2), 1.5, np.log(1e-3), np.log(1.0))
_LOG_GRADIENT_NOISE = (np.log(1e-1), 1.5, np.log(1e-3), np.log(30.0))
_SHORTEST, _LONGEST = 0.02, 200.0


def covariance(a: Any, b: Any, length_scales: Any) -> Any:
    r"""Return the covariances of values and gradients at one set of points with those at another.

    With :math:`s = \sum_i (x_i - x'_i)^2 / \ell_i^2`, :math:`k = \kappa(s)`,
    :math:`\kappa(s) = (1 + \sqrt{5s} + 5s/3)\, e^{-\sqrt{5s}}` and
    :math:`u_i = (x_i - x'_i) / \ell_i^2`, the blocks are

    .. math:: k = \kappa, \quad \partial_{x'_j} k = -2 \kappa' u_j, \quad
        \partial_{x_i} k = 2 \kappa' u_i, \quad
        \partial_{x_i} \partial_{x'_j} k = -2 \kappa' \delta_{ij} / \ell_i^2 - 4 \kappa'' u_i u_j .

    Parameters
    ----------
    a : ndarray, shape (n, D)
        Points; boxes of autograd pass through, here and below.
    b : ndarray, shape (m, D)
        Points.
    length_scales : ndarray, shape (D,)
        In units of the points.

    Returns
    -------
    ndarray, shape (n (D + 1), m (D + 1))
        Row by row the value at the first point, its D derivatives, the value at the second point, …

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning", MIT Press 2006,
    sections 4.2 and 9.4.

    Examples
    --------
    >>> covariance(np.array([[0.1]]), np.array([[0.0]]), np.array([0.5])).round(3)
    array([[ 0.968,  0.617],
           [-0.617,  5.317]])
    """
    n, m, dimensions = len(a), len(b), a.shape[1]
    difference = a[:, None, :] - b[None, :, :]
    k, k1, k2 = _matern(anp.sum((difference / length_scales) ** 2, axis=2))
    u = difference / length_scales**2
    slopes = 2.0 * k1[:, :, None] * u
    bends = -4.0 * (k2[:, :, None] * u)[:, :, :, None] * u[:, :, None, :]
    bends = bends - 2.0 * k1[:, :, None, None] * anp.diag(1.0 / length_scales**2)
    of_values = anp.concatenate([k[:, :, None], -slopes], axis=2)
    of_gradients = anp.concatenate([slopes[:, :, :, None], bends], axis=3)
    blocks = anp.concatenate([of_values[:, :, None, :], of_gradients], axis=2)
    size = dimensions + 1
    return anp.reshape(anp.transpose(blocks, (0, 2, 1, 3)), (n * size, m * size))


def value_covariance(a: Any, b: Any, length_scales: Any) -> Any:
    """Return the rows of :func:`covariance` that belong to values at `a`: (n, m (D + 1))."""
    difference = a[:, None, :] - b[None, :, :]
    k, k1, _ = _matern(anp.sum((difference / length_scales) ** 2, axis=2))
    slopes = 2.0 * k1[:, :, None] * difference / length_scales**2
    rows = anp.concatenate([k[:, :, None], -slopes], axis=2)
    return anp.reshape(rows, (len(a), -1))


def _matern(s: Any) -> tuple[Any, Any, Any]:
    """Return the Matérn 5/2 kernel as a function of the squared distance, and two derivatives."""
    root = anp.sqrt(5.0 * s + 1e-18)  # so that autograd does not divide by zero at s = 0
    decay = anp.exp(-root)
    return (
        (1.0 + root + root**2 / 3.0) * decay,
        -5.0 / 6.0 * (1.0 + root) * decay,
        25.0 / 12.0 * decay,
    )


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process of mean zero, conditioned on noisy values and gradients.

    Parameters
    ----------
    points : ndarray, shape (n, D)
        In a box of unit sides.
    observations : ndarray, shape (n, D + 1)
        The value and the gradient at each point, the values standardised.
    observed : ndarray of bool, shape (n, D + 1)
        Which of them there are; the others are not looked at.
    parameters : ndarray, shape (D + 3,)
        Logarithms of the length scales and of three standard deviations: of the process, of the
        noise of values, of the noise of derivatives. :meth:`fitted` finds them.

    Raises
    ------
    ValueError
        If shapes do not fit each other.

    Notes
    -----
    N numbers observed cost N³ operations and N² memory: with all gradients N = n (D + 1).

    Examples
    --------
    One value and one slope of a straight line, and what they say about a point nearby:

    >>> points, observations = np.array([[0.5]]), np.array([[1.0, -2.0]])
    >>> parameters = np.log([1.0, 1.0, 1e-3, 1e-3])
    >>> process = GaussianProcess(points, observations, np.ones((1, 2), bool), parameters)
    >>> mean, deviation = process.predict(np.array([[0.55]]))
    >>> mean.round(2), deviation.round(3)
    (array([0.9]), array([0.006]))
    """

    points: Matrix
    observations: Matrix
    observed: NDArray[np.bool_]
    parameters: Vector

    def __post_init__(self) -> None:
        n, dimensions = self.points.shape
        for name in ("observations", "observed"):
            shape = getattr(self, name).shape
            if shape != (n, dimensions + 1):
                raise ValueError(f"{name} has shape {shape}, expected {(n, dimensions + 1)}")
        if self.parameters.shape != (dimensions + 3,):
            raise ValueError(
                f"parameters has shape {self.parameters.shape}, expected {(dimensions + 3,)}"
            )

    def fitted(self, iterations: int = 30) -> GaussianProcess:
        """Return the same process with the parameters of largest posterior density.

        That is marginal likelihood times a wide prior. The gradient comes from autograd. The search
        is L-BFGS and starts at the means of the prior, whatever the parameters are now.

        Parameters
        ----------
        iterations : int
            Of L-BFGS, at most.
        """
        prior = np.array(
            [
                *[_log_length_scale_prior(self.points.shape[1])] * self.points.shape[1],
                _LOG_SIGNAL,
                _LOG_VALUE_NOISE,
                _LOG_GRADIENT_NOISE,
            ]
        )
        mean, deviation, low, high = prior.T

        def objective(parameters: Vector) -> tuple[float, Vector]:
            value, slope = self.negative_log_likelihood(parameters)
            z = (parameters - mean) / deviation
            return value + 0.5 * float(z @ z), slope + z / deviation

        found = minimize(
            objective,
            mean,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": iterations},
        )
        return GaussianProcess(self.points, self.observations, self.observed, found.x)

    def negative_log_likelihood(self, parameters: Vector) -> tuple[float, Vector]:
        """Return −log p(observations | parameters), in nats, and its gradient, shape (D + 3,)."""
        pull_back, matrix = make_vjp(self._prior_covariance)(parameters)
        targets = self.observations[self.observed]
        factor = cholesky(matrix, lower=True)
        alpha = cho_solve((factor, True), targets)
        value = 0.5 * targets @ alpha + np.sum(np.log(np.diag(factor)))
        inverse = cho_solve((factor, True), np.eye(len(targets)))
        gradient = pull_back(0.5 * (inverse - np.outer(alpha, alpha)))
        return float(value + 0.5 * len(targets) * np.log(2.0 * np.pi)), gradient

    def _prior_covariance(self, parameters: Any) -> Any:
        """Return the covariance of what is observed, noise included."""
        dimensions = self.points.shape[1]
        scales, (signal, value_noise, gradient_noise) = (
            anp.exp(parameters[:dimensions]),
            anp.exp(2.0 * parameters[dimensions:]),
        )
        rows = np.flatnonzero(self.observed)
        is_value = rows % (dimensions + 1) == 0
        if is_value.all():  # the blocks of derivatives would be made in vain
            matrix = value_covariance(self.points[self.observed[:, 0]], self.points, scales)
            matrix = matrix[:, rows]
        else:
            matrix = covariance(self.points, self.points, scales)[rows][:, rows]
        return signal * matrix + anp.diag(is_value * value_noise + ~is_value * gradient_noise)

    def predict(self, points: Any) -> tuple[Any, Any]:
        """Return mean and standard deviation of the process, without noise; autograd may trace it.

        Parameters
        ----------
        points : ndarray, shape (m, D)

        Returns
        -------
        mean, deviation : ndarray, shape (m,)
        """
        dimensions = self.points.shape[1]
        scales, signal = self.length_scales, np.exp(2.0 * self.parameters[dimensions])
        rows = np.flatnonzero(self.observed)
        across = signal * value_covariance(points, self.points, scales)[:, rows]
        alpha, inverse_factor = self._conditioned
        explained = anp.sum(anp.dot(across, inverse_factor.T) ** 2, axis=1)
        # Rounding could make a variance negative where all is known.
        return anp.dot(across, alpha), anp.sqrt(anp.maximum(signal - explained, 1e-12 * signal))

    @property
    def length_scales(self) -> Vector:
        """Length scales, shape (D,), in units of the box's sides."""
        return np.exp(self.parameters[: self.points.shape[1]])

    @cached_property
    def _conditioned(self) -> tuple[Vector, Matrix]:
        """Return K⁻¹y and the inverse of the Cholesky factor of K."""
        factor = cholesky(self._prior_covariance(self.parameters), lower=True)
        alpha = cho_solve((factor, True), self.observations[self.observed])
        return alpha, solve_triangular(factor, np.eye(len(factor)), lower=True)


def _log_length_scale_prior(dimensions: int) -> tuple[float, float, float, float]:
    """Return mean, deviation and bounds of log ℓ.

    Distances in a box grow like √D, and length scales are to grow with them: C. Hvarfner,
    E. O. Hellsten, L. Nardi, "Vanilla Bayesian Optimization Performs Great in High Dimensions",
    ICML 2024, whose prior is longer still.
    """
    return 0.5 * np.log(dimensions), 1.0, np.log(_SHORTEST), np.log(_LONGEST)
