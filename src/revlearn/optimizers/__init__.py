"""Reversible update rules, one per file."""

from .adam import Adam, AdamW
from .base import Optimizer
from .clipping import Clipped
from .exact_run import Adjoint, ExactRun
from .parts import Part
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Adjoint", "Clipped", "ExactRun", "Optimizer", "Part", "RMSprop"]
