"""Reversible update rules, one per file."""

from .adam import Adam, AdamW
from .averaging import Averaged
from .base import Optimizer
from .clipping import Clipped
from .exact_run import Adjoint, ExactRun
from .nesterov import Nesterov
from .parts import Part
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Adjoint",
    "Averaged",
    "Clipped",
    "ExactRun",
    "Nesterov",
    "Optimizer",
    "Part",
    "RMSprop",
]
