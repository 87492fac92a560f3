"""Gradients of losses written in PyTorch, and hypergradients of its tensors.

PyTorch is imported where it is used: this module can be imported without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..parameters import Layout, as_aligned
from .base import FrameworkLoss, Loss, Pullback, Vector, missing_extra, refuse_value
from .bridge import value_and_pullback
from .torch_guard import (
    guarded,
    naming_missing_derivatives,
    refuse_closure,
    refuse_once_differentiable,
)


class TorchLoss(FrameworkLoss):
    """A loss written in PyTorch; made by :func:`revlearn.gradients.torch`.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` is given nests of tensors and returns a scalar tensor.
    """

    def __init__(self, loss: Loss):
        try:
            import torch  # noqa: F401
        except ImportError:
            raise missing_extra("torch") from None
        super().__init__(loss)

    @property
    def _torch(self) -> Any:
        import torch  # an attribute that holds a module could not be pickled

        return torch

    def gradients(self, weights: Layout, hyper: Layout, dtype: np.dtype) -> TorchGradients:
        """Return what computes the gradients; see :class:`FrameworkLoss`."""
        return TorchGradients(self.loss, weights, hyper, dtype)

    def owns(self, leaf: Any) -> bool:
        """Say whether a leaf is a tensor."""
        return isinstance(leaf, self._torch.Tensor)

    def is_live(self, leaf: Any) -> bool:
        """Say whether a tensor is being differentiated."""
        return leaf.requires_grad and self._torch.is_grad_enabled()

    def to_numpy(self, leaf: Any) -> NDArray:
        """Return the values of a tensor."""
        leaf = leaf.detach().cpu()
        return (leaf.double() if leaf.is_floating_point() else leaf).numpy()

    def from_numpy(self, flat: Vector) -> Any:
        """Return a vector as a tensor of float64."""
        return self._torch.tensor(flat)

    def like(self, leaf: Any, model: Any) -> Any:
        """Return a tensor with the type of another, on its device."""
        return leaf.to(model) if self.owns(model) and model.is_floating_point() else leaf

    def apply(self, function: Callable[[Sequence[Any]], Any], leaves: Sequence[Any]) -> Any:
        """Return ``function(leaves)`` as one operation with a derivative of its own."""
        return _training().apply(self, function, *leaves)


@cache
def _training() -> Any:
    import torch

    class Refusal(torch.autograd.Function):
        """A derivative as it is, which says so if it is differentiated itself."""

        @staticmethod
        def forward(ctx, derivative, *sources):
            return derivative.clone()

        @staticmethod
        def backward(ctx, *_):
            raise NotImplementedError(
                "second derivatives through training are not implemented: unroll it in PyTorch, "
                "with create_graph=True at each step"
            )

    class Training(torch.autograd.Function):
        """A function of numpy, with the derivative that autograd finds."""

        @staticmethod
        def forward(ctx, loss, function, *leaves):
            ctx.save_for_backward(*leaves)
            ctx.wanted = [i for i in range(len(leaves)) if ctx.needs_input_grad[2 + i]]
            result, ctx.pull_back = value_and_pullback(
                function, [loss.to_numpy(leaf) for leaf in leaves], ctx.wanted
            )
            return loss.from_numpy(result)

        @staticmethod
        def backward(ctx, d_result):
            leaves = ctx.saved_tensors
            derivatives: list[Any] = [None] * len(leaves)
            pulled_back = ctx.pull_back(d_result.detach().double().cpu().numpy())
            for i, values in zip(ctx.wanted, pulled_back, strict=True):
                derivative = torch.tensor(values, dtype=leaves[i].dtype, device=leaves[i].device)
                if torch.is_grad_enabled():  # by create_graph=True
                    derivative = Refusal.apply(derivative, d_result, *leaves)
                derivatives[i] = derivative
            return None, None, *derivatives

    return Training


class TorchGradients:
    """Gradients of a loss written in PyTorch, as flat vectors of numpy.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar tensor.
    weights, hyper : Layout
        Layouts of the two nests.
    dtype : dtype
        Type of the floats that the loss is given: float64 or float32.
    """

    def __init__(self, loss: Loss, weights: Layout, hyper: Layout, dtype: np.dtype):
        import torch

        self._loss, self._weights, self._hyper = loss, weights, hyper
        self._dtype = dtype
        self._constants = [
            torch.tensor(value) if isinstance(value, np.ndarray) else value
            for value in hyper.constants.values()
        ]
        self._first = True

    def gradient(self, weights: Vector, hyper: Vector, t: int) -> Vector:
        """Return ∇_w L(w, θ, t), shape (number of weights,)."""
        with _grad_enabled():
            own = self._tensors(weights, self._weights)
            others = self._tensors(hyper, self._hyper, requires_grad=False, copy=True)
            gradient = self._gradient(own, others, t)
        return _flat(gradient)

    def gradient_and_pullback(
        self,
        weights: Vector,
        hyper: Vector,
        t: int,
        *,
        wrt_hyper: bool,
        known: Vector | None = None,
    ) -> tuple[Vector, Pullback]:
        """Return the gradient and its pullback, from one pass; see :class:`Gradients`."""
        with _grad_enabled():
            own = self._tensors(weights, self._weights)
            others = self._tensors(hyper, self._hyper, requires_grad=wrt_hyper, copy=True)
            gradient = self._gradient(own, others, t, create_graph=True)
        variables = own + others if wrt_hyper else own

        def pull_back(vector: Vector, keep: bool = True) -> tuple[Vector, Vector]:
            cotangents = self._tensors(vector, self._weights, requires_grad=False, copy=True)
            with naming_missing_derivatives():
                pulled_back = _flat(_derivatives(gradient, variables, cotangents, keep))
            return pulled_back[: weights.size], pulled_back[weights.size :]

        if known is None:
            return _flat(gradient), pull_back
        product = pull_back(known, keep=False)
        return _flat(gradient), lambda _: product

    def _gradient(
        self, own: list[Any], others: list[Any], t: int, create_graph: bool = False
    ) -> list[Any]:
        import torch

        nests = self._weights.nested(own), self._hyper.nested(others, self._constants)
        with guarded(self._handed(own, others), t, contents=self._first):
            value = self._loss(*nests, t)
        self._first = False
        refuse_value(value, (torch.Tensor,), t)
        if not (isinstance(value, torch.Tensor) and value.requires_grad):
            warnings.warn(
                "the training loss does not depend on the weights at every step: its gradient is 0 "
                "there",
                stacklevel=2,
            )
            return [torch.zeros_like(leaf) for leaf in own]
        if create_graph:
            refuse_once_differentiable(value)
        else:
            refuse_closure(value, own, t)
        with naming_missing_derivatives():
            return list(
                torch.autograd.grad(value, own, create_graph=create_graph, materialize_grads=True)
            )

    def _handed(self, own: list[Any], others: list[Any]) -> dict[str, Any]:
        """Return all tensors that the loss is given, by name."""
        import torch

        handed = dict(zip(self._weights.names, own, strict=True))
        handed |= zip(self._hyper.names, others, strict=True)
        constants = zip(self._hyper.constants, self._constants, strict=True)
        return handed | {n: value for n, value in constants if isinstance(value, torch.Tensor)}

    def _tensors(
        self, flat: Vector, layout: Layout, *, requires_grad: bool = True, copy: bool = False
    ) -> list[Any]:
        # Aligned, because how a product is summed depends on that. What is not made anew for each
        # gradient is copied: PyTorch lets the loss change it.
        import torch

        typed = as_aligned(flat, self._dtype, copy=copy)
        places = zip(layout.slices, layout.shapes, strict=True)
        return [
            torch.from_numpy(typed[place].reshape(shape)).requires_grad_(requires_grad)
            for place, shape in places
        ]


def _derivatives(
    outputs: list[Any], variables: list[Any], cotangents: list[Any], keep: bool
) -> list[Any]:
    """Return the derivatives of Σ outputs · cotangents, zero for an output that is constant.

    The graph is kept, so that it can be asked again, or given back piece by piece on the way.
    """
    import torch

    pairs = [pair for pair in zip(outputs, cotangents, strict=True) if pair[0].requires_grad]
    if not pairs:
        return [torch.zeros_like(variable) for variable in variables]
    live, weights = zip(*pairs, strict=True)
    return list(
        torch.autograd.grad(live, variables, weights, retain_graph=keep, materialize_grads=True)
    )


@contextmanager
def _grad_enabled() -> Iterator[None]:
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


def _flat(leaves: list[Any]) -> Vector:
    parts = [leaf.detach().numpy().reshape(-1) for leaf in leaves]
    return np.concatenate(parts, dtype=np.float64) if parts else np.zeros(0)
