"""What the measurements say: agreement, ratios, tables."""

from __future__ import annotations

from statistics import median

import numpy as np

from problems import Problem
from registry import CONTENDERS

# Sums are taken in different orders; 4e-15 was measured at T = 1000.
FLOAT_TOLERANCE = 1e-10
# Fixed-point numbers do not round as floats do: a reversible multiplication leaves a digit below
# 2**16 in a velocity of 52 fractional bits, noise of up to 1.5e-11 at every step, and training
# carries it on. 2e-8 was measured at T = 1000; with ratios n/2**8 it is 2**8 times less. A wrong
# term in a derivative shows at 1e-4 or more.
FIXED_POINT_TOLERANCE = 1e-6
MEGABYTE = 1e6


def disagreement(
    problem: Problem,
    steps: int,
    losses: dict[str, float],
    gradients: dict[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    """Return relative distances from the first contender, for each part of its gradient."""
    distances: dict[str, dict[str, float]] = {name: {} for name in losses}
    for reference in list(gradients)[:1]:
        expected = problem.parts(gradients[reference], steps)
        for name, loss in losses.items():
            distances[name]["loss"] = abs(loss / losses[reference] - 1.0)
        for name, gradient in gradients.items():
            for part, values in problem.parts(gradient, steps).items():
                gap = np.linalg.norm(values - expected[part]) / np.linalg.norm(expected[part])
                distances[name][part] = float(gap)
    return distances


def far_apart(distances: dict[str, dict[str, float]]) -> list[str]:
    """Return who disagrees. NaN agrees with nothing."""
    return [
        name
        for name, parts in distances.items()
        if not all(distance <= tolerance(name) for distance in parts.values())
    ]


def tolerance(name: str) -> float:
    return FIXED_POINT_TOLERANCE if CONTENDERS[name].is_fixed_point else FLOAT_TOLERANCE


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the ratios, round by round."""
    return median(a / b for a, b in zip(over, under, strict=False))


def summary(name: str, results: dict[str, list[dict]]) -> dict:
    """Return the numbers of one contender, from its rounds."""
    contender, rounds = CONTENDERS[name], results[name]
    columns = {key: [one[key] for one in rounds] for key in rounds[0]}
    plain = results.get(f"{contender.framework}-plain")
    return {
        "framework": contender.framework,
        "description": contender.description,
        "seconds": columns["seconds"],
        "median_seconds": median(columns["seconds"]),
        "ratio_to_plain": plain and ratio(columns["seconds"], [one["seconds"] for one in plain]),
        "memory": columns["memory"],
        "median_memory": median(columns["memory"]),
        "prepare_seconds": median(columns["prepare_seconds"]),
        "processor_seconds": columns["processor_seconds"],
        "loss": rounds[0]["loss"],
    }


def table(summaries: dict[str, dict]) -> str:
    lines = [
        f"{'':26}{'seconds':>9}{'× plain':>9}{'MB over':>10}{'prepared':>10}{'differs':>10}",
        f"{'':26}{'':>9}{'':>9}{'baseline':>10}{'in s':>10}{'by':>10}",
    ]
    for name, row in summaries.items():
        times = f"{row['ratio_to_plain']:.2f}" if row["ratio_to_plain"] else ""
        differs = f"{max(row['differs_by'].values()):.0e}" if row["differs_by"] else ""
        lines.append(
            f"{name:26}{row['median_seconds']:9.2f}{times:>9}"
            f"{row['median_memory'] / MEGABYTE:10.1f}{row['prepare_seconds']:10.1f}{differs:>10}"
        )
    return "\n".join(lines)


def too_much(
    row: dict[int, dict], steps: int, most_memory: float, most_seconds: float
) -> str | None:
    """Return why a run is left out of the sweep: what the two longest runs so far predict."""
    for what, most, unit in (("memory", most_memory, 1e9), ("seconds", most_seconds, 1.0)):
        points = [(0, 0.0)] + [(at, result[what]) for at, result in sorted(row.items())]
        if len(points) > 1:
            (before, less), (last, value) = points[-2:]
            predicted = value + (value - less) / (last - before) * (steps - last)
            if predicted > most:
                return f"{what} would be about {predicted / unit:.1f}, more than {most / unit:g}"
    return None


def sweep_table(rows: dict[str, dict[int, dict]], bits: dict[int, int]) -> str:
    lines = [f"{'T':26}" + "".join(f"{steps:>10}" for steps in bits)]
    for name, row in rows.items():
        megabytes = (
            f"{row[steps]['memory'] / MEGABYTE:10.1f}" if steps in row else f"{'':10}"
            for steps in bits
        )
        lines.append(f"{name:26}" + "".join(megabytes))
    stated = "".join(f"{count / 8 / MEGABYTE:10.1f}" for count in bits.values())
    return "\n".join([*lines, f"{'(tape.num_bits)':26}" + stated])
