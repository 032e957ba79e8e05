"""module-controller: runs as the original's single Pod does, and the quick start."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from modulecontroller.configuration import VARIABLES, as_json, as_text, misspelt_elsewhere, survey
from modulecontroller.quickstart import chosen, default_data_dir, example, free_ports, quickstart, smoke
from modulecontroller.settings import PROGRAM_NAMES, SUPERVISOR, QuickstartSettings, SupervisorSettings
from modulecontroller.supervisor import Supervisor, programs
from service import logs, output, process
from service.settings import EXIT_USAGE, describe, load

log = structlog.get_logger(__name__)

DEFAULT_BASES, MOST_BASES = 2, 1000
_PURPOSE = """\
Koupleless Module Controller: makes Java bases appear as Kubernetes nodes and their modules as Pods.

Without a command it runs the control plane and the gateways that the environment asks for
(ENABLE_HTTP_TUNNEL, ENABLE_MQTT_TUNNEL, or both), as one; a child that ends or hangs is replaced. Their own
variables are shown by controlplane --help, http-gateway --help and mqtt-gateway --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that was asked for."""
    return output.run(SUPERVISOR, lambda: _run(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = process.parser(SUPERVISOR, _PURPOSE, SupervisorSettings)
    commands = parser.add_subparsers(dest="command", metavar="{quickstart,smoke,config,doctor}")
    start = commands.add_parser(
        "quickstart",
        help="run everything on this machine: embedded cluster and simulated bases",
        epilog=f"environment variables:\n{describe(QuickstartSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    start.add_argument(
        "--bases",
        type=_number_of_bases,
        default=DEFAULT_BASES,
        metavar="N",
        help="number of simulated bases (default: %(default)s)",
    )
    start.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_dir(),
        metavar="D",
        help="folder of the embedded cluster, kept between runs (default: %(default)s)",
    )
    start.add_argument(
        "--mqtt",
        action="store_true",
        help="bases over MQTT instead of HTTP: on the broker that MQTT_BROKER names, or on one started for trying out",
    )
    once = commands.add_parser("smoke", help="run the quick start once by itself and print its timings")
    once.add_argument(
        "--manifest",
        type=_file,
        default=example("biz1.yaml"),
        metavar="FILE",
        help="what is applied, awaited, deleted and awaited (default: %(default)s)",
    )
    once.add_argument("--mqtt", action="store_true", help="the base over MQTT, on a broker started for it")
    for name, purpose in {
        "config": "show every variable with its value and where that comes from, and all that is wrong",
        "doctor": "look at all that a start depends on, and say what is wrong and what to do; nothing is changed",
    }.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.add_argument("--output", choices=("text", "json"), default="text", help="form (default: %(default)s)")
        command.add_argument(
            "--program",
            action="append",
            choices=PROGRAM_NAMES,
            default=[],
            help="a program that is started by itself, may be repeated (default: what module-controller runs)",
        )
    return parser


def _number_of_bases(text: str) -> int:
    # isdecimal alone takes digits of other scripts, and int refuses to read thousands of them.
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_BASES)) and int(text) <= MOST_BASES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_BASES}")
    return int(text)


def _file(text: str) -> Path:
    try:
        there = Path(text).is_file()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[:200]}: {error.strerror}") from None
    if not there:
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "quickstart":
            settings = chosen(load(QuickstartSettings, others=VARIABLES), mqtt=options.mqtt)
            _log_for_people(logs.LogLevel.WARNING)
            return process.run(lambda stop: quickstart(settings, stop, bases=options.bases, data_dir=options.data_dir))
        case "smoke":
            # An empty variable counts as not set: the broker is always one of its own.
            os.environ.update(free_ports(), MQTT_BROKER="")
            settings = chosen(load(QuickstartSettings, others=VARIABLES), mqtt=options.mqtt)
            _log_for_people(logs.LogLevel.WARNING)
            return process.run(lambda stop: smoke(settings, stop, manifest=options.manifest))
        case "config":
            found = survey(options.program)
            sys.stdout.write(as_json(found) if options.output == "json" else as_text(found))
            return EXIT_USAGE if found.wrong else 0
        case "doctor":
            # Imported here, for it imports what all programs are made of.
            from modulecontroller.doctor import examine

            _log_for_people(logs.LogLevel.ERROR)
            findings = asyncio.run(examine.examine(survey(options.program)))
            sys.stdout.write(examine.as_json(findings) if options.output == "json" else examine.as_text(findings))
            return examine.exit_code(findings)
    return _supervise(load(SupervisorSettings, others=VARIABLES))


def _supervise(settings: SupervisorSettings) -> int:
    logs.configure(settings.log_format, settings.log_level, program=SUPERVISOR)
    for complaint in misspelt_elsewhere([SUPERVISOR, *(program.name for program in programs(settings, {}))]):
        log.warning("a variable is not known", complaint=complaint)
    return process.run(lambda stop: Supervisor(settings).run(stop))


def _log_for_people(level: logs.LogLevel) -> None:
    logs.configure(logs.LogFormat.CONSOLE, level, program=SUPERVISOR)


if __name__ == "__main__":
    sys.exit(main())
