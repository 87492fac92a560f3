"""revlearn: learning, run backwards.

Exact gradients through training, by running stochastic gradient descent with momentum backwards
bit for bit.
"""

from importlib.metadata import PackageNotFoundError, version

from . import (
    chains,
    datasets,
    estimators,
    gradients,
    losses,
    meta,
    models,
    recurrent,
    testing,
)
from .errors import DataError, FixedPointOverflowError, NonFiniteError, ReversalError, RevlearnError
from .fixed_point import from_fixed, to_fixed
from .information_buffer import InformationBuffer
from .optimizers import SGD, Adam, AdamW, Averaged, Clipped, Nesterov, RMSprop
from .rounding_buffer import RoundingBuffer
from .schedules import logit, sigmoid
from .tape import Tape
from .threads import make_autograd_safe
from .training import record, train

make_autograd_safe()

try:
    __version__ = version("revlearn")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Averaged",
    "Clipped",
    "DataError",
    "FixedPointOverflowError",
    "InformationBuffer",
    "Nesterov",
    "NonFiniteError",
    "RMSprop",
    "ReversalError",
    "RevlearnError",
    "RoundingBuffer",
    "Tape",
    "__version__",
    "chains",
    "datasets",
    "estimators",
    "from_fixed",
    "gradients",
    "logit",
    "losses",
    "meta",
    "models",
    "record",
    "recurrent",
    "sigmoid",
    "testing",
    "to_fixed",
    "train",
]
