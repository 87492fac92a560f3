"""A progress bar where a person is watching, and silence otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Pass `items` on; after two seconds show a bar (tqdm, if installed).

    A person is taken to watch a terminal or a notebook. ``TQDM_DISABLE=1`` in the environment
    turns all bars off.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not watched:
        yield from items
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from items
        return
    yield from tqdm(items, total=total, desc=description, delay=2, leave=False)
