"""Other ways to the same hypergradient."""

from . import checkpointed, unrolled

__all__ = ["checkpointed", "unrolled"]
