"""What can go wrong in a run, and where."""

from __future__ import annotations

# No index has the package before its first release.
ON_INDEX = False


class RevlearnError(Exception):
    """Base of all errors that revlearn raises about a run.

    Attributes
    ----------
    index : int or None
        Position in the flat vector, where the failing routine knows one.
    slot : str or None
        Which part of the state: ``"weights"``, ``"velocity"``, ….
    fraction_bits : int or None
        Bits after the binary point of that slot.
    step : int or None
        Step of training at which it happened.
    leaf : str or None
        Name of the leaf, for example ``weights['W1'][3, 4]``.
    """

    def __init__(self, message: str, *, index: int | None = None):
        super().__init__(message)
        self.message = message
        self.index = index
        self.slot: str | None = None
        self.fraction_bits: int | None = None
        self.step: int | None = None
        self.leaf: str | None = None

    def at(self, *, step: int | None = None, leaf: str | None = None) -> RevlearnError:
        """Add where it happened to the message; return the error, to be raised."""
        self.step, self.leaf = step, leaf
        where = [f"step {step}"] * (step is not None) + [f"leaf {leaf}"] * (leaf is not None)
        self.args = (f"at {', '.join(where)}: {self.message}",)
        return self


class FixedPointOverflowError(RevlearnError, OverflowError):
    """A number does not fit the fixed-point range."""


class NonFiniteError(RevlearnError, FloatingPointError):
    """An initial value, a gradient or a hypergradient is not a finite number."""


class ReversalError(RevlearnError, RuntimeError):
    """A step cannot be undone: its gradient is another one than on the way forth."""


class DataError(RevlearnError, OSError):
    """A file is missing, damaged, or cannot be downloaded or written."""


def closed_over(what: str, argument: str) -> ValueError:
    """Return the error for a value that is differentiated behind the back of a run.

    Parameters
    ----------
    what : str
        What uses it, for example ``"training loss"``.
    argument : str
        Where it should be handed over.
    """
    return ValueError(
        f"the {what} uses a value that is being differentiated but was not handed to it: pass it "
        f"in `{argument}`, so that its derivative is not lost"
    )


def used_up(what: str) -> RuntimeError:
    """Return the error for a run that a way back has used up."""
    return RuntimeError(
        f"this {what} was used up by pull_back(last=True): call it without `last` to go on using "
        "it, or run again"
    )


def how_to_install(extra: str) -> str:
    """Return the words that say how to install what a part of the package needs.

    Parameters
    ----------
    extra : str
        Name of the extra in ``pyproject.toml``.

    Returns
    -------
    str
        A command, and where to type it.

    Examples
    --------
    >>> how_to_install("jax").startswith("pip install ")
    True
    """
    if ON_INDEX:
        return f'pip install "revlearn[{extra}]"'
    return f'pip install ".[{extra}]" in the folder of a clone'
