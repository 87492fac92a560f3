"""A run as one operation for autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    finished : object or None
        The run, from the forward to the backward pass.
    """

    start: Callable[..., Run]
    value: Callable[[Run], Any]
    pull_back: Callable[[Run, Any, Sequence[int]], Sequence[Any]]
    advice: str
    finished: Run | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run, and return the value; arguments may be boxes of autograd."""
        return _operate(self, *arguments)


@primitive
def _operate(operation: Operation, *arguments: Any) -> Any:
    operation.finished = operation.start(*arguments)
    return operation.value(operation.finished)


def _vjp(argnums, ans, args, kwargs):
    operation, *arguments = args
    wanted = [argnum - 1 for argnum in argnums]

    def pull_back(derivative):
        # A box among the arguments means that someone differentiates this derivative.
        if any(isbox(value) for value in (derivative, ans, *arguments)):
            raise NotImplementedError(f"second derivatives are not implemented: {operation.advice}")
        # The way back uses the run up, to save memory. For one more derivative, run again.
        if operation.finished is None:
            operation.finished = operation.start(*arguments)
        finished, operation.finished = operation.finished, None
        parts = operation.pull_back(finished, derivative, wanted)
        return [parts[i] for i in wanted]

    return pull_back


defvjp_argnums(_operate, _vjp)
