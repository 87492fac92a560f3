"""What must hold, and what was measured. A number that misses is reported, not an error."""

from __future__ import annotations

from statistics import median

from problems import PROBLEMS
from registry import CONTENDERS
from report import MEGABYTE, ratio


def limit(claim: str, measured: float, most: float, least: float = 0.0) -> dict:
    return {
        "claim": claim,
        "measured": measured,
        "least": least,
        "most": most,
        "met": least <= measured <= most,
    }


def of_comparison(problem: str, summaries: dict[str, dict], longer: list[int]) -> list[dict]:
    """Return the limits of a problem. `longer` is the memory of revlearn through 500 more steps."""
    if problem == "large":
        wanted = _large(summaries)
    else:
        wanted = [
            ("seconds", "revlearn-jax", "jax-root", 1.0),
            ("memory", "revlearn-jax", "jax-root", 1 / 12),
            ("memory", "revlearn-jax", "jax-two-level", 1 / 4),
            ("seconds", "revlearn-torch", "torch-unrolled", 1.1),
            ("memory", "revlearn-torch", "torch-unrolled", 1 / 200),
            ("seconds", "revlearn-autograd", "autograd-unrolled", 0.55),
            ("seconds", "revlearn-autograd", "python-integers", 0.4),
            ("seconds", "revlearn-autograd", "autograd-plain", 4.5),
        ]
    rows = []
    for what, over, under, most in wanted:
        if over in summaries and under in summaries:
            first, second = (summaries[name][what] for name in (over, under))
            measured = ratio(first, second) if what == "seconds" else median(first) / median(second)
            rows.append(limit(f"{what} of {over} / {under}", measured, most))
    if longer and "revlearn-autograd" in summaries:
        more = median(longer) - summaries["revlearn-autograd"]["median_memory"]
        rows.append(limit("MB of revlearn-autograd for 500 more steps", more / MEGABYTE, 6.0))
    return rows


def _large(summaries: dict[str, dict]) -> list[tuple[str, str, str, float]]:
    wanted = []
    for framework in ("jax", "torch", "autograd"):
        ours = f"revlearn-{framework}"
        others = [
            name
            for name, row in summaries.items()
            if row["framework"] == framework
            and not (CONTENDERS[name].is_ours or CONTENDERS[name].is_plain)
        ]
        if others:
            fastest = min(others, key=lambda name: summaries[name]["median_seconds"])
            wanted += [("seconds", ours, fastest, 1.1), ("memory", ours, fastest, 1 / 8)]
        wanted.append(("memory", ours, "jax-two-level", 1 / 2))
    return wanted


def of_sweep(rows: dict[str, dict[int, dict]], bits: dict[int, int]) -> list[dict]:
    """Return how memory grows from T = 100 to 10,000, over the bits that the tape states."""
    short, long = 100, 10_000
    return [
        limit(
            f"memory of {name}, T = {long} less T = {short} / stated bits",
            (row[long]["memory"] - row[short]["memory"]) / ((bits[long] - bits[short]) / 8),
            most=1.05,
            least=0.95,
        )
        for name, row in rows.items()
        if name in ("revlearn-autograd", "revlearn-jax", "revlearn-torch")
        and {short, long} <= row.keys()
    ]


def table(rows: list[dict], problem: str, steps: int | None = None) -> str:
    lines = [f"{'what must hold':66}{'measured':>10}{'at most':>10}"]
    lines += [
        f"{row['claim']:66}{row['measured']:10.4f}{row['most']:10.4f}  "
        f"{'met' if row['met'] else 'MISSED'}"
        for row in rows
    ]
    stated = PROBLEMS[problem].steps
    if steps not in (None, stated):
        lines.append(f"(stated for T = {stated}; this is T = {steps})")
    return "\n".join(lines)
