"""Reversible update rules, one a file."""

from .base import ExactRun, Optimizer
from .sgd import SGD

__all__ = ["SGD", "ExactRun", "Optimizer"]
