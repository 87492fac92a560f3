"""An objective of hyperparameters, in any of the three frameworks, as one of a flat vector."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from autograd import value_and_grad

from .gradients import FrameworkLoss, Vector
from .gradients.with_jax import JaxLoss
from .parameters import Layout, Nest, map_leaves

# What autograd and the other frameworks say of each other's arrays.
_OF_BOXES = ("ArrayBox", "Can't differentiate w.r.t. type", "Can't find vector space")


class FlatObjective(Protocol):
    """An objective of one flat vector, and of what else it is given."""

    def value(self, x: Vector, *rest: Any) -> float:
        """Return the value."""
        ...

    def value_and_gradient(self, x: Vector, *rest: Any) -> tuple[float, Vector]:
        """Return the value and the gradient with respect to the vector."""
        ...


def flattened(objective: Callable[..., Any], hyper: Nest) -> tuple[FlatObjective, Layout, Vector]:
    """Return an objective as one of a flat vector, with its layout and where it starts.

    Parameters
    ----------
    objective : callable
        ``objective(hyper, *rest)`` returns a scalar. It is written in ``autograd.numpy``, or in
        the framework that :func:`revlearn.gradients.jax` or :func:`revlearn.gradients.torch`
        around it says.
    hyper : nest
        Hyperparameters, in arrays of numpy or of that framework.

    Examples
    --------
    >>> flat, layout, x = flattened(lambda hyper: hyper["a"] * hyper["b"], {"a": 2.0, "b": 3.0})
    >>> flat.value(x), flat.value_and_gradient(x)
    (6.0, (6.0, array([3., 2.])))
    """
    if not isinstance(objective, FrameworkLoss):
        layout = Layout(hyper, "hyper")
        return _InAutograd(objective, layout), layout, layout.flatten(hyper)
    framework = objective

    def values(leaf: Any) -> Any:
        return framework.to_numpy(leaf) if framework.owns(leaf) else leaf

    hyper = map_leaves(values, hyper)
    layout = Layout(hyper, "hyper")
    kind = _InJax if isinstance(objective, JaxLoss) else _InTorch
    return kind(objective.loss, layout), layout, layout.flatten(hyper)


class _InAutograd:
    def __init__(self, function: Callable[..., Any], layout: Layout):
        def of_vector(x: Any, *rest: Any) -> Any:
            return function(layout.unflatten(x), *rest)

        self._function, self._with_gradient = of_vector, value_and_grad(of_vector)

    def value(self, x: Vector, *rest: Any) -> float:
        return float(self._function(x, *rest))

    def value_and_gradient(self, x: Vector, *rest: Any) -> tuple[float, Vector]:
        try:
            value, gradient = self._with_gradient(x, *rest)
        except (TypeError, ValueError, AttributeError) as error:
            if not _is_of_boxes(error):
                raise
            raise TypeError(
                "the objective cannot work with the arrays that autograd follows (ArrayBox): "
                f"{error}. Write it with autograd.numpy; if it is written in JAX or PyTorch, say "
                "so: hand over rl.gradients.jax(objective) or rl.gradients.torch(objective)"
            ) from error
        return float(value), np.asarray(gradient, dtype=np.float64)


def _is_of_boxes(error: Exception) -> bool:
    """Say whether an objective failed because it was handed autograd's boxes."""
    if any(sign in str(error) for sign in _OF_BOXES):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    modules = [frame.f_globals.get("__name__", "") for frame, _ in frames]
    if any(name.startswith("revlearn.gradients") for name in modules):
        return False  # the training loss failed, not the objective
    return modules[-1] == "autograd.numpy.numpy_boxes" or any(
        name.partition(".")[0] in ("jax", "torch") for name in modules
    )


class _InFramework:
    def __init__(self, function: Callable[..., Any], layout: Layout):
        self._function, self._layout = function, layout

    def _of_vector(self, x: Any, *rest: Any) -> Any:
        return self._function(self._layout.unflatten(x), *rest)


class _InJax(_InFramework):
    def value(self, x: Vector, *rest: Any) -> float:
        import jax

        with jax.enable_x64(True):
            return float(self._of_vector(jax.numpy.asarray(x), *rest))

    def value_and_gradient(self, x: Vector, *rest: Any) -> tuple[float, Vector]:
        import jax

        with jax.enable_x64(True):
            value, gradient = jax.value_and_grad(self._of_vector)(jax.numpy.asarray(x), *rest)
            return float(value), np.array(gradient, dtype=np.float64)


class _InTorch(_InFramework):
    def value(self, x: Vector, *rest: Any) -> float:
        import torch

        return float(self._of_vector(torch.tensor(x), *rest))

    def value_and_gradient(self, x: Vector, *rest: Any) -> tuple[float, Vector]:
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            variable = torch.tensor(x, requires_grad=True)
            value = self._of_vector(variable, *rest)
            if not (isinstance(value, torch.Tensor) and value.requires_grad):
                raise TypeError(
                    f"the objective returned {type(value).__name__} that PyTorch does not follow "
                    "back to the hyperparameters: return a tensor made of them, without detach(), "
                    "item() and numpy() on the way"
                )
            (gradient,) = torch.autograd.grad(value, variable)
        return float(value.detach()), gradient.numpy()
