"""module-controller: runs as the original's single Pod does, and the quick start."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modulecontroller.quickstart import DEFAULT_BASES, MOST_BASES, default_data_dir, example, quickstart
from modulecontroller.settings import PROGRAM_NAMES, QuickstartSettings, SupervisorSettings
from modulecontroller.smoke import on_free_ports, smoke
from modulecontroller.supervisor import supervise
from service import logs, output, process
from service.settings import EXIT_USAGE, describe, load

_PURPOSE = """\
Koupleless Module Controller: makes Java bases appear as Kubernetes nodes and their modules as Pods.

Without a command it runs the control plane and the gateways that the environment asks for
(ENABLE_HTTP_TUNNEL, ENABLE_MQTT_TUNNEL, or both), as one; a child that ends or hangs is replaced. Their own
variables are told by controlplane --help, http-gateway --help and mqtt-gateway --help."""


def _number_of_bases(text: str) -> int:
    # isdecimal alone takes digits of other scripts, and int refuses to read thousands of them.
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_BASES)) and int(text) <= MOST_BASES):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MOST_BASES}")
    return int(text)


def _file(text: str) -> Path:
    try:
        there = Path(text).is_file()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[:200]}: {error.strerror}") from None
    if not there:
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="module-controller",
        description=_PURPOSE,
        epilog=f"environment variables:\n{describe(SupervisorSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"module-controller {process.software_version()}")
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
    _add_questions(commands)
    return parser.parse_args(argv)


def _add_questions(commands: Any) -> None:
    """Add the commands that only look."""
    shown = {
        "config": "show every variable with its value and where that comes from, and all that is wrong",
        "doctor": "look at all that a start depends on, and say what is wrong and what to do; nothing is changed",
    }
    for name, purpose in shown.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.add_argument("--output", choices=("text", "json"), default="text", help="form (default: %(default)s)")
        command.add_argument(
            "--program",
            action="append",
            choices=PROGRAM_NAMES,
            default=[],
            help="a program that is started by itself, may be repeated (default: what module-controller runs)",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that was asked for."""
    return output.run("module-controller", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    if arguments.command == "smoke":
        free, ports = on_free_ports()
        os.environ.update(ports)
        logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.WARNING, program="module-controller")
        return process.run(lambda stop: smoke(stop, manifest=arguments.manifest, settings=free, mqtt=arguments.mqtt))
    if arguments.command == "quickstart":
        wanted = load(QuickstartSettings)
        logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.WARNING, program="module-controller")
        return process.run(
            lambda stop: quickstart(
                wanted,
                stop,
                bases=arguments.bases,
                mqtt=arguments.mqtt,
                data_dir=arguments.data_dir,
                say=lambda text: print(text, flush=True),  # noqa: T201 - this is what the command is for
            )
        )
    if arguments.command == "config":
        return _config(arguments.program, arguments.output)
    if arguments.command == "doctor":
        return _doctor(arguments.program, arguments.output)
    settings = load(SupervisorSettings)
    logs.configure(settings.log_format, settings.log_level, program="module-controller")
    return process.run(lambda stop: supervise(settings, stop))


def _config(programs: Sequence[str], output: str) -> int:
    # Imported here: supervising needs none of the programs' settings.
    from modulecontroller import config
    from modulecontroller.configuration import survey

    found = survey(programs)
    sys.stdout.write(config.as_json(found) if output == "json" else config.as_text(found))
    return EXIT_USAGE if found.wrong else 0


def _doctor(programs: Sequence[str], output: str) -> int:
    from modulecontroller.configuration import survey
    from modulecontroller.doctor import examine

    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.ERROR, program="doctor")
    findings = asyncio.run(examine.examine(survey(programs)))
    sys.stdout.write(examine.as_json(findings) if output == "json" else examine.as_text(findings))
    return examine.exit_code(findings)


if __name__ == "__main__":
    sys.exit(main())
