"""From arrays of a framework to training in numpy, and derivatives back to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autograd.core import make_vjp
from autograd.tracer import isbox
from numpy.typing import NDArray

from ..parameters import Layout, Nest, map_leaves, named_leaves
from .base import FrameworkLoss, Vector


def train_across(
    loss: FrameworkLoss, final_weights: Callable[[dict[str, Nest]], Any], nests: dict[str, Nest]
) -> Nest:
    """Train on nests that may hold arrays of a framework, and return what the framework follows.

    Parameters
    ----------
    loss : FrameworkLoss
        The training loss.
    final_weights : callable
        From nests to the flat final weights, in ``autograd.numpy``.
    nests : dict of str to nest
        All that can be differentiated. ``"weights"`` are the initial weights.

    Returns
    -------
    nest
        Final weights: arrays of the framework if there is one among the leaves of `nests`, and
        none is differentiated by autograd. They have the types of the initial weights.
    """
    leaves: list[Any] = [leaf for _, leaf in named_leaves(nests, "")]
    own = [i for i, leaf in enumerate(leaves) if loss.owns(leaf)]
    live = [i for i in own if loss.is_live(leaves[i])]
    layout = Layout(nests["weights"], "weights")
    if any(isbox(leaf) for leaf in leaves) or not own:
        if live:
            raise TypeError(
                "training is differentiated by autograd and by the framework of its loss at once: "
                "write the objective in one of the two"
            )
        return layout.unflatten(final_weights(as_numpy(loss, nests)))

    fixed = [
        loss.to_numpy(leaf) if loss.owns(leaf) and i not in live else leaf
        for i, leaf in enumerate(leaves)
    ]

    def function(values: Sequence[Any]) -> Any:
        filled = list(fixed)
        for i, value in zip(live, values, strict=True):
            filled[i] = value
        following = iter(filled)
        return final_weights(map_leaves(lambda _: next(following), nests))

    if live:
        flat = loss.apply(function, [leaves[i] for i in live])
    else:
        flat = loss.from_numpy(function([]))
    models = (leaf for _, leaf in named_leaves(nests["weights"], ""))
    return map_leaves(lambda leaf: loss.like(leaf, next(models)), layout.unflatten(flat))


def as_numpy(loss: FrameworkLoss, nests: dict[str, Nest]) -> dict[str, Nest]:
    """Return nests with the values of a framework's arrays in their place.

    Raises
    ------
    TypeError
        If the framework is to differentiate one.
    """

    def values(leaf: Any) -> Any:
        if not loss.owns(leaf):
            return leaf
        if loss.is_live(leaf):
            raise TypeError("record keeps a run, it cannot be differentiated: call train instead")
        return loss.to_numpy(leaf)

    return map_leaves(values, nests)


def value_and_pullback(
    function: Callable[[Sequence[Any]], Any], values: Sequence[NDArray], wanted: Sequence[int]
) -> tuple[Vector, Callable[[Vector], Sequence[NDArray]] | None]:
    """Return a function's value, and its pullback to some of its arguments; None if to none.

    Parameters
    ----------
    function : callable
        From a sequence of arrays to a vector, in ``autograd.numpy``.
    values : sequence of ndarray
        Its arguments.
    wanted : sequence of int
        Which of them are differentiated. The others cost nothing.
    """
    if not wanted:
        return function(values), None

    def of_wanted(chosen: Any) -> Any:
        filled = list(values)
        for place, i in enumerate(wanted):
            filled[i] = chosen[place]
        return function(filled)

    pull_back, value = make_vjp(of_wanted, tuple(values[i] for i in wanted))
    return value, pull_back
