"""Reversible update rules, one per file."""

from .adam import Adam, AdamW
from .base import ExactRun, Optimizer, PiecewiseRun
from .clipping import Clipped
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Clipped", "ExactRun", "Optimizer", "PiecewiseRun", "RMSprop"]
