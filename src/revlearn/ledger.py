"""Published numbers beside ours: for each, the tolerance, the deviation, and its reason.

Beside a stored result ``NAME.json`` lies ``NAME.toml`` with what was published::

    chapter = "book/paper/schedules"

    [[number]]
    what = "training loss, meta-iteration 0"
    source = "Figure 3"
    published = "0.5314"        # as printed, digits and all; or true, for a claim without a number
    tolerance = 0.0001
    ours = "training_loss_0"    # name in the result's numbers
    reason = "…"                # needed only where ours lies outside the tolerance
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .results import load
from .whole_files import damaged, read


@dataclass(frozen=True)
class Row:
    """One published number beside ours.

    Attributes
    ----------
    what : str
        What the number is.
    source : str
        Where it was published: a figure, a table, the authors' code or log.
    published : str or bool
        The number as printed, or True for a claim without a number.
    ours : float or bool
        What the stored run gave.
    tolerance : float
        By how much ours may differ.
    reason : str
        Why it differs by more; empty where it does not.
    """

    what: str
    source: str
    published: str | bool
    ours: float | bool
    tolerance: float
    reason: str = ""

    @property
    def deviation(self) -> float:
        """Ours minus the published number; for a claim, 0 if it holds and 1 if not."""
        if isinstance(self.published, bool):
            return float(self.ours != self.published)
        return float(self.ours) - float(self.published)

    @property
    def holds(self) -> bool:
        """Whether ours lies within the tolerance."""
        # A hair of room: 0.5 − 0.4 is not 0.1 in floating point.
        return abs(self.deviation) <= self.tolerance * (1.0 + 1e-9)


def compare(path: str | Path) -> list[Row]:
    """Read the published numbers of a stored result and put ours beside them.

    Parameters
    ----------
    path : str or Path
        The files without their suffix, for example ``"../results/schedules"``.

    Raises
    ------
    KeyError
        If the result lacks a number.
    ValueError
        If a number lies outside its tolerance and no reason is given, or a reason is given for one
        that does not.
    DataError
        If a file is damaged, or lacks what the head of this module shows.
    """
    path = Path(path)
    numbers = load(path).numbers
    toml = path.with_name(path.name + ".toml")
    rows = []
    for entry in _entries(toml):
        key = entry.pop("ours")
        if key not in numbers:
            raise KeyError(f"{toml.name} asks for {key!r}, which {path.name}.json does not hold")
        row = Row(ours=numbers[key], **({"tolerance": 0.0} | entry))
        if row.holds == bool(row.reason):
            verdict = (
                "lies within its tolerance: drop the reason" if row.holds else "needs a reason"
            )
            raise ValueError(
                f"{toml.name}: {row.what!r}, {row.ours} beside {row.published}, {verdict}"
            )
        rows.append(row)
    return rows


def _entries(toml: Path) -> list[dict[str, Any]]:
    """Read what was published."""
    remedy = "Write it as the head of revlearn.ledger shows"
    try:
        entries = tomllib.loads(read(toml).decode())["number"]
    except (ValueError, KeyError) as error:
        raise damaged(toml, f"it holds no numbers: {error}", remedy) from error
    names = {field.name for field in fields(Row)}
    for entry in entries if isinstance(entries, list) else [entries]:
        held = entry.keys() if isinstance(entry, dict) else set()
        if not names >= held >= names - {"tolerance", "reason"}:
            raise damaged(toml, f"a number has {sorted(held)}, not {sorted(names)}", remedy)
        try:
            float(entry["published"])
        except (ValueError, TypeError) as error:
            raise damaged(toml, f"{entry['what']!r} is no number: {error}", remedy) from error
    return entries


def table(rows: Sequence[Row]) -> str:
    """Lay rows out as text: what, published, ours with one digit more, tolerance, verdict.

    Examples
    --------
    >>> print(table([Row("loss", "Figure 3", "0.5314", 0.53141, 1e-4)]))
    what  source    published     ours  tolerance
    loss  Figure 3     0.5314  0.53141     0.0001  holds
    """
    lines = [("what", "source", "published", "ours", "tolerance", "")]
    lines += [
        (row.what, row.source, *numbers(row), "holds" if row.holds else "MISSED") for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, 1, 5) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def numbers(row: Row) -> tuple[str, str, str]:
    """Write the published number, ours with one digit more, and the tolerance.

    Examples
    --------
    >>> numbers(Row("slope", "Figure 4", "-6.39e-4", -0.00063882, 5e-7))
    ('-6.39e-4', '-6.388e-04', '5e-07')
    """
    if isinstance(row.published, bool):
        return "yes" if row.published else "no", "yes" if row.ours else "no", ""
    mantissa, e, _ = row.published.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    whole = not e and digits == 0
    ours = f"{row.ours:.{digits if whole else digits + 1}{'e' if e else 'f'}}"
    return row.published, ours, f"{row.tolerance:g}"
