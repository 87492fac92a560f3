"""Who takes part.

A contender is ``prepare(problem, steps) -> run`` and ``run() -> (validation loss, gradient)``, the
gradient as one flat vector (problems.flat). Preparing loads data, compiles for the very shapes,
and takes a few steps. A plain run trains only: its gradient is None.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from operator import attrgetter

import revlearn as rl


@dataclass(frozen=True)
class Contender:
    name: str
    description: str
    framework: str
    where: str  # module:function
    asks: str = ""  # attribute of revlearn
    options: tuple = ()  # the function is called with these to make `prepare`

    @property
    def is_plain(self) -> bool:
        return self.name.endswith("-plain")

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("revlearn")

    @property
    def is_fixed_point(self) -> bool:
        """Whether it trains in fixed point, as all of revlearn does."""
        return self.is_ours or self.name == "python-integers"

    def missing(self) -> str | None:
        """Return why it cannot take part here, or None."""
        if find_spec(self.framework) is None:
            return f"{self.framework} is not installed"
        try:
            attrgetter(self.asks or "train")(rl)
        except AttributeError:
            return f"this revlearn has no rl.{self.asks}"
        return None

    def load(self):
        """Return its `prepare`; only now is its framework imported."""
        module, _, function = self.where.partition(":")
        prepare = getattr(importlib.import_module(module), function)
        return prepare(*self.options) if self.options else prepare


_CHECKPOINTED = "estimators.checkpointed.train"
_TAKING_PART = [
    Contender("autograd-plain", "plain training, nothing kept", "autograd", "with_autograd:plain"),
    Contender("jax-plain", "plain training, nothing kept", "jax", "with_jax:plain"),
    Contender("torch-plain", "plain training, nothing kept", "torch", "with_torch:plain"),
    Contender("autograd-unrolled", "every step kept", "autograd", "with_autograd:unrolled"),
    Contender("jax-scan", "every step kept", "jax", "with_jax:unrolled"),
    Contender("jax-remat", "every state kept, steps taken again", "jax", "with_jax:remat"),
    Contender("jax-root", "√T states kept, blocks run again", "jax", "with_jax:root"),
    Contender("jax-two-level", "√T states, and each step again", "jax", "with_jax:two_level"),
    Contender("torch-unrolled", "every step kept", "torch", "with_torch:unrolled"),
    Contender(
        "python-integers",
        "the paper's method, Python's integers as buffers",
        "autograd",
        "with_autograd:python_integers",
    ),
    Contender(
        "revlearn-autograd", "reversed, loss in autograd", "autograd", "with_revlearn:with_autograd"
    ),
    Contender(
        "revlearn-jax", "reversed, loss in JAX", "jax", "with_revlearn:with_jax", "gradients.jax"
    ),
    Contender(
        "revlearn-torch",
        "reversed, loss in PyTorch",
        "torch",
        "with_revlearn:with_torch",
        "gradients.torch",
    ),
    *(
        Contender(
            f"revlearn-checkpoints-{kept}",
            f"revlearn's checkpoints, {kept!r}",
            "autograd",
            "with_revlearn:checkpointed",
            _CHECKPOINTED,
            (kept,),
        )
        for kept in ("all", "sqrt", "log")
    ),
]
CONTENDERS = {contender.name: contender for contender in _TAKING_PART}
