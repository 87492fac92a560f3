"""A run as one operation for autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import isbox

Run = TypeVar("Run")


@dataclass
class Operation(Generic[Run]):
    """A run as one operation for autograd, whose derivative runs it backwards.

    Attributes
    ----------
    start : callable
        From arrays to a finished run.
    value : callable
        From a finished run to the array that the operation returns.
    pull_back : callable
        ``pull_back(finished, derivative, wanted)`` carries the derivative with respect to that
        array back and returns those with respect to all arguments of `start`, of which only the
        `wanted` positions are used. It may use the run up.
    advice : str
        What to do for second derivatives.
    finished : list
        The run, from the forward to the backward pass, which takes it out: of several threads only
        one does.
    """

    start: Callable[..., Run]
    value: Callable[[Run], Any]
    pull_back: Callable[[Run, Any, Sequence[int]], Sequence[Any]]
    advice: str
    finished: list[Run] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> Any:
        """Run, and return the value; arguments may be boxes of autograd."""
        return _operate(self, *arguments)


@primitive
def _operate(operation: Operation, *arguments: Any) -> Any:
    finished = operation.start(*arguments)
    operation.finished[:] = [finished]
    return operation.value(finished)


def _vjp(argnums, ans, args, kwargs):
    operation, *arguments = args
    wanted = [argnum - 1 for argnum in argnums]

    def pull_back(derivative):
        # A box among the arguments means that someone differentiates this derivative.
        if any(isbox(value) for value in (derivative, ans, *arguments)):
            raise NotImplementedError(f"second derivatives are not implemented: {operation.advice}")
        # The way back uses the run up, to save memory. For one more derivative, run again.
        try:
            finished = operation.finished.pop()
        except IndexError:
            finished = operation.start(*arguments)
        parts = operation.pull_back(finished, derivative, wanted)
        return [parts[i] for i in wanted]

    return pull_back


defvjp_argnums(_operate, _vjp)
