"""All that a release is measured by, one command after another: which commands, in which sizes."""

import shlex
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.targets import DENSER

ROWS: tuple[str, ...] = (
    "rollout --bases 100 --modules 10 --baseline --rounds 5",
    "rollout --bases 1000 --modules 10 --baseline",
    "density --bases 200 --modules 5 --rounds 2",
    "onboarding --bases 1000 --baseline",
    "idle --bases 1000 --seconds 300 --modules 10",
    "install --bases 1000 --rate 20 --modules 1000",
    "failover --bases 300 --kills 30 --seconds 120",
    "mqtt --bases 5000 --seconds 60 --burst 50000",
    "tools --vnodes 10000 --modules 20000 --watchers 10",
    "scale --bases 500,1000,2000,5000,10000",
)
NAMES = tuple(dict.fromkeys(row.split()[0] for row in ROWS))
"""The commands in them."""
_SIZES = {("install", "--modules"), ("tools", "--modules")} | {
    (name, option) for name in NAMES for option in ("--bases", "--vnodes", "--seconds", "--kills", "--burst")
}
"""What becomes smaller with a scale. Modules on one base, and rates, stay."""


def commands(scale: float, only: Sequence[str], more: Sequence[str]) -> list[list[str]]:
    """Return the words of each command.

    scale is by what sizes are multiplied; only names the commands that are wanted, all if it is empty. more holds
    commands with options that are added to those of each command of that name, and count in place of an earlier one.
    """
    found = []
    for row in ROWS:
        name, *words = row.split()
        if only and name not in only:
            continue
        words = [_scaled(name, *each, scale) for each in pairwise(["", *words])]
        for added in map(shlex.split, more):
            words += added[1:] if added[:1] == [name] else []
        found.append([name, *words])
    return found


def _scaled(name: str, option: str, word: str, scale: float) -> str:
    if (name, option) not in _SIZES:
        return word
    least = DENSER if name == "density" else 1
    return ",".join(str(max(least, round(int(size) * scale))) for size in word.split(","))
