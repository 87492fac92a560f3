"""A progress bar where a person is watching, and silence otherwise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_PATIENCE = 2.0  # seconds


def progress(
    items: Iterable[T],
    total: int,
    description: str,
    so_far: Callable[[], str] | None = None,
) -> Iterator[T]:
    """Pass `items` on; after two seconds show a bar (tqdm, if installed).

    The text that `so_far` returns stands behind the bar. A person is taken to watch a terminal or
    a notebook. ``TQDM_DISABLE=1`` in the environment turns all bars off.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not watched or os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        yield from items
        return
    remaining, done = iter(items), 0
    started = time.monotonic()
    for item in remaining:
        yield item
        done += 1
        if time.monotonic() - started > _PATIENCE:
            break
    else:
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from remaining
        return
    bar = tqdm(remaining, total=total, initial=done, desc=description, leave=False)
    for item in bar:
        yield item
        if so_far is not None:
            bar.set_postfix_str(so_far())
