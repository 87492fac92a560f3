"""Time and memory of hypergradients: revlearn beside what one would pick instead.

    make benchmark                                              a modest run
    python benchmarks/contenders.py --repeats 5                 the small problem
    python benchmarks/contenders.py --problem large --repeats 3
    python benchmarks/contenders.py --sweep                     memory against the number of steps

Every measurement runs in a fresh process with one thread, the contenders in turn, round by round.
All must find the same hypergradient. An interrupted command continues where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import limits
import report
from problems import PROBLEMS
from registry import CONTENDERS
from runner import ROOT, Runner, store
from with_revlearn import stated_bits

SWEEP = [100, 300, 1000, 3000, 10_000]
MORE_STEPS, OURS = 500, "revlearn-autograd"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problem", choices=PROBLEMS, default="small", help="default: small")
    parser.add_argument(
        "--steps", type=int, help="training steps T; default: those of the problem (1000, 100)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds; default: 3")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, metavar="NAME", help="these contenders only"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", help="default: in _build/benchmarks"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        default=ROOT / "_build/benchmarks",
        help="where measurements wait for the command to continue; default: _build/benchmarks",
    )
    parser.add_argument("--list", action="store_true", help="say who can take part, and stop")
    parser.add_argument(
        "--fresh", action="store_true", help="measure again what this code has measured"
    )
    parser.add_argument(
        "--sweep",
        type=int,
        nargs="*",
        metavar="T",
        help=f"memory against steps instead, one round; default: {' '.join(map(str, SWEEP))}",
    )
    parser.add_argument(
        "--most-memory",
        type=float,
        default=4.0,
        metavar="GB",
        help="leave a contender out of the sweep where smaller T predict more; default: 4",
    )
    parser.add_argument(
        "--most-seconds", type=float, default=600.0, metavar="S", help="likewise; default: 600"
    )
    return parser.parse_args()


def comparison(runner: Runner, names: list[str], options: argparse.Namespace) -> bool:
    """Measure everyone, print and store; return whether all is well."""
    steps = options.steps or PROBLEMS[options.problem].steps
    jobs = [(name, steps, round_) for round_ in range(options.repeats) for name in names]
    longer = (
        [(OURS, steps + MORE_STEPS, round_) for round_ in range(options.repeats)]
        if options.problem == "small" and OURS in names
        else []
    )
    runner.measure(jobs + longer)
    results = {name: runner.results(name, steps, options.repeats) for name in names}
    results = {name: rounds for name, rounds in results.items() if rounds}
    summaries = {name: report.summary(name, results) for name in results}
    distances = report.disagreement(runner.problem, steps, *runner.findings(list(results), steps))
    for name, parts in distances.items():
        summaries[name]["differs_by"] = parts
    more = runner.results(OURS, steps + MORE_STEPS, options.repeats) if longer else []
    held = limits.of_comparison(options.problem, summaries, [one["memory"] for one in more])
    print(f"\n{options.problem} problem, T = {steps}, {options.repeats} rounds, medians\n")
    print(report.table(summaries))
    print(f"\n{limits.table(held, options.problem, steps)}")
    content = {"steps": steps, "repeats": options.repeats, "contenders": summaries}
    store(runner, options.output, content | {"limits": held, "failed": list(runner.failed)})
    return well(runner, {steps: report.far_apart(distances)})


def sweep(runner: Runner, names: list[str], options: argparse.Namespace) -> bool:
    """Measure memory against steps, print and store; return whether all is well."""
    rows: dict[str, dict[int, dict]] = {name: {} for name in names if not CONTENDERS[name].is_plain}
    skipped: dict[str, dict[int, str]] = {name: {} for name in rows}
    apart: dict[int, list[str]] = {}
    for steps in sorted(options.sweep or SWEEP):
        for name, row in rows.items():
            reason = report.too_much(row, steps, 1e9 * options.most_memory, options.most_seconds)
            if reason:
                skipped[name][steps] = reason
                print(f"{name}, T = {steps}: left out, {reason}")
        present = [name for name in rows if steps not in skipped[name]]
        runner.measure([(name, steps, 0) for name in present])
        for name in present:
            for result in runner.results(name, steps, 1):
                rows[name][steps] = result
        found = [name for name in present if steps in rows[name]]
        distances = report.disagreement(runner.problem, steps, *runner.findings(found, steps))
        apart[steps] = report.far_apart(distances)
        for name, parts in distances.items():
            rows[name][steps]["differs_by"] = parts
    bits = {steps: stated_bits(runner.problem, steps) for steps in apart}
    held = limits.of_sweep(rows, bits)
    print(f"\n{options.problem} problem, peak memory over the baseline, MB\n")
    print(report.sweep_table(rows, bits))
    print(f"\n{limits.table(held, options.problem)}")
    content = {"sweep": rows, "skipped": skipped, "tape_num_bits": bits, "limits": held}
    store(runner, options.output, content | {"failed": list(runner.failed)})
    return well(runner, apart)


def well(runner: Runner, apart: dict[int, list[str]]) -> bool:
    for steps, names in apart.items():
        for name in names:
            print(f"DISAGREES at T = {steps}, by more than {report.tolerance(name)}: {name}")
    for name, reason in runner.failed.items():
        print(f"FAILED: {name}: {reason}")
    return not runner.failed and not any(apart.values())


def main() -> int:
    options = arguments()
    reasons = {name: CONTENDERS[name].missing() for name in options.only or CONTENDERS}
    names = [name for name, reason in reasons.items() if reason is None]
    for name, reason in reasons.items():
        if options.list:
            print(f"{name:28}{CONTENDERS[name].description}", f"[{reason}]" if reason else "")
        elif reason:
            print(f"{name}: not available, {reason}")
    if options.list:
        return 0
    kind = "sweep" if options.sweep is not None else "comparison"
    options.output = options.output or ROOT / f"_build/benchmarks/{options.problem}-{kind}.json"
    unavailable = {name: reason for name, reason in reasons.items() if reason}
    runner = Runner(options.problem, unavailable, options.keep)
    if options.fresh:
        runner.forget()
    try:
        return 0 if (sweep if kind == "sweep" else comparison)(runner, names, options) else 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues here")
        return 130


if __name__ == "__main__":
    sys.exit(main())
