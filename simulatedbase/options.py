"""Options of the simulated-base program: the parser, and what they say as profile and switches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from enum import Enum

from service import logs
from simulatedbase import admin
from simulatedbase.argument_types import interval, number, offset, seconds
from simulatedbase.arklet import DESCRIPTIONS
from simulatedbase.heartbeat import controller_url
from simulatedbase.mqtt import options as mqtt
from simulatedbase.profile import ALL, Faults, MultiVersion, Profile, RuntimeVersion, Tunnel

_DEFAULT = Profile()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="simulated-base",
        description="A Koupleless base that speaks the arklet protocol as a Java one does, without a JVM.",
        epilog=f"control at run time (--admin-port):\n{admin.HELP}",
        formatter_class=_Help,
    )
    top.add_argument(
        "--count", type=number(1, 100_000), default=1, metavar="N", help="number of bases, as IDENTITY-1 to IDENTITY-N"
    )
    top.add_argument("--ramp", type=seconds, default=0.0, metavar="S", help="start them evenly over so many seconds")
    top.add_argument(
        "--admin-port",
        type=number(0, 65535),
        metavar="N",
        help="control the bases over HTTP on this loopback port; 0 means any free one",
    )
    top.add_argument(
        "--log-format",
        choices=[item.value for item in logs.LogFormat],
        default="console",
        help="form of the log on standard error",
    )
    top.add_argument(
        "--log-level",
        choices=[item.value for item in logs.LogLevel],
        default="info",
        help="least severity that is logged",
    )
    _identity_options(top.add_argument_group("the base"))
    mqtt.add(top.add_argument_group("MQTT", "with --tunnel mqtt or both"))
    _behaviour_options(top.add_argument_group("how it behaves"))
    _fault_options(
        top.add_argument_group("what fails", "may be given several times; commands are " + ", ".join(DESCRIPTIONS))
    )
    return top


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, or end the program with what is wrong with them."""
    top = parser()
    options = top.parse_args(argv)
    if options.tunnel is not Tunnel.HTTP:
        mqtt.check(top, options)
    return options


def profile(options: argparse.Namespace) -> Profile:
    """Return the base, or the first of several, that the options describe; they are those that parse returned."""
    return Profile(
        identity=options.identity,
        name=options.name,
        version=options.version,
        cluster_name=options.cluster_name,
        controller=(options.controller or "").rstrip("/"),
        port=options.port,
        ip=options.ip,
        listen=options.listen,
        host_name=options.host_name,
        runtime=options.runtime,
        heartbeat_interval=options.heartbeat_interval or options.runtime.heartbeat_interval,
        mqtt_heartbeat_interval=options.heartbeat_interval or _DEFAULT.mqtt_heartbeat_interval,
        heartbeats_survive=options.heartbeats_survive,
        reconnect_longest=options.reconnect_longest,
        clock_skew=options.clock_skew,
        tunnel=options.tunnel,
        broker=mqtt.broker(options) if options.tunnel is not Tunnel.HTTP else None,
        env=options.env,
        server_delay=options.server_delay,
        install_time=options.install_time,
        multi_version=options.multi_version,
        broken_stays=options.broken_stays,
        shared_paths=options.shared_paths,
        java_version=options.java_version,
        metaspace_used=options.metaspace_used,
        metaspace_max=options.metaspace_max,
        metaspace_per_module=options.metaspace_per_module,
    )


def faults(options: argparse.Namespace) -> Faults:
    """Return a fresh set of switches as the options set them."""
    return Faults(
        fail_install=set(options.fail_install),
        fail_uninstall=set(options.fail_uninstall),
        hang=set(options.hang),
        slow=dict(options.slow),
        drop_replies=set(options.drop_replies),
        mute=options.mute,
    )


def _identity_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--identity", default="base", help="identity; with --count the common part of all")
    group.add_argument("--name", default=_DEFAULT.name, help="name of the base application")
    group.add_argument("--version", default=_DEFAULT.version, help="version of the base application")
    group.add_argument("--cluster-name", default=_DEFAULT.cluster_name, metavar="NAME", help="cluster of the base")
    group.add_argument(
        "--controller",
        type=_url,
        metavar="URL",
        help="where heartbeats over HTTP go, for example http://127.0.0.1:7777; none are sent without it",
    )
    group.add_argument(
        "--tunnel",
        type=Tunnel,
        choices=list(Tunnel),
        default=_DEFAULT.tunnel,
        metavar="{http,mqtt,both}",
        help="how the controller is reached; mqtt opens no port for commands",
    )
    group.add_argument(
        "--port",
        type=number(0, 65535),
        metavar="N",
        help="port for commands, counting up with --count; 0 any free one; default the first free of 1238 to 1337",
    )
    group.add_argument("--listen", default=_DEFAULT.listen, metavar="IP", help="address that is bound")
    group.add_argument("--ip", default=_DEFAULT.ip, help="address that heartbeats tell")
    group.add_argument(
        "--host-name", default="", metavar="NAME", help="host name that heartbeats tell; the identity without it"
    )
    group.add_argument(
        "--java-version", default=_DEFAULT.java_version, metavar="V", help="Java version that health tells"
    )


def _behaviour_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--runtime",
        type=RuntimeVersion,
        choices=list(RuntimeVersion),
        default=_DEFAULT.runtime,
        metavar="{1.3.3,1.4.2}",
        help="version of the module runtime; 1.3.3 knows no batchInstallBiz",
    )
    group.add_argument(
        "--heartbeat-interval",
        type=interval,
        metavar="S",
        help=f"seconds between heartbeats (default: {_DEFAULT.heartbeat_interval:g} over HTTP, "
        f"{RuntimeVersion.V1_3_3.heartbeat_interval:g} with runtime 1.3.3, and "
        f"{_DEFAULT.mqtt_heartbeat_interval:g} over MQTT)",
    )
    group.add_argument(
        "--server-delay",
        type=seconds,
        default=0.0,
        metavar="S",
        help="seconds from the first heartbeat until the port for commands listens",
    )
    group.add_argument(
        "--install-time", type=seconds, default=0.0, metavar="S", help="seconds that a module takes to start"
    )
    group.add_argument(
        "--multi-version",
        type=MultiVersion,
        choices=list(MultiVersion),
        default=MultiVersion.DEFAULT,
        metavar="{default,both,switch}",
        help="second version of a module: starts deactivated, serves beside the first, or takes over from it",
    )
    group.add_argument(
        "--broken-stays", action="store_true", help="a module that did not start or stop stays listed as broken"
    )
    group.add_argument(
        "--shared-paths",
        action="store_true",
        help="versions of a module have one web context path: a second one does not start beside the first",
    )
    group.add_argument(
        "--metaspace-used",
        type=number(0, 2**62),
        default=_DEFAULT.metaspace_used,
        metavar="BYTES",
        help="metaspace of the base itself",
    )
    group.add_argument(
        "--metaspace-max",
        type=number(-1, 2**62),
        default=_DEFAULT.metaspace_max,
        metavar="BYTES",
        help="limit of the metaspace, -1 for none; installations beyond it fail",
    )
    group.add_argument(
        "--metaspace-per-module",
        type=number(0, 2**62),
        default=_DEFAULT.metaspace_per_module,
        metavar="BYTES",
        help="metaspace of each module",
    )


def _fault_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fail-install",
        action="append",
        nargs="?",
        const=ALL,
        default=[],
        metavar="NAME[:VERSION]",
        help="the start-up of this module throws; of every one without a name",
    )
    group.add_argument(
        "--fail-uninstall",
        action="append",
        nargs="?",
        const=ALL,
        default=[],
        metavar="NAME[:VERSION]",
        help="the stop of this module throws; of every one without a name",
    )
    group.add_argument(
        "--hang",
        action="append",
        type=_command,
        default=[],
        metavar="COMMAND",
        help="accept the command and never answer",
    )
    group.add_argument(
        "--slow",
        action="append",
        type=_slow,
        default=[],
        metavar="COMMAND=S",
        help="delay the command by so many seconds",
    )
    group.add_argument(
        "--drop-replies",
        action="append",
        type=_command,
        default=[],
        metavar="COMMAND",
        help="carry the command out, then give no answer",
    )
    group.add_argument(
        "--clock-skew", type=offset, default=0.0, metavar="S", help="the clock of the base is fast, or slow below 0"
    )
    group.add_argument("--mute", action="store_true", help="send no heartbeats")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and the epilogue as it is."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "", [], False):
            return action.help
        if isinstance(action.default, Enum):
            return f"{action.help} (default: {action.default.value})"
        return super()._get_help_string(action)


def _command(text: str) -> str:
    if text != ALL and text not in DESCRIPTIONS:
        raise argparse.ArgumentTypeError(f"{text} is not a command: {', '.join(DESCRIPTIONS)}, or {ALL} for all")
    return text


def _slow(text: str) -> tuple[str, float]:
    command, separator, delay = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text} is not of the form COMMAND=SECONDS")
    return _command(command), seconds(delay)


def _url(text: str) -> str:
    try:
        controller_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
