"""Nested weights and one flat vector, and the way between them.

A *nest* is any nesting of dicts, lists, tuples and arrays (or numbers). Training works on one flat
vector; the loss sees the nest. Both directions can be differentiated by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import autograd.numpy as anp
import numpy as np
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

    Attributes
    ----------
    names : list of str
        Name of each leaf, in order: ``weights['W1']``, ``weights[0]['bias']``.
    shapes : list of tuple of int
        Shape of each leaf.
    slices : list of slice
        Part of the flat vector that each leaf takes up, row-major.
    size : int
        Length of the flat vector.

    Examples
    --------
    >>> layout = Layout({"W": np.ones((2, 3)), "b": 0.5}, "weights")
    >>> layout.names, layout.size
    (["weights['W']", "weights['b']"], 7)
    >>> layout.unflatten(np.arange(7.0))["W"]
    array([[0., 1., 2.],
           [3., 4., 5.]])
    """

    def __init__(self, nest: Nest, name: str):
        self.name = name
        self.names: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.slices: list[slice] = []
        self.size = 0
        for leaf_name, leaf in named_leaves(nest, name):
            shape = np.shape(plain(leaf))
            self.names.append(leaf_name)
            self.shapes.append(shape)
            self.slices.append(slice(self.size, self.size + math.prod(shape)))
            self.size += math.prod(shape)
        self._structure = map_leaves(lambda _: ..., nest)
        # Two layouts are equal if what one unflattens has the kinds and shapes of the other's.
        self._key = (name, tuple(self.names), tuple(self.shapes), repr(self._structure))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

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
        if set(leaves) != set(expected):
            missing, surplus = set(expected) - set(leaves), set(leaves) - set(expected)
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

    def unflatten(self, flat: NDArray[np.float64]) -> Nest:
        """Return the nest that a flat vector stands for; its leaves are views."""
        places = zip(self.slices, self.shapes, strict=True)

        def next_leaf(_):
            place, shape = next(places)
            return _take(flat, place.start, place.stop, shape)

        return map_leaves(next_leaf, self._structure)

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


def plain(value: Any) -> Any:
    """Return the value inside all boxes of autograd."""
    while isbox(value):
        value = getval(value)
    return value


def _number_array(leaf: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray(plain(leaf))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)


def _indexed(name: str, position: int, shape: tuple[int, ...]) -> str:
    if not shape:
        return name
    return f"{name}[{', '.join(str(int(i)) for i in np.unravel_index(position, shape))}]"
