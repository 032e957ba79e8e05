"""Explore many runs of the model, or run one again: python -m tests.unit.ownership.explore --help."""

import argparse
import ast
import time
import traceback
from collections import Counter

from tests.unit.ownership.faults import Fault, drawn, explore
from tests.unit.ownership.model import Shape


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--first", type=int, default=0, help="first seed of a series")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to explore")
    parser.add_argument("--shape", default="", help="with --seed and --faults: the shape that was printed")
    parser.add_argument("--faults", default="", help="with --seed: the list of faults that was printed")
    parser.add_argument("--most", type=int, default=1, help="stop after so many violations")
    options = parser.parse_args()
    began, seed, runs, events, slowest = time.monotonic(), options.first, 0, 0, 0.0
    found: Counter[str] = Counter()
    while time.monotonic() - began < options.seconds and sum(found.values()) < options.most:
        shape, faults = drawn(seed if options.seed is None else options.seed)
        if options.faults:
            faults = [Fault(*fault) for fault in ast.literal_eval(options.faults)]
            shape = Shape(*ast.literal_eval(options.shape))
        try:
            done, took = explore(seed if options.seed is None else options.seed, shape, faults)
        except Exception as violation:  # every failure of a run is a finding
            found[str(violation)] += 1
            print(f"seed {seed}: {type(violation).__name__}: {violation}", flush=True)
            if options.most == 1:
                traceback.print_exception(violation, limit=0)
        else:
            runs, events, slowest = runs + 1, events + done, max(slowest, took)
        if options.seed is not None:
            break
        seed += 1
    print(f"{runs} runs, {events} events, slowest to settle {slowest:.0f} s, {sum(found.values())} violations")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
