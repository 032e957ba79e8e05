"""Options of the simulated-base program that concern MQTT.

What is said of the broker defaults to the variables that the MQTT gateway reads,
so that passwords need not stand in the list of processes.
"""

from __future__ import annotations

import argparse
import os
import ssl
from typing import NoReturn

from gateways.arklet.names import InvalidName, parse_env
from simulatedbase.argument_types import number, seconds
from simulatedbase.mqtt.broker import Broker, tls

_PORT = number(1, 65535)


def add(group: argparse._ArgumentGroup) -> None:
    """Add the options to a group."""
    group.add_argument("--broker", default=_variable("MQTT_BROKER"), metavar="HOST", help="host of the broker")
    group.add_argument("--mqtt-port", type=_PORT, metavar="N", help="its port (default: MQTT_PORT or 1883)")
    group.add_argument("--mqtt-username", default=_variable("MQTT_USERNAME"), metavar="NAME", help="user name there")
    group.add_argument("--mqtt-password", default=None, metavar="TEXT", help="password; better in MQTT_PASSWORD")
    group.add_argument(
        "--mqtt-ca", default=_variable("MQTT_CA_PATH"), metavar="FILE", help="CA of the broker; switches TLS on"
    )
    group.add_argument(
        "--mqtt-cert", default=_variable("MQTT_CLIENT_CRT_PATH"), metavar="FILE", help="certificate of the base"
    )
    group.add_argument(
        "--mqtt-key", default=_variable("MQTT_CLIENT_KEY_PATH"), metavar="FILE", help="key of that certificate"
    )
    group.add_argument(
        "--mqtt-tls-insecure",
        action="store_true",
        default=_variable("MQTT_TLS_INSECURE").lower() in ("true", "1"),
        help="take any certificate of the broker",
    )
    group.add_argument(
        "--mqtt-prefix",
        default=_variable("MQTT_CLIENT_PREFIX", "koupleless"),
        metavar="TEXT",
        help="first part of the client id, before @@@IDENTITY",
    )
    group.add_argument("--env", type=_env, default="default", help="environment, part of the topics")
    group.add_argument("--heartbeats-survive", action="store_true", help="heartbeats go on after an outage")
    group.add_argument(
        "--reconnect-longest",
        type=seconds,
        default=128.0,
        metavar="S",
        help="longest time between attempts to reach the broker again; the first comes after one second",
    )


def broker(options: argparse.Namespace) -> Broker | None:
    """Return the broker that the options name.

    Raises OSError when files for TLS cannot be used, ArgumentTypeError or ValueError for MQTT_PORT.
    """
    if not options.broker:
        return None
    told = Broker(
        host=options.broker,
        port=options.mqtt_port or _PORT(_variable("MQTT_PORT", "1883")),
        username=options.mqtt_username,
        password=_variable("MQTT_PASSWORD") if options.mqtt_password is None else options.mqtt_password,
        prefix=options.mqtt_prefix,
        ca=options.mqtt_ca,
        certificate=options.mqtt_cert,
        key=options.mqtt_key,
        insecure=options.mqtt_tls_insecure,
    )
    tls(told)
    return told


def check(top: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program when bases could not speak MQTT with these options."""
    if not options.broker:
        top.error(f"--tunnel {options.tunnel.value}: which broker? Name its host with --broker or MQTT_BROKER")
    if not options.identity or any(character in options.identity for character in "/+#"):
        top.error(f"--identity {options.identity}: topics cannot hold it; leave out '/', '+' and '#'")
    if bool(options.mqtt_cert) != bool(options.mqtt_key):
        top.error("--mqtt-cert and --mqtt-key are needed both or neither")
    try:
        broker(options)
    except ssl.SSLError as error:
        _unusable(top, options, str(error))
    except OSError as error:
        _unusable(top, options, error.strerror or str(error))
    except (argparse.ArgumentTypeError, ValueError):
        top.error(f"MQTT_PORT={_variable('MQTT_PORT')}: not a port; unset it, or name the port with --mqtt-port")


def _unusable(top: argparse.ArgumentParser, options: argparse.Namespace, why: str) -> NoReturn:
    files = " ".join(file for file in (options.mqtt_ca, options.mqtt_cert, options.mqtt_key) if file)
    top.error(f"TLS files {files} cannot be used: {why}; --mqtt-ca, --mqtt-cert and --mqtt-key name PEM files")


def _variable(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def _env(text: str) -> str:
    try:
        return parse_env(text)
    except InvalidName as error:
        raise argparse.ArgumentTypeError(str(error)) from None
