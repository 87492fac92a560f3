"""Other ways to the same hypergradient."""

from . import unrolled

__all__ = ["unrolled"]
