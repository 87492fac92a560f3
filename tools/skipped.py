"""Which tests were skipped, and why.

    python tools/skipped.py FILE                # and end with an error, if one need not have been
    python tools/skipped.py --names FILE        # their names, to be run again: pytest @NAMES

Each step of the tests writes a file (pytest --skipped-to), and the next one runs again what the one
before skipped: what the last file holds, no step has run. A test that is skipped because the
environment lacks something says "needs NAME" (tests/needs.py). Where everything is meant to be
there, that is an error, but for what --without names.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path


def by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of tests under the reasons for which they were skipped."""
    reasons: dict[str, list[str]] = {}
    for name, reason in sorted(skipped.items()):
        reasons.setdefault(reason.removeprefix("Skipped: "), []).append(name)
    return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of each step in turn")
    parser.add_argument("--names", action="store_true", help="print nothing but names")
    parser.add_argument("--without", nargs="*", default=[], help="what may be missing")
    arguments = parser.parse_args()
    steps = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in arguments.files}
    *_, last = steps.values()
    if arguments.names:
        print("\n".join(last) or sys.exit("no test was skipped: there is none to run again"))
        return
    for step, skipped in steps.items():
        print(f"make {step} skipped {len(skipped)} tests or modules:")
        for reason, names in by_reason(skipped).items():
            print(f"  {len(names)}: {reason}")
    print("\nNo step ran:")
    for reason, names in by_reason(last).items():
        print(f"  {reason}", *names, sep="\n    ")
    needed = {match[1] for text in by_reason(last) if (match := re.match(r"needs (\S+):", text))}
    if missing := sorted(needed - set(arguments.without)):
        sys.exit(f"Tests were skipped for want of {', '.join(missing)}, which should be there.")


if __name__ == "__main__":
    main()
