"""What a loss written in PyTorch must not do, and errors that say so.

A loss is a pure function of (weights, hyper, t). PyTorch lets it change its arguments and keep
state in modules, and has no read-only tensors: what was changed is seen afterwards, by the count
that each tensor keeps of writes to it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def guarded(handed: Mapping[str, Any], t: int, *, contents: bool) -> Iterator[None]:
    """Refuse what a loss, called inside, may not do.

    Parameters
    ----------
    handed : mapping of str to tensor
        What the loss is given, by name.
    t : int
        The step.
    contents : bool
        Whether to compare the numbers, too: writes through ``.data`` are not counted.

    Yields
    ------
    None

    Raises
    ------
    ValueError
        If a tensor was changed in place, or a module keeps state.
    TypeError
        If float32 meets float64.
    """
    from torch.nn.modules.module import register_module_forward_pre_hook

    versions = [tensor._version for tensor in handed.values()]
    copies = [tensor.detach().clone() for tensor in handed.values()] if contents else []
    buffers = _Buffers(t)
    hook = register_module_forward_pre_hook(buffers.watch)
    try:
        yield
    except (RuntimeError, ValueError) as error:
        _explain(error, handed, t)
        raise
    finally:
        hook.remove()
    for (name, tensor), version in zip(handed.items(), versions, strict=True):
        if tensor._version != version:
            raise _changed(name, t)
    for (name, tensor), copy in zip(handed.items(), copies, strict=False):
        if not copy.equal(tensor):
            raise _changed(name, t)
    buffers.refuse_changes()


class _Buffers:
    """The buffers of the modules that a loss calls, and their counts of writes."""

    def __init__(self, t: int):
        self._t, self._thread = t, threading.get_ident()
        self._seen: dict[int, tuple[Any, int, str]] = {}

    def watch(self, module: Any, _: Any) -> None:
        """Remember the buffers of a module that is about to be called, by this thread."""
        if threading.get_ident() != self._thread:
            return
        kind = type(module).__name__
        if module.training and getattr(module, "track_running_stats", False):
            raise ValueError(
                f"at step {self._t} the training loss calls {kind} in training mode, which moves "
                "its running statistics: a loss must be a pure function of (weights, hyper, t). "
                "Put the module into evaluation mode with its method eval, make it with "
                "track_running_stats=False, take GroupNorm or LayerNorm, or call "
                "torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)"
            )
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_inference():
                self._seen.setdefault(id(buffer), (buffer, buffer._version, f"{kind}.{name}"))

    def refuse_changes(self) -> None:
        """Raise if a buffer was written to since."""
        for buffer, version, name in self._seen.values():
            if buffer._version != version:
                raise ValueError(
                    f"at step {self._t} the training loss changed the buffer {name} of a module: a "
                    "loss must be a pure function of (weights, hyper, t). Put the module into "
                    "evaluation mode with its method eval, or take one without such a buffer"
                )


def refuse_closure(value: Any, own: Sequence[Any], t: int) -> None:
    """Raise if a loss depends on a tensor that is differentiated and was not handed to it."""
    handed = {id(leaf) for leaf in own}
    for node in _graph(value):
        variable = None if node.next_functions else getattr(node, "variable", None)
        if variable is not None and id(variable) not in handed:
            raise ValueError(
                f"at step {t} the training loss uses a tensor that requires a gradient but was not "
                f"handed to it, of shape {tuple(variable.shape)}: pass it in `hyper`, so that its "
                "hypergradient is not lost, or detach it if it is to stay fixed. If it is made "
                "inside the loss, for a derivative there, take torch.func.grad for that"
            )


def refuse_once_differentiable(value: Any) -> None:
    """Raise if a loss calls a function that says it has no second derivative.

    PyTorch itself raises only where the graph is followed to its end. Towards the weights, the
    second derivative would be 0.
    """
    import torch

    mark: Any = torch.autograd.function.once_differentiable
    marked = mark(refuse_once_differentiable).__code__
    for node in _graph(value):
        function = getattr(node, "_forward_cls", None)
        if function is not None and getattr(function.backward, "__code__", None) is marked:
            raise _missing(f"has no second derivative of {function.__name__}")


def _graph(value: Any) -> Iterator[Any]:
    """Yield all nodes that a tensor was computed by."""
    pending, seen = [value.grad_fn] * (value.grad_fn is not None), set()
    while pending:
        node = pending.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                pending.append(following)


@contextmanager
def naming_missing_derivatives() -> Iterator[None]:
    """Say which function has no second derivative in PyTorch, and what to do.

    Raises
    ------
    NotImplementedError
        If there is one.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"derivative for '?([\w:]+)'? is not implemented", str(error))
        if found:
            name = found[1].removeprefix("aten::")
            raise _missing(f"has no second derivative of {name}") from error
        if "differentiate twice" in str(error) or "double backward" in str(error):
            raise _missing(f"says: {str(error).splitlines()[0]}") from error
        raise


def _missing(what: str) -> NotImplementedError:
    advice = "write the training loss with other functions"
    if "scaled_dot_product" in what:
        advice = (
            "have attention computed by plain products, with "
            "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH): around it in the "
            "training loss"
        )
    return NotImplementedError(
        f"hypergradients need second derivatives, and PyTorch {what}: {advice}"
    )


def _changed(name: str, t: int) -> ValueError:
    return ValueError(
        f"at step {t} the training loss changed {name} in place: a loss must be a pure function of "
        "(weights, hyper, t). Make a new tensor, x.clamp(0.0, 1.0) instead of x.clamp_(0.0, 1.0)"
    )


def _explain(error: Exception, handed: Mapping[str, Any], t: int) -> None:
    """Raise an error that says what to do, where PyTorch's own does not."""
    message = str(error)
    if "leaf Variable that requires grad is being used in an in-place operation" in message:
        raise _changed("its weights or hyperparameters", t) from error
    mixed = re.search("double|float64", message, re.I) and re.search(
        r"float\b|float32", message, re.I
    )
    if mixed or "mixed dtype" in message:
        single = any(str(tensor.dtype) == "torch.float32" for tensor in handed.values())
        own, method = ("float32", "float") if single else ("float64", "double")
        option = "leave compute_dtype out" if single else "train with compute_dtype=numpy.float32"
        raise TypeError(
            f"at step {t} the training loss mixes float32 and float64. It is handed {own}; make "
            f"modules and data that it uses {own}, too, module.{method}() and data.{method}(), or "
            f"{option}"
        ) from error
