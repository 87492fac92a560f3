"""Other ways to the same hypergradient, and which to choose."""

from . import checkpointed, unrolled
from .choice import Choice, choose

__all__ = ["Choice", "checkpointed", "choose", "unrolled"]
