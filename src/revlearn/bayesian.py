"""Bayesian optimisation that may be told hypergradients: ask for a point, tell what it gave.

The model is a Gaussian process on values and gradients (:mod:`revlearn.gaussian_process`). The next
point is that of the largest *expected improvement* (:mod:`revlearn.expected_improvement`) over the
best value so far. Needs scipy.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from .checks import whole_number
from .expected_improvement import log_expected_improvement
from .gaussian_process import GaussianProcess, Matrix, Vector

_CAP = 3.0  # times the distance from the best value to the median of the first results
_STEEPEST = 100.0  # standard deviations of the values per side of the box
_ONE_PLACE = 0.02  # sides of the box: the shortest length scale of the model
_CANDIDATES, _CLIMBS = 256, 4


class BayesianSearch:
    """Minimise a function in a box, with as few evaluations as a model of it allows.

    The first points are the start and a Latin hypercube. After them each point is the one of
    largest expected improvement. What :meth:`ask` returns depends on the arguments below and on
    what was told, and on nothing else: a search that was interrupted goes on when it is told its
    history again.

    Parameters
    ----------
    low, high : array, shape (D,)
        Corners of the box.
    seed : int
        Draws the first points, and the candidates among which each climb starts.
    start : array, shape (D,), optional
        The first point to ask for, in the box. By default its centre.
    first : int
        How many points to ask for before there is a model, 1 or more.
    refit_every : int
        The parameters of the model are found anew after so many results, which costs the most time.

    Attributes
    ----------
    points : list of ndarray, shape (D,)
        What was told, in order, like the two below.
    values : list of float
        NaN and infinity included.
    gradients : list of ndarray, shape (D,)
        NaN where none was told.

    Raises
    ------
    ValueError
        If the box is empty or not finite, the start outside, or `first` or `refit_every` no whole
        number from 1 on.

    Notes
    -----
    With D hyperparameters and n results with gradients, a model costs (n (D + 1))³ operations: keep
    n (D + 1) below about 1,300. Results may come with and without gradients.

    A value that is not finite, or lies far off, is clipped, and a gradient that belongs to it, or
    is itself far too steep, is left out: see :func:`cleaned`.

    Examples
    --------
    >>> search = BayesianSearch([-2.0, -2.0], [2.0, 2.0], first=1)
    >>> for _ in range(8):
    ...     x = search.ask()
    ...     search.tell(x, np.sum((x - 0.7) ** 2), 2.0 * (x - 0.7))
    >>> point, value = search.best
    >>> bool(value < 1e-3)
    True
    """

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        *,
        seed: int = 0,
        start: ArrayLike | None = None,
        first: int = 5,
        refit_every: int = 1,
    ):
        self.low, self.high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if self.low.ndim != 1 or self.low.shape != self.high.shape:
            raise ValueError(f"corners of shapes {self.low.shape} and {self.high.shape}: not a box")
        with np.errstate(invalid="ignore", over="ignore"):
            sides = self.high - self.low
        sound = np.isfinite(sides) & (sides > 0.0)
        if not sound.all():
            bad = int(np.argmin(sound))
            raise ValueError(
                f"side {bad} of the box goes from {self.low[bad]} to {self.high[bad]}: give two "
                "finite ends, the lower one first"
            )
        self.first = whole_number(first, "first", 1)
        self.refit_every = whole_number(refit_every, "refit_every", 1)
        begin = 0.5 * (self.low + self.high) if start is None else np.asarray(start, np.float64)
        if begin.shape != self.low.shape or not np.all((self.low <= begin) & (begin <= self.high)):
            raise ValueError(f"start {begin} is not a point of the box")
        self.seed = seed
        self.points: list[Vector] = []
        self.values: list[float] = []
        self.gradients: list[Vector] = []
        self._design = np.vstack([begin, self._scaled(self._latin_hypercube(self.first - 1))])
        self._parameters: tuple[int, Vector] = (0, np.zeros(0))

    def ask(self) -> Vector:
        """Return the point to evaluate next, shape (D,): the same until something is told."""
        n = len(self.values)
        if n < self.first:
            return self._design[n].copy()
        model, incumbent = self.model()
        best = float(model.predict(incumbent[None])[0][0])

        def improvement(points: Any) -> Any:
            return log_expected_improvement(*model.predict(points), best)

        def objective(x: Vector) -> tuple[float, Vector]:
            value, slope = value_and_grad(lambda x: -improvement(anp.reshape(x, (1, -1)))[0])(x)
            return float(value), slope

        # Candidates anywhere, and near the best point, closer and closer.
        random = np.random.default_rng([self.seed, n])
        anywhere = random.random((_CANDIDATES, len(self.low)))
        nearness = 10.0 ** random.uniform(-3.0, -0.3, size=(_CANDIDATES, 1))
        near = incumbent + nearness * random.standard_normal(anywhere.shape)
        candidates = np.vstack([anywhere, np.clip(near, 0.0, 1.0)])
        promising = candidates[np.argsort(-improvement(candidates), kind="stable")[:_CLIMBS]]
        climbs = [
            minimize(
                objective,
                x,
                jac=True,
                method="L-BFGS-B",
                bounds=[(0.0, 1.0)] * len(x),
                options={"maxiter": 50},
            )
            for x in promising
        ]
        return self._scaled(min(climbs, key=lambda climb: climb.fun).x)

    def tell(self, point: ArrayLike, value: float, gradient: ArrayLike | None = None) -> None:
        """Take in what a point gave.

        Parameters
        ----------
        point : array, shape (D,)
            From :meth:`ask`, or any other, outside of the box too.
        value : float
            NaN or infinite for a run that diverged.
        gradient : array, shape (D,), optional
            The hypergradient there. Components that are not finite count as not told.

        Raises
        ------
        ValueError
            If a shape is not that of the box, or the point is not finite.
        """
        x = np.array(point, np.float64)
        slope = np.full(x.shape, np.nan) if gradient is None else np.array(gradient, np.float64)
        for name, array in (("point", x), ("gradient", slope)):
            if array.shape != self.low.shape:
                raise ValueError(
                    f"{name} {len(self.values)} has shape {array.shape}, not {self.low.shape}"
                )
        if not np.isfinite(x).all():
            raise ValueError(f"point {len(self.values)} is {x}; its numbers must be finite")
        self.points.append(x)
        self.values.append(float(value))
        self.gradients.append(slope)

    @property
    def best(self) -> tuple[Vector, float]:
        """The point with the smallest finite value that was told, and the value."""
        values = np.array(self.values)
        if not np.isfinite(values).any():
            raise ValueError("no finite value has been told yet")
        i = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        return self.points[i].copy(), self.values[i]

    def model(self) -> tuple[GaussianProcess, Vector]:
        """Return the process in the unit box, and the told point where its mean is smallest.

        Its values are standardised: see :func:`cleaned`. Its parameters are those found from the
        first points and every `refit_every`-th result since.

        Raises
        ------
        ValueError
            If nothing has been told yet.
        """
        told = len(self.values)
        if told == 0:
            raise ValueError("there is no model before a first result is told")
        n = told - (told - self.first) % self.refit_every if told > self.first else told
        if self._parameters[0] != n:
            self._parameters = n, self._process(n).fitted().parameters
        process = self._process(told)
        process = GaussianProcess(
            process.points, process.observations, process.observed, self._parameters[1]
        )
        return process, process.points[int(np.argmin(process.predict(process.points)[0]))]

    def _process(self, n: int) -> GaussianProcess:
        """Return a process on the first `n` results, with parameters still to be found."""
        side = self.high - self.low
        points = (np.array(self.points[:n]) - self.low) / side
        observations, observed = cleaned(
            np.array(self.values[:n]), np.array(self.gradients[:n]) * side, self.first, points
        )
        return GaussianProcess(points, observations, observed, np.zeros(len(side) + 3))

    def _scaled(self, unit: Vector) -> Vector:
        return self.low + (self.high - self.low) * unit

    def _latin_hypercube(self, n: int) -> Matrix:
        """Return `n` points of the unit box; in each dimension each n-th part holds one."""
        random = np.random.default_rng([self.seed])
        ranks = np.array([random.permutation(n) for _ in self.low]).T
        return (ranks + random.random(ranks.shape)) / max(n, 1)


def cleaned(
    values: Vector, gradients: Matrix, first: int, points: Matrix | None = None
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Standardise values, and gradients with them; clip values that are far off.

    A value above the best one plus 3 times the distance from it to the median of the first results
    is clipped there; one that is not finite counts as such. A gradient is left out if its value is
    clipped, or if it would cross 100 standard deviations of the values within one side of the box.

    Results of one place, within 0.02 of the box of each other, do not say how values differ. If
    most of the first results lie where the best one does, nothing below the median of the results
    elsewhere is clipped. If all results lie there and the median slope is too steep for them, that
    slope takes the place of the deviation.

    Parameters
    ----------
    values : ndarray, shape (n,)
    gradients : ndarray, shape (n, D)
        Per side of the box. NaN where there is none.
    first : int
        How many results make the median: those before the search goes where values are small.
    points : ndarray, shape (n, D), optional
        Where the results belong, in the unit box. Without them no two lie in one place.

    Returns
    -------
    observations : ndarray, shape (n, D + 1)
        Values minus their mean, and gradients, both over the values' standard deviation.
    observed : ndarray of bool, shape (n, D + 1)
        What may be used.

    Examples
    --------
    >>> values, gradients = np.array([1.0, 2.0, 3.0, 1e9, np.nan]), np.ones((5, 1))
    >>> observations, observed = cleaned(values, gradients, first=3)
    >>> observations[:, 0].round(2)
    array([-1.54, -0.69,  0.17,  1.03,  1.03])
    >>> observed[:, 1]
    array([ True,  True,  True, False, False])
    """
    finite = np.isfinite(values)
    kept = values[finite]
    best = kept.min() if len(kept) else 0.0
    early = values[:first][finite[:first]]
    elsewhere = _elsewhere(values, finite, points)
    # With one value alone, or none, the slopes say what a difference is, or else it is one.
    steep = np.max(np.abs(gradients), axis=1, initial=0.0)
    usual = steep[finite & np.isfinite(steep) & (steep > 0.0)]
    unit = float(np.median(usual)) if len(usual) else 1.0
    distance = float(np.median(early if len(early) else kept)) - best if len(kept) else 0.0
    cap = best + _CAP * (distance or unit)
    others = values[finite & elsewhere]
    if len(others) and 2 * np.sum((finite & ~elsewhere)[:first]) > len(early):
        cap = max(cap, float(np.median(others)))
    clipped = np.where(finite, np.minimum(values, cap), cap)
    spread = float(np.std(clipped)) or unit
    if len(usual) and not elsewhere.any() and unit > _STEEPEST * spread:
        spread = unit
    observations = np.column_stack([clipped - clipped.mean(), gradients]) / spread
    usable = finite & (values <= cap) & (steep <= _STEEPEST * spread)
    observed = np.isfinite(observations) & np.column_stack(
        [np.ones(len(values), bool), np.repeat(usable[:, None], gradients.shape[1], axis=1)]
    )
    return np.where(observed, observations, 0.0), observed


def _elsewhere(
    values: Vector, finite: NDArray[np.bool_], points: Matrix | None
) -> NDArray[np.bool_]:
    """Say which results lie at another place than the best one."""
    if not finite.any():
        return ~finite
    best = int(np.argmin(np.where(finite, values, np.inf)))
    if points is None:
        return np.arange(len(values)) != best
    return np.max(np.abs(points - points[best]), axis=1) > _ONE_PLACE
