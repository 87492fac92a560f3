"""Learning rates and momenta, edited point by point, with the hypergradient of each."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
import traitlets
from numpy.typing import NDArray

from .. import datasets, models
from ..schedules import logit, sigmoid
from .explorable import Explorable, bundle

Points = dict[str, list[list[list[float]]]]
Training = Callable[[list[NDArray], list[NDArray]], tuple[Any, float, tuple[Any, Any]]]

SIZES, STEPS, BATCH, TRAINING, VALIDATION = (49, 16, 10), 60, 50, 500, 250

# The best height and momentum of each shape on a grid, on the built-in problem.
TUNED = {
    "constant": (2.8, 0.9),
    "step": (8.0, 0.8),
    "cosine": (8.0, 0.8),
    "warm-up": (5.6, 0.7),
}
# What 200 hypergradients make of the constant rate 0.3: at each point, layer by layer.
LEARNED = {
    "learning_rate": (
        (0.6805, 3.371, 2.873, 6.24, 3.42, 0.6987),
        (0.6032, 5.161, 12.5, 1.389, 3.81, 0.8145),
    ),
    "momentum": (
        (0.8191, 0.8453, 0.8765, 0.9262, 0.9799, 0.8846),
        (0.8183, 0.8155, 0.928, 0.9252, 0.8646, 0.9129),
    ),
}


def digits(start: int = 0, stop: int = TRAINING + VALIDATION) -> tuple[NDArray, NDArray]:
    """Return images of 7 × 7 pixels and their targets: training digits, validation, and others."""
    drawn = datasets.mnist_subset()
    coarse = drawn.images[start:stop].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49)
    return onp.rint(255 * coarse) / 255, drawn.targets[start:stop]


def initial_weights() -> list[dict[str, NDArray]]:
    """Return the weights that the built-in problem starts from."""
    return models.init_mlp(SIZES, onp.random.RandomState(0), scale=0.3)


def problem() -> dict[str, Any]:
    """Return the built-in problem as the front end reads it."""
    images, targets = digits()
    weights = onp.concatenate(
        [leaf.ravel() for layer in initial_weights() for leaf in layer.values()]
    )
    return {
        "images": base64.b64encode(onp.rint(255 * images).astype("u1").tobytes()).decode(),
        "labels": targets.argmax(axis=1).tolist(),
        "weights": base64.b64encode(weights.astype("<f8").tobytes()).decode(),
        "sizes": list(SIZES),
        "training": TRAINING,
        "batch": BATCH,
    }


def shapes(steps: int) -> dict[str, list[list[float]]]:
    """Return shapes of height 1 as points; the cosines end at 0.03."""

    def cosine(at: NDArray, start: int) -> list[list[float]]:
        height = 0.515 + 0.485 * onp.cos(onp.pi * (at - start) / (steps - 1 - start))
        return [[int(t), round(float(h), 4)] for t, h in zip(at, height, strict=True)]

    last, warm, first, second = steps - 1, steps // 6, steps // 3, 2 * steps // 3
    evenly = onp.rint(onp.linspace(0, last, 6))
    thirds = [(0, 1), (first - 1, 1), (first, 3), (second - 1, 3), (second, 9), (last, 9)]
    return {
        "constant": [[int(t), 1.0] for t in evenly],
        "step": [[t, round(1 / divisor, 4)] for t, divisor in thirds],
        "cosine": cosine(evenly, 0),
        "warm-up": [[0, 0.1], *cosine(onp.rint(onp.linspace(warm, last, 5)), warm)],
    }


def as_points(shape: list[list[float]], height: float, momentum: float, layers: int) -> Points:
    """Return a shape as the learning rate of all layers, with one momentum."""
    rates = [[t, float(f"{height * value:.4g}")] for t, value in shape]
    return {
        "learning_rate": [rates] * layers,
        "momentum": [[[t, momentum] for t, _ in shape]] * layers,
    }


class ScheduleEditor(Explorable):
    """Learning rates and momenta as points to move, the loss they lead to, and its hypergradient.

    A schedule is a few points [step, value] for each layer. Between them, the logarithm of a rate
    and the logit of a momentum are interpolated linearly; before the first and after the last
    point it is constant.

    The built-in problem is a 49-16-10 perceptron on 500 digits averaged to 7 × 7 pixels: 60 steps
    on minibatches of 50, judged on 250 other digits. The browser trains it in 64-bit floats and
    keeps all states, since the run is short.

    Parameters
    ----------
    train : callable, optional
        Your own training in place of the built-in one; it needs Python running. It gets a list of
        learning rates and one of momenta, an array of shape (steps,) for each layer, and returns
        the training losses by step, the final loss, and its derivatives with respect to both
        lists. What it raises is shown to the reader.
    steps : int, default 60
        Steps of your own training.
    layers : sequence of str
        Names of what has a schedule of its own in your training.
    learning_rate, momentum : float
        Where the schedules of your training start.

    Attributes
    ----------
    points : dict
        ``{"learning_rate": [layer 1, …], "momentum": […]}``, each layer a list of [step, value].
    error : str
        What your training raised for the present points, or empty.

    Examples
    --------
    >>> editor = ScheduleEditor()
    >>> [[rates[0], rates[-1]] for rates in editor.learning_rate.tolist()]
    [[0.3, 0.3], [0.3, 0.3]]

    The schedules as :class:`revlearn.SGD` takes them, for a network of two layers:

    >>> def nest(schedule):
    ...     return [{"weights": layer, "biases": layer} for layer in schedule]
    >>> import revlearn as rl
    >>> optimizer = rl.SGD(nest(editor.learning_rate), nest(editor.momentum))
    """

    _esm = bundle("schedule_editor.js")
    title = traitlets.Unicode("Schedule editor").tag(sync=True)
    steps = traitlets.Int(STEPS, min=12).tag(sync=True)
    layers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    points = traitlets.Dict().tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)
    presets = traitlets.Dict().tag(sync=True)
    problem = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)
    edited = traitlets.List(default_value=["learning_rate", 0]).tag(sync=True)
    step_length = traitlets.Float(1.0, min=0.05, max=2.0).tag(sync=True)

    def __init__(
        self,
        train: Training | None = None,
        *,
        steps: int = STEPS,
        layers: Sequence[str] = ("layer 1", "layer 2"),
        learning_rate: float = 0.3,
        momentum: float = 0.9,
    ):
        self._train = train
        if train is None:
            if (steps, len(layers)) != (STEPS, 2):
                raise ValueError(
                    f"the built-in problem has {STEPS} steps and 2 layers: pass `train` as well"
                )
            limits = [0.1, 20.0]
        else:
            limits = [float(f"{learning_rate * factor:.2g}") for factor in (1 / 40, 40)]
        count = len(layers)
        start = as_points(shapes(steps)["constant"], learning_rate, momentum, count)
        if train is None:
            presets = {f"constant, {learning_rate}": start}
            for name, shape in shapes(steps).items():
                presets[f"{name}, tuned"] = as_points(shape, *TUNED[name], count)
            at = [t for t, _ in shapes(steps)["constant"]]
            presets["learned"] = {
                kind: [[list(point) for point in zip(at, row, strict=True)] for row in rows]
                for kind, rows in LEARNED.items()
            }
        else:
            presets = {
                name: as_points(shape, learning_rate, momentum, count)
                for name, shape in shapes(steps).items()
            }
        super().__init__(
            steps=steps,
            layers=list(layers),
            limits={"learning_rate": limits, "momentum": [0.3, 0.995]},
            presets=presets,
            problem=problem() if train is None else {},
        )
        self.points = start
        self.observe(self._answer, names="points")
        self._answer()

    @property
    def learning_rate(self) -> NDArray[np.float64]:
        """The learning rates, shape (layers, steps)."""
        return self._by_step("learning_rate", np.log, np.exp)

    @property
    def momentum(self) -> NDArray[np.float64]:
        """The momenta, shape (layers, steps)."""
        return self._by_step("momentum", logit, sigmoid)

    def _by_step(self, kind: str, warp: Callable, back: Callable) -> NDArray[np.float64]:
        def interpolated(points: list[list[float]]) -> NDArray:
            at, values = onp.array(points, dtype=float).T
            return onp.interp(onp.arange(self.steps), at, warp(values))

        return back(onp.stack([interpolated(points) for points in self.points[kind]]))

    @traitlets.validate("points")
    def _checked(self, proposal: Any) -> Points:
        points = proposal["value"]
        if set(points) != {"learning_rate", "momentum"}:
            raise traitlets.TraitError("points has the keys learning_rate and momentum")
        for kind, schedules in points.items():
            lowest, highest = self.limits[kind]
            if len(schedules) != len(self.layers):
                raise traitlets.TraitError(
                    f"{kind} has {len(schedules)} schedules for {len(self.layers)} layers"
                )
            for schedule in schedules:
                at = [step for step, _ in schedule]
                if (
                    not at
                    or at != sorted({int(t) for t in at})
                    or at[0] < 0
                    or at[-1] >= self.steps
                ):
                    raise traitlets.TraitError(
                        f"the points of {kind} stand at the steps {at}; "
                        f"they must be whole, rise and lie between 0 and {self.steps - 1}"
                    )
                for step, value in schedule:
                    if not lowest <= value <= highest:
                        raise traitlets.TraitError(
                            f"{kind} {value} at step {step} is not between {lowest} and {highest}"
                        )
        return points

    def _answer(self, change: Any = None) -> None:
        """Train with the present points, if this is up to Python, and tell the front end."""
        if self._train is None:
            return
        try:
            answer = self._trained(self._train)
        except Exception as error:  # whatever it is, the reader must see it
            self.error = f"{type(error).__name__}: {error}"
            return
        with self.hold_sync():
            self.answer, self.error = answer, ""

    def _trained(self, train: Training) -> dict[str, Any]:
        by_step, final, slopes = train(list(self.learning_rate), list(self.momentum))
        answer = {
            "points": self.points,
            "losses": onp.asarray(by_step).tolist(),
            "value": float(final),
        }
        shape = (len(self.layers), self.steps)
        for kind, slope in zip(("learning_rate", "momentum"), slopes, strict=True):
            array = onp.asarray(slope, dtype=float)
            if array.shape != shape:
                raise ValueError(f"the derivatives by {kind} have shape {array.shape}, not {shape}")
            answer[kind] = array.tolist()
        for name in ("losses", "value", "learning_rate", "momentum"):
            if not onp.isfinite(answer[name]).all():
                raise FloatingPointError(f"training gave a {name} that is not finite")
        return answer
