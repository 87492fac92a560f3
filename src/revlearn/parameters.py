"""Nested weights and one flat vector, and the way between them.

A *nest* is any nesting of dicts, lists, tuples and arrays (or numbers). Training works on one flat
vector; the loss sees the nest. Both directions can be differentiated by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import backward_pass
from autograd.extend import SparseObject, defvjp, primitive, vspace
from autograd.tracer import getval, isbox
from numpy.typing import NDArray

from .errors import NonFiniteError

Nest = Any
ALIGNMENT = 64  # bytes


@primitive
def _take(flat, start, stop, shape):
    return flat[start:stop].reshape(shape)


@primitive
def _put(leaf, start, stop, space):
    # A sparse object is added in place, into one vector for all leaves. Autograd's own slicing
    # would make a full vector of zeros for each leaf.
    def add_to(flat):
        flat[start:stop] += leaf.reshape(-1)
        return flat

    return SparseObject(space, add_to)


defvjp(
    _take,
    lambda ans, flat, start, stop, shape: lambda g: _put(g, start, stop, vspace(flat)),
    argnums=(0,),
)
defvjp(
    _put,
    lambda ans, leaf, start, stop, space: lambda g: _take(g, start, stop, vspace(leaf).shape),
    argnums=(0,),
)


class Layout:
    """Where each leaf of a nest lies in the flat vector.

    Parameters
    ----------
    nest : nested dicts, lists, tuples of arrays or numbers
        An example: only structure and shapes are kept. ``None`` is a nest without leaves.
    name : str
        What the nest is called in errors, for example ``"weights"``.
    only_floats : bool
        Whether only floats lie in the flat vector. Integers, booleans and random keys are then
        constants: the layout keeps a copy of them, and puts it back.

    Attributes
    ----------
    names : list of str
        Name of each leaf in the vector, in order: ``weights['W1']``, ``weights[0]['bias']``.
    shapes : list of tuple of int
        Shape of each of these leaves.
    slices : list of slice
        Part of the flat vector that each of them takes up, row-major.
    size : int
        Length of the flat vector.
    constants : dict of str to value
        What does not lie in the vector, by name.
    key : tuple
        Equal for two layouts if what one unflattens has the kinds and shapes of the other's.

    Raises
    ------
    TypeError
        If a leaf is no number. With `only_floats`, if an integer is being differentiated by
        autograd, and no float beside it.

    Examples
    --------
    >>> layout = Layout({"W": np.ones((2, 3)), "b": 0.5}, "weights")
    >>> layout.names, layout.size
    (["weights['W']", "weights['b']"], 7)
    >>> layout.unflatten(np.arange(7.0))["W"]
    array([[0., 1., 2.],
           [3., 4., 5.]])
    >>> layout = Layout({"labels": np.array([3, 1]), "penalty": 0.5}, "hyper", only_floats=True)
    >>> layout.unflatten(np.array([0.1]))
    {'labels': array([3, 1]), 'penalty': array(0.1)}
    """

    def __init__(self, nest: Nest, name: str, *, only_floats: bool = False):
        self.name = name
        self.names: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.slices: list[slice] = []
        self.size = 0
        self.constants: dict[str, Any] = {}
        names = iter([leaf_name for leaf_name, _ in named_leaves(nest, name)])

        def place(leaf: Any) -> bool:
            """Note where a leaf goes, and return whether that is in the vector."""
            leaf_name = next(names)
            if only_floats and _kind(plain(leaf)) != "f":
                self.constants[leaf_name] = _constant(leaf, leaf_name)
                return False
            shape = np.shape(plain(leaf))
            self.names.append(leaf_name)
            self.shapes.append(shape)
            self.slices.append(slice(self.size, self.size + math.prod(shape)))
            self.size += math.prod(shape)
            return True

        self._structure = map_leaves(place, nest)
        kinds = [
            (type(value), str(getattr(value, "dtype", "")), np.shape(value))
            for value in self.constants.values()
        ]
        self.key = (tuple(self.names), tuple(self.shapes), tuple(kinds), repr(self._structure))

    def flatten(self, nest: Nest, name: str | None = None) -> NDArray[np.float64]:
        """Return the flat vector of a nest of this layout, float64, shape (size,).

        Parameters
        ----------
        nest : nested dicts, lists, tuples of arrays or numbers
            Values; boxes of autograd pass through.
        name : str, optional
            What to call the nest in errors.

        Raises
        ------
        ValueError
            If structure or shapes differ from those of the layout.
        NonFiniteError
            If a value is NaN or infinite.
        """
        name = name or self.name
        leaves = dict(named_leaves(nest, name))
        expected = [self.name_as(name, i) for i in range(len(self.names))]
        everything = {*expected, *(name + key.removeprefix(self.name) for key in self.constants)}
        if set(leaves) != everything:
            missing, surplus = everything - set(leaves), set(leaves) - everything
            raise ValueError(
                f"{name} must be nested like {self.name}: "
                + "; ".join(
                    [f"missing {', '.join(sorted(missing))}"] * bool(missing)
                    + [f"unexpected {', '.join(sorted(surplus))}"] * bool(surplus)
                )
            )
        parts = []
        for leaf_name, shape in zip(expected, self.shapes, strict=True):
            leaf = leaves[leaf_name]
            value = _number_array(leaf, leaf_name)
            if value.shape != shape:
                raise ValueError(f"{leaf_name} has shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                where = _indexed(leaf_name, int(np.argmin(np.isfinite(value))), shape)
                raise NonFiniteError(
                    f"it is {value[~np.isfinite(value)][0]}; training starts from finite numbers"
                ).at(leaf=where)
            if isbox(leaf) and np.asarray(plain(leaf)).dtype != np.float64:
                leaf = leaf * np.float64(1.0)
            parts.append(anp.reshape(leaf if isbox(leaf) else value, (-1,)))
        if any(isbox(part) for part in parts):
            return anp.concatenate(parts)
        return np.concatenate(parts, out=aligned(self.size)) if parts else np.zeros(0)

    def unflatten(self, flat: NDArray[np.float64], constants: Iterable[Any] | None = None) -> Nest:
        """Return the nest that a flat vector stands for; its leaves are views.

        Parameters
        ----------
        flat : ndarray, shape (size,)
            Values.
        constants : iterable, optional
            What stands for :attr:`constants`, in their order. By default they themselves, not to
            be written to.

        Returns
        -------
        nest
            Nested like the example.
        """
        places = zip(self.slices, self.shapes, strict=True)
        return self.nested(
            (_take(flat, place.start, place.stop, shape) for place, shape in places), constants
        )

    def nested(self, leaves: Iterable[Any], constants: Iterable[Any] | None = None) -> Nest:
        """Return the nest of these leaves, in order; `constants` as for :meth:`unflatten`."""
        following = iter(leaves)
        kept = iter(map(read_only, self.constants.values()) if constants is None else constants)
        return map_leaves(lambda in_vector: next(following if in_vector else kept), self._structure)

    def name_of(self, index: int) -> str:
        """Return the name of one number of the flat vector, for example ``weights['W'][0, 2]``."""
        for name, shape, place in zip(self.names, self.shapes, self.slices, strict=True):
            if place.start <= index < place.stop:
                return _indexed(name, index - place.start, shape)
        raise IndexError(f"{index} is not an index into {self.size} numbers")

    def name_as(self, name: str, leaf: int) -> str:
        """Return the name of a leaf as if the nest were called `name`."""
        return name + self.names[leaf].removeprefix(self.name)


def aligned(size: int, dtype: Any = np.float64) -> NDArray:
    """Return an array, not yet filled, that is aligned as JAX and PyTorch want it.

    They copy what is not, or sum it in another order.
    """
    bytes_each = np.dtype(dtype).itemsize
    room = np.empty(size * bytes_each + ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size * bytes_each].view(dtype)


def as_aligned(vector: NDArray, dtype: Any = np.float64, *, copy: bool = False) -> NDArray:
    """Return a vector of a type, aligned: itself if it is, and no copy is asked for."""
    if vector.dtype == dtype and vector.ctypes.data % ALIGNMENT == 0 and not copy:
        return vector
    found = aligned(vector.size, dtype)
    found[...] = vector
    return found


def named_leaves(nest: Nest, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, leaf) for every leaf of a nest, dicts in their order of insertion."""
    kind = plain(nest)
    if isinstance(kind, dict):
        for key in kind:
            yield from named_leaves(nest[key], f"{name}[{key!r}]")
    elif isinstance(kind, (list, tuple)):
        for i in range(len(kind)):
            yield from named_leaves(nest[i], f"{name}[{i}]")
    elif kind is not None:
        yield name, nest


def map_leaves(function: Callable[[Any], Any], nest: Nest) -> Nest:
    """Apply a function to every leaf of a nest, in order, keeping the nesting."""
    kind = plain(nest)
    if isinstance(kind, dict):
        return {key: map_leaves(function, nest[key]) for key in kind}
    if isinstance(kind, (list, tuple)):
        leaves = [map_leaves(function, nest[i]) for i in range(len(kind))]
        return kind._make(leaves) if hasattr(kind, "_make") else type(kind)(leaves)
    return None if kind is None else function(nest)


def read_only(value: Any) -> Any:
    """Return a view of an array that cannot be written to; anything else as it is.

    Examples
    --------
    >>> read_only(np.ones(2)).flags.writeable
    False
    """
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def plain(value: Any) -> Any:
    """Return the value inside all boxes of autograd."""
    while isbox(value):
        value = getval(value)
    return value


def _kind(value: Any) -> str:
    """Return the kind of numbers that a leaf holds, as numpy calls it; a key has none of them."""
    try:
        return np.asarray(value).dtype.kind
    except TypeError:
        if hasattr(value, "dtype"):  # of a framework, for which numpy has no type
            return "key"
        raise


def _type(value: Any) -> Any:
    return getattr(value, "dtype", None) or np.asarray(value).dtype


def _constant(leaf: Any, name: str) -> Any:
    """Return a copy of an integer, a boolean or a random key, or of an array of these."""
    _refuse_integers_only(leaf, name)
    value = plain(leaf)
    if isinstance(value, (int, np.generic)) or _kind(value) == "key":
        found = value  # nobody can change it
    else:
        found = np.array(value)
    if not isinstance(found, int) and _kind(found) not in ("i", "u", "b", "key"):
        raise TypeError(f"{name} must hold real numbers, not {_type(found)}")
    return found


def _refuse_integers_only(leaf: Any, name: str) -> None:
    """Raise if autograd differentiates with respect to integers and nothing else."""
    while isbox(leaf):
        # No derivative, carried back to whatever is differentiated, has its shape and types.
        value = getval(leaf)
        root = backward_pass(vspace(value).zeros(), leaf._node)
        if not any(_kind(number) == "f" for _, number in named_leaves(root, "")):
            raise TypeError(
                f"{name} holds integers and is being differentiated, with no float beside it: "
                "there is no derivative with respect to integers. Take them out of what is "
                "differentiated, or make them floats"
            )
        leaf = value


def _number_array(leaf: Any, name: str) -> NDArray[np.float64]:
    value = plain(leaf)
    if _kind(value) not in ("f", "i", "u", "b"):
        raise TypeError(f"{name} must hold real numbers, not {_type(value)}")
    return np.asarray(value).astype(np.float64, copy=False)


def _indexed(name: str, position: int, shape: tuple[int, ...]) -> str:
    if not shape:
        return name
    return f"{name}[{', '.join(str(int(i)) for i in np.unravel_index(position, shape))}]"
