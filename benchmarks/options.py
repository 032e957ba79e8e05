"""The command line of python -m benchmarks."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import everything
from benchmarks.targets import DENSER, LEASE_DURATION

PURPOSE = """\
Measures onboarding, installs, idle bases, rollouts and failovers against a real Kubernetes API server
with its controllers, all on this machine, and prints each figure beside what is aimed at. Without a
command, onboarding, install, idle and rollout with 100 bases. The command mqtt measures the MQTT gateway
on Mosquitto, without Kubernetes, scale how cost grows, on a stand-in of the API server, and tools how
long lists and watches keep a control plane from other work. The exit code says whether it could be
measured, never whether it was fast."""

MOST_BASES = 5000
MOST_ON_STAND_IN = 10_000
"""More are refused by a control plane with the default of MAX_BASES."""
SIZES = (500, 1000, 2000, 5000, 10_000)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=PURPOSE)
    commands = top.add_subparsers(dest="scenario", metavar="COMMAND")
    output, common = _output(), [_output(), _bases(MOST_BASES)]
    _installing(commands, common)
    _resting(commands, common)
    _under_attack(commands, common)
    _over_mqtt(commands, output)
    _on_stand_in(commands, output)
    _in_one_process(commands, output)
    every = commands.add_parser("all", parents=[output], help="what a release is measured by, one after another")
    every.add_argument("--scale", type=_seconds, default=1.0, metavar="S", help="share of each size (default: 1)")
    every.add_argument(
        "--pause", type=_seconds, default=60.0, metavar="S", help="between two, for the load to go (default: 60)"
    )
    every.add_argument(
        "--only",
        action="append",
        default=[],
        choices=everything.NAMES,
        metavar="COMMAND",
        help=f"not all of {', '.join(everything.NAMES)}; may be repeated",
    )
    every.add_argument(
        "--with",
        action="append",
        default=[],
        type=_command,
        dest="more",
        metavar="'COMMAND OPTION...'",
        help="options for a command, in place of its own; may be repeated",
    )
    kept = commands.add_parser("table", help="JSON that was kept, as a table in Markdown")
    kept.add_argument("file", type=Path, metavar="FILE", help="what -o json printed")
    return top


def _installing(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    new = commands.add_parser("onboarding", parents=common, help="first heartbeats, all at once, to Ready Nodes")
    new.add_argument("--baseline", action="store_true", help="first, a bare client writes as many Leases and Nodes")
    one = commands.add_parser("install", parents=common, help="Pods to commands at bases, results to Pod statuses")
    one.add_argument("--modules", type=_number(1, 100_000), metavar="N", help="default: one on each base")
    one.add_argument(
        "--rate", type=_seconds, default=20.0, metavar="R", help="Pods each second; 0: all at once (default: 20)"
    )
    dense = commands.add_parser(
        "density",
        parents=[_output(), _bases(MOST_BASES, least=DENSER)],
        help="CPU time for a module on few bases and on many",
    )
    dense.add_argument(
        "--modules",
        type=_number(1, 20),
        default=5,
        metavar="M",
        help="on each base; then ten times as many (default: 5)",
    )
    dense.add_argument("--rounds", type=_number(1, 100), default=1, metavar="N", help="default: %(default)s")
    roll = commands.add_parser("rollout", parents=common, help="M modules on each base, all at once; then deleted")
    roll.add_argument("--modules", type=_number(1, 200), default=10, metavar="M", help="on each base (default: 10)")
    roll.add_argument("--daemon-sets", action="store_true", help="made by M DaemonSets, not bare and bound Pods")
    roll.add_argument("--audit", action="store_true", help="count writes by the API server's audit log, which slows it")
    roll.add_argument("--baseline", action="store_true", help="first, a bare client does as much to the API server")
    roll.add_argument(
        "--rounds", type=_number(1, 100), default=1, metavar="N", help="the median counts (default: %(default)s)"
    )


def _resting(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    two = commands.add_parser("idle", parents=common, help="API writes, CPU time and memory while nothing happens")
    two.add_argument("--seconds", type=_seconds, default=120.0, metavar="S", help="how long (default: 120)")
    two.add_argument("--modules", type=_number(0, 200), default=0, metavar="M", help="then with so many on each base")
    two.add_argument(
        "--lease-duration",
        type=_number(40, 300),
        default=LEASE_DURATION,
        metavar="S",
        help="of VNodes; from 60 on they are renewed every 20 s (default: %(default)s)",
    )
    over = commands.add_parser(
        "failover", parents=common, help="three replicas: kill -9, SIGTERM, one that joins, API writes at rest"
    )
    over.add_argument("--kills", type=_number(1, 1000), default=30, metavar="N", help="default: %(default)s")
    over.add_argument("--seconds", type=_seconds, default=120.0, metavar="S", help="at rest (default: 120)")


def _under_attack(commands: Any, common: list[argparse.ArgumentParser]) -> None:
    trusting = commands.add_parser("trust", parents=common, help="CPU time of TLS and tokens, and reviews of callers")
    trusting.add_argument("--seconds", type=_seconds, default=120.0, metavar="S", help="at rest (default: 120)")
    trusting.add_argument("--rounds", type=_number(1, 100), default=1, metavar="N", help="default: %(default)s")
    attacking = commands.add_parser(
        "attack", parents=common, help="good bases and Pods while strangers attack; what that costs"
    )
    attacking.set_defaults(bases=10)
    attacking.add_argument("--kubernetes", action="store_true", help="on a real API server, not the embedded cluster")
    attacking.add_argument(
        "--share", type=_seconds, default=1.0, metavar="S", help="share of each attack's size (default: 1)"
    )


def _over_mqtt(commands: Any, output: argparse.ArgumentParser) -> None:
    three = commands.add_parser(
        "mqtt",
        parents=[output, _bases(10_000)],
        help="MQTT gateway on Mosquitto: CPU per message, loss, reconnects",
    )
    three.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help="at rest (default: 60)")
    three.add_argument(
        "--burst", type=_number(1, 1_000_000), metavar="M", help="then publish so many heartbeats as fast as possible"
    )
    three.add_argument("--restart-broker", action="store_true", help="then stop and start Mosquitto")


def _on_stand_in(commands: Any, output: argparse.ArgumentParser) -> None:
    four = commands.add_parser(
        "scale", parents=[output], help="how cost grows with the number of bases, on a stand-in of the API server"
    )
    four.add_argument(
        "--bases", type=_sizes, default=SIZES, metavar="N,N,...", help=f"default: {','.join(map(str, SIZES))}"
    )
    four.add_argument("--replicas", type=_number(1, 9), default=1, metavar="N", help="default: %(default)s")
    four.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help="at rest (default: 60)")


def _in_one_process(commands: Any, output: argparse.ArgumentParser) -> None:
    tooling = commands.add_parser(
        "tools", parents=[output], help="how long lists and watches of tools block the loop of a large fleet"
    )
    tooling.add_argument("--vnodes", dest="bases", type=_number(1, 10_000), default=10_000, metavar="N")
    tooling.add_argument("--modules", type=_number(1, 100_000), default=20_000, metavar="N", help="on all VNodes")
    tooling.add_argument("--watchers", type=_number(1, 100), default=10, metavar="N", help="default: %(default)s")


def _output() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: %(default)s")
    common.add_argument("--json", action="store_const", const="json", dest="output", help="the same as -o json")
    common.add_argument(
        "--logs", type=_folder, metavar="DIR", help="keep the logs of our programs in this folder, which is made"
    )
    return common


def _bases(most: int, least: int = 1) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--bases", type=_number(least, most), default=100, metavar="N", help="simulated bases (default: %(default)s)"
    )
    return common


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text} is not a number from {least} to {most}")
        return int(text)

    return number


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(_number(1, MOST_ON_STAND_IN), text.split(",")))


def _command(text: str) -> str:
    if text.split(" ", 1)[0] not in everything.NAMES:
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with one of {', '.join(everything.NAMES)}")
    return text


def _folder(text: str) -> Path:
    folder = Path(text).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return folder


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return value
