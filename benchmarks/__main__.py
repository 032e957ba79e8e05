"""The program: python -m benchmarks."""

import argparse
import asyncio
import math
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from benchmarks import attack, failover, idle, install, machine, mqtt, onboarding, rollout, trust
from benchmarks.api import Failed
from benchmarks.figures import Figure, Report, as_json, table
from benchmarks.mqtt_stage import mqtt_stage
from benchmarks.stage import Line, line, stage
from tests.servers.fetch import Unavailable
from tests.servers.kubeapi import ApiError
from tests.servers.process import ServerFailed

PURPOSE = """\
Measures onboarding, installs, idle bases and rollouts against a real Kubernetes API server with its
controllers, all on this machine, and prints each figure beside what is aimed at. Without a
command, all four with 100 bases. The command mqtt measures the MQTT gateway on Mosquitto, without
Kubernetes. The exit code says whether it could be measured, never whether it was fast."""

Measure = Callable[[Line, argparse.Namespace], Coroutine[None, None, list[Figure]]]

SCENARIOS: dict[str, Measure] = {
    "onboarding": lambda to, _: onboarding.measure(to),
    "install": lambda to, options: install.measure(to, modules=options.modules or to.stage.bases, rate=options.rate),
    "idle": lambda to, options: idle.measure(to, seconds=options.seconds),
    "failover": lambda to, options: failover.measure(to, kills=options.kills, seconds=options.seconds),
    "rollout": lambda to, options: rollout.measure(
        to, modules=options.modules, daemon_sets=options.daemon_sets, baseline=options.baseline
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=PURPOSE)
    commands = top.add_subparsers(dest="scenario", metavar="COMMAND")
    common = _common(most_bases=5000)
    commands.add_parser("onboarding", parents=[common], help="first heartbeats, all at once, to Ready Nodes")
    one = commands.add_parser("install", parents=[common], help="Pods to commands at bases, results to Pod statuses")
    one.add_argument("--modules", type=_number(1, 100_000), metavar="N", help="default: one on each base")
    one.add_argument(
        "--rate", type=_seconds, default=20.0, metavar="R", help="Pods each second; 0: all at once (default: 20)"
    )
    two = commands.add_parser("idle", parents=[common], help="API writes, CPU time and memory while nothing happens")
    two.add_argument("--seconds", type=_seconds, default=120.0, metavar="S", help="how long (default: 120)")
    roll = commands.add_parser("rollout", parents=[common], help="M modules on each base at once, until all are Ready")
    roll.add_argument("--modules", type=_number(1, 200), default=10, metavar="M", help="on each base (default: 10)")
    roll.add_argument("--daemon-sets", action="store_true", help="made by M DaemonSets, not bare and bound Pods")
    roll.add_argument("--audit", action="store_true", help="count writes by the API server's audit log, which slows it")
    roll.add_argument("--baseline", action="store_true", help="first, a bare client does as much to the API server")
    over = commands.add_parser(
        "failover", parents=[common], help="three replicas: kill -9, SIGTERM, one that joins, API writes at rest"
    )
    over.add_argument("--kills", type=_number(1, 1000), default=30, metavar="N", help="default: %(default)s")
    over.add_argument("--seconds", type=_seconds, default=120.0, metavar="S", help="at rest (default: 120)")
    trusting = commands.add_parser("trust", parents=[common], help="CPU time of TLS and tokens, and reviews of callers")
    trusting.add_argument("--seconds", type=_seconds, default=120.0, metavar="S", help="at rest (default: 120)")
    trusting.add_argument("--rounds", type=_number(1, 100), default=1, metavar="N", help="default: %(default)s")
    attacking = commands.add_parser(
        "attack", parents=[common], help="good bases and Pods while strangers attack; what that costs"
    )
    attacking.set_defaults(bases=10)
    attacking.add_argument("--kubernetes", action="store_true", help="on a real API server, not the embedded cluster")
    attacking.add_argument(
        "--share", type=_seconds, default=1.0, metavar="S", help="share of each attack's size (default: 1)"
    )
    three = commands.add_parser(
        "mqtt",
        parents=[_common(most_bases=10_000)],
        help="MQTT gateway on Mosquitto: CPU per message, loss, reconnects",
    )
    three.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help="at rest (default: 60)")
    three.add_argument(
        "--burst", type=_number(1, 1_000_000), metavar="M", help="then publish so many heartbeats as fast as possible"
    )
    three.add_argument("--restart-broker", action="store_true", help="then stop and start Mosquitto")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and return the exit code: 0, 1 if it could not be measured, 130 if it was interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    runs = (
        [(options.scenario, given)]
        if options.scenario
        else [(name, [name]) for name in SCENARIOS if name != "failover"]
    )
    # An end that is asked for in either way takes everything down.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    reports = []
    try:
        for name, words in runs:
            reports.append(report(name, words))
            if options.scenario is None or options.output == "table":
                print(table(reports[-1]), flush=True)
    except (Failed, Unavailable, ServerFailed, ApiError, OSError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if options.scenario is not None and options.output == "json":
        print(as_json(reports))
    return 0


def report(name: str, words: list[str]) -> Report:
    """Run one measurement on a stage of its own; raises what the stage raises, and Failed."""
    options = parser().parse_args(words)
    where, figures = _OTHERS[name](options) if name in _OTHERS else _on_kubernetes(name, options)
    command = shlex.join(["python", "-m", "benchmarks", *words])
    return Report(f"{name}, {options.bases} bases", command, where, figures)


def _on_mosquitto(options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    where = machine.describe("embedded cluster")
    with mqtt_stage(options.bases, mqtt.RAMP, options.logs) as built:
        return where, asyncio.run(mqtt.measure(built, options))


_OTHERS: dict[str, Callable[[argparse.Namespace], tuple[dict[str, str], list[Figure]]]] = {
    "mqtt": _on_mosquitto,
    "trust": trust.compare,
    "attack": attack.measure,
}
"""Measurements on stages of their own."""


def _on_kubernetes(name: str, options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    async def measured() -> list[Figure]:
        async with line(built) as connected:
            return await SCENARIOS[name](connected, options)

    replicas = 3 if name == "failover" else 1
    with stage(options.bases, options.logs, audit=getattr(options, "audit", False), replicas=replicas) as built:
        where = machine.describe(f"Kubernetes {built.kubernetes}")
        return where, asyncio.run(measured())


def _common(*, most_bases: int) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--bases", type=_number(1, most_bases), default=100, metavar="N", help="simulated bases (default: %(default)s)"
    )
    common.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: %(default)s")
    common.add_argument("--logs", type=_folder, metavar="DIR", help="keep the logs of our programs in this folder")
    return common


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text} is not a number from {least} to {most}")
        return int(text)

    return number


def _folder(text: str) -> Path:
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return folder


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
