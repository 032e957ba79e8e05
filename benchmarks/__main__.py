"""The program: python -m benchmarks."""

import argparse
import asyncio
import shlex
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from benchmarks import (
    attack,
    density,
    everything,
    failover,
    idle,
    install,
    kept,
    machine,
    mqtt,
    onboarding,
    rollout,
    scale,
    targets,
    tools,
    trust,
)
from benchmarks.api import Failed
from benchmarks.figures import Figure, Report, as_json, table
from benchmarks.mqtt_stage import mqtt_stage
from benchmarks.options import parser
from benchmarks.progress import say
from benchmarks.stage import Line, line, stage
from controlplane.app.ports import ClusterError
from tests.servers.fetch import Unavailable
from tests.servers.kubeapi import ApiError
from tests.servers.process import ServerFailed

FAILURES = (Failed, Unavailable, ServerFailed, ApiError, ClusterError, OSError)
Measure = Callable[[Line, argparse.Namespace], Coroutine[None, None, list[Figure]]]

SCENARIOS: dict[str, Measure] = {
    "onboarding": lambda to, options: onboarding.measure(to, baseline=options.baseline),
    "install": lambda to, options: install.measure(to, modules=options.modules or to.stage.bases, rate=options.rate),
    "idle": lambda to, options: idle.measure(
        to, seconds=options.seconds, modules=options.modules, lease_duration=options.lease_duration
    ),
    "failover": lambda to, options: failover.measure(to, kills=options.kills, seconds=options.seconds),
    "density": lambda to, options: density.measure(to, modules=options.modules, rounds=options.rounds),
    "rollout": lambda to, options: rollout.measure(
        to,
        modules=options.modules,
        daemon_sets=options.daemon_sets,
        baseline=options.baseline,
        rounds=options.rounds,
    ),
}
USUAL = ("onboarding", "install", "idle", "rollout")
"""What is measured without a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and return the exit code: 0, 1 if something could not be measured, 130 if it was interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    if options.scenario == "table":
        return _table(options.file)
    # An end that is asked for in either way takes everything down.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        as_tables = options.scenario is None or options.output == "table"
        reports = _reports(_runs(options, given), as_tables=as_tables, pause=getattr(options, "pause", 0.0))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if options.scenario is not None and options.output == "json":
        print(as_json(reports))
    return int(any(report.failed for report in reports))


def _table(file: Path) -> int:
    """Print what was kept in a file as a table; returns the exit code."""
    try:
        print(kept.markdown(kept.read(file.read_text())))
    except (ValueError, OSError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        return 1
    return 0


def _runs(options: argparse.Namespace, given: list[str]) -> list[list[str]]:
    """Return the words of each measurement that was asked for."""
    if options.scenario is None:
        return [[name] for name in USUAL]
    if options.scenario != "all":
        return [given]
    logs = [] if options.logs is None else ["--logs", str(options.logs)]
    return [[*words, *logs] for words in everything.commands(options.scale, options.only, options.more)]


def _reports(runs: Sequence[list[str]], *, as_tables: bool, pause: float) -> list[Report]:
    """Measure one after another, with seconds between; one that fails does not keep the others from being measured."""
    parsed = [(parser().parse_args(words), words) for words in runs]
    reports = []
    for number, (options, words) in enumerate(parsed):
        if number:
            time.sleep(pause)
        if len(runs) > 1:
            say(f"{number + 1} of {len(runs)}: {shlex.join(words)}")
        reports.append(report(options, words))
        if reports[-1].failed:
            print(f"not measured: {reports[-1].failed}", file=sys.stderr)
        elif as_tables:
            print(table(reports[-1]), flush=True)
    return reports


def report(options: argparse.Namespace, words: Sequence[str]) -> Report:
    """Run one measurement on a stage of its own."""
    name, command = options.scenario, shlex.join(["python", "-m", "benchmarks", *words])
    bases = ", ".join(map(str, options.bases)) if name == "scale" else options.bases
    title = f"{name}, {bases} bases"
    where = machine.describe("")
    try:
        where, figures = _OTHERS[name](options) if name in _OTHERS else _on_kubernetes(name, options)
    except FAILURES as error:
        return Report(title, command, where, [], str(error) or type(error).__name__)
    return Report(title, command, where, figures)


def _on_mosquitto(options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    where = machine.describe("embedded cluster")
    with mqtt_stage(options.bases, mqtt.RAMP, options.logs) as built:
        return where, asyncio.run(mqtt.measure(built, options))


_OTHERS: dict[str, Callable[[argparse.Namespace], tuple[dict[str, str], list[Figure]]]] = {
    "mqtt": _on_mosquitto,
    "trust": trust.compare,
    "attack": attack.measure,
    "scale": scale.measure,
    "tools": tools.measure,
}
"""Measurements on stages of their own."""


def _on_kubernetes(name: str, options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    async def measured() -> list[Figure]:
        async with line(built) as connected:
            return await SCENARIOS[name](connected, options)

    replicas = 3 if name == "failover" else 1
    with stage(
        options.bases,
        options.logs,
        audit=getattr(options, "audit", False),
        replicas=replicas,
        lease_duration=getattr(options, "lease_duration", targets.LEASE_DURATION),
    ) as built:
        where = machine.describe(built.server.version)
        return where, asyncio.run(measured())


if __name__ == "__main__":
    sys.exit(main())
