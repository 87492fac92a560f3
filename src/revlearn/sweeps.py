"""The same run for many settings: sweeps and averages over seeds, that resume."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import how_to_install
from .progress import progress
from .results import plain, plain_json
from .whole_files import damaged, read_json, write


def resumable_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    folder: str | Path,
    *,
    settings: Mapping[str, Any],
    jobs: int | None = None,
) -> tuple[list[Any], float]:
    """Apply a function to many items, keeping each result on disk as soon as it is there.

    Called again after an interruption, it computes only what is missing. A change of the function
    itself goes unnoticed unless it shows in `settings`: delete the folder then.

    Parameters
    ----------
    function : callable
        ``function(item)``; returns what JSON can hold, NaN and infinity included.
    items : iterable
        What JSON can hold: numbers, strings, lists, dicts.
    folder : str or Path
        Where the results are kept, one small file for each item. Only this process writes there,
        so workers on other machines need not see it.
    settings : mapping
        What the function depends on beside the item. Kept in the folder and compared.
    jobs : int, optional
        Number of processes; above 1 this needs joblib. By default what
        ``joblib.parallel_config`` says around the call, a cluster for example; else one.

    Returns
    -------
    results : list
        One for each item, in order, as read from the folder.
    seconds : float
        Processor time spent inside `function`, summed over all items, processes and sessions.

    Raises
    ------
    ValueError
        If the folder holds results of other settings or other items.
    DataError
        If a file of the folder is damaged, or cannot be written. This is found before anything is
        computed, and names the file.
    ImportError
        If several processes are asked for and joblib is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results, seconds = resumable_map(abs, [-1, 2.5], folder, settings={})
    >>> results
    [1, 2.5]
    """
    folder, items = Path(folder), list(items)
    _claim(folder, settings, items)
    files = [folder / f"{number:06d}.json" for number in range(len(items))]
    stored = {number: _entry(file) for number, file in enumerate(files) if file.exists()}
    missing = [(number, item) for number, item in enumerate(items) if number not in stored]
    computed = _computed(function, missing, jobs)
    for number, result, seconds in progress(computed, len(missing), folder.name):
        entry = {"result": result, "seconds": seconds}
        write(files[number], json.dumps(entry, default=plain).encode())
        stored[number] = _entry(files[number])
    entries = [stored[number] for number in range(len(items))]
    return [entry["result"] for entry in entries], sum(entry["seconds"] for entry in entries)


def _entry(file: Path) -> dict[str, Any]:
    """Read the result of one item, and what it took."""
    remedy = "Delete it, and the item is computed again"
    entry = read_json(file, remedy)
    if not (
        isinstance(entry, dict)
        and entry.keys() == {"result", "seconds"}
        and isinstance(entry["seconds"], (int, float))
    ):
        raise damaged(file, "it does not hold a result and its seconds", remedy)
    return entry


def _claim(folder: Path, settings: Mapping[str, Any], items: Sequence[Any]) -> None:
    """Write down what the folder is for, or make sure that it is for the same."""
    claim = {
        "settings": json.loads(plain_json(dict(settings))),
        "number_of_items": len(items),
        "items_sha256": hashlib.sha256(plain_json(items).encode()).hexdigest(),
    }
    file = folder / "settings.json"
    if not file.exists():
        write(file, plain_json(claim).encode())
        return
    remedy = "Delete it if the results beside it are of these settings and items, or the folder"
    held = read_json(file, remedy)
    if not isinstance(held, dict) or held.keys() != claim.keys():
        raise damaged(file, "it does not say what the folder is for", remedy)
    if held != claim:
        differing = [name for name in claim if held[name] != claim[name]]
        raise ValueError(
            f"{folder} holds results of another run ({' and '.join(differing)} differ). "
            "Delete the folder, or name another one"
        )


def _computed(
    function: Callable[[Any], Any], missing: list[tuple[int, Any]], jobs: int | None
) -> Iterator[tuple[int, Any, float]]:
    """Yield each missing result with its number and its seconds, as soon as it is there."""
    if jobs != 1:
        try:
            from joblib import Parallel, delayed
        except ImportError:
            if jobs is not None:
                raise ImportError(
                    f"several processes need joblib: {how_to_install('cluster')}"
                ) from None
        else:
            # One item at a time, so that each is stored at once. Without max_nbytes joblib hands
            # large arrays over as memmaps, which autograd does not know.
            parallel = Parallel(
                n_jobs=jobs, return_as="generator_unordered", batch_size=1, max_nbytes=None
            )
            yield from parallel(delayed(_compute)(function, *entry) for entry in missing)
            return
    for entry in missing:
        yield _compute(function, *entry)


def _compute(function: Callable[[Any], Any], number: int, item: Any) -> tuple[int, Any, float]:
    """Compute one result and take its processor time, in whichever process this runs."""
    started = time.process_time()
    result = function(item)
    return number, result, time.process_time() - started
