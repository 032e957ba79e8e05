"""What a start depends on at this machine: settings, name, files, ports."""

import contextlib
import errno
import os
import ssl
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from controlplane.settings import ClusterKind, ControlPlaneSettings
from gateways.mqtt.settings import MqttGatewaySettings
from mctl.text import some
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, need, ok, warning
from modulecontroller.doctor.openports import Port, listening
from modulecontroller.settings import PROGRAM_NAMES, SUPERVISOR
from service import listeners
from service.listening import cause_of, open_sockets

CERTIFICATE_ENDS_SOON = 14 * 86400.0
"""Seconds before its end from which on a certificate is reported."""
_STATUS = frozenset({"HEALTH_PORT", "METRICS_PORT"})


async def settings(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield what is wrong with the settings, and what is set and not read."""
    for line in configuration.wrong:
        yield error(line, "correct the variable; module-controller config shows all of them")
    for line in configuration.complaints:
        yield warning(line, "correct the variable, or unset it; all else works without it")
    programs = ", ".join(program.name for program in configuration.programs)
    if not configuration.wrong:
        yield ok(f"{len(configuration.given)} variables are set for {programs}; the others have their defaults")
    env = os.environ.get("ENV", "")
    if env != env.lower():
        yield ok(f"ENV={env} is used as {env.lower()} in topics and Node names, as bases do")
    if configuration.unread and configuration.supervised:
        fix = "enable the part that they are meant for, or unset them"
        yield warning(f"set, but read by none of {programs}: {some(configuration.unread)}", fix)


async def identity(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether this instance finds its own leases after a restart: whether CLIENT_ID is one that lasts."""
    control_plane = need(configuration, ControlPlaneSettings)
    if "CLIENT_ID" in configuration.given:
        yield ok(f"{control_plane.client_id} is set, so that a restart takes up its own leases at once")
    elif control_plane.kind is ClusterKind.EMBEDDED:
        yield ok(f"{control_plane.client_id}, which is the host's name")
    else:
        yield warning(
            f"not set: the host's name {control_plane.client_id} is used, and a new Pod has another one",
            "set it to what stays the same over restarts (a single instance), or to the Pod's name (several)",
        )


async def files(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield what is wrong with files and folders, or that nothing is. Wrong paths are wrong settings."""
    found = [*_written(configuration), *_certificates(configuration)]
    for finding in found or [ok("what is read can be read, what is written can be written")]:
        yield finding


def _written(configuration: Configuration) -> Iterator[Finding]:
    if configuration.supervised:
        try:
            tempfile.gettempdir()
        except FileNotFoundError:
            cause = "module-controller keeps its children's sockets in the folder for temporary files, and none is "
            yield error(f"{cause}writable", "mount an emptyDir at /tmp, or name a folder with TMPDIR")
    control_plane = configuration.of(ControlPlaneSettings)
    if control_plane is not None and control_plane.kind is ClusterKind.EMBEDDED:
        path = Path(control_plane.embedded_db).absolute()
        there = next(each for each in (path, *path.parents) if each.exists())
        if not os.access(there, os.W_OK) or (there != path and not there.is_dir()):
            cause = f"EMBEDDED_DB={control_plane.embedded_db}: {there} cannot be written"
            yield error(cause, "name a file in a folder that can be written")


def _certificates(configuration: Configuration) -> Iterator[Finding]:
    gateway = configuration.of(MqttGatewaySettings)
    if gateway is not None and gateway.ca_path:
        end = _last_end(gateway.ca_path)
        day = time.strftime("%Y-%m-%d", time.gmtime(end))
        fix = "get the CA's new certificate before it ends; the broker cannot be checked with an old one"
        if end < time.time():
            yield error(f"MQTT_CA_PATH={gateway.ca_path}: the certificate ended on {day}", fix)
        elif end < time.time() + CERTIFICATE_ENDS_SOON:
            yield warning(f"MQTT_CA_PATH={gateway.ca_path}: the certificate ends on {day}", fix)
    key = gateway.client_key_path if gateway is not None else ""
    if key and Path(key).stat().st_mode & stat.S_IROTH:
        fix = "let only the program's user read it (in a Pod: defaultMode of the volume)"
        yield warning(f"MQTT_CLIENT_KEY_PATH={key}: everybody on this machine can read the key", fix)


def _last_end(ca_path: str) -> float:
    """Return when the last of the certificates ends, in epoch seconds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=ca_path)
    ends = [certificate["notAfter"] for certificate in context.get_ca_certs()]
    return max((ssl.cert_time_to_seconds(str(end)) for end in ends), default=float("inf"))


async def ports(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which ports cannot be had and why: they must be free, each wanted once."""
    wanted = [*listening(configuration)]
    free: dict[str, None] = {}
    for port in wanted:
        others = {other.variable for other in wanted if other.number == port.number} - {port.variable}
        if port.variable in _STATUS:
            others -= _STATUS  # these two may share a port
        if others:
            yield error(f"{port} is wanted for {', '.join(sorted(others))} as well", "give each a port of its own")
            continue
        try:
            opened = await open_sockets(port.host, port.number)
        except OSError as failed:
            yield _taken(port, failed)
        else:
            free[str(port)] = None
            for one in opened:
                one.close()
    if free:
        yield ok(f"free: {', '.join(free)}")


def _taken(port: Port, failed: OSError) -> Finding:
    if failed.errno == errno.EADDRINUSE:
        pid, command = listener(port.number) or (0, "")
        if is_ours(command):
            return ok(f"{port} is in use by our own process {pid} ({command[:80]}), which runs already")
        by = f" by process {pid} ({command[:80]})" if pid else ""
        return error(f"{port} is in use{by}", f"end what uses it, or choose another with {port.variable}")
    if failed.errno == errno.EACCES:
        return error(f"{port}: only root may listen there", f"choose one above 1023 with {port.variable}")
    return error(f"{port} on {port.host or 'all addresses'}: {cause_of(failed)}", "name an address of this machine")


_OURS = ("controlplane", "gateways.http", "gateways.mqtt", "modulecontroller", SUPERVISOR, *PROGRAM_NAMES)


def is_ours(command: str) -> bool:
    """Return whether a command line is of one of our programs: by itself, or after the interpreter and perhaps -m."""
    return any(Path(word).name in _OURS for word in command.split()[:3])


def listener(port: int, proc: Path = listeners.PROC) -> tuple[int, str] | None:
    """Return process and command line of who listens on a TCP port, None when /proc does not show that to us."""
    sockets = {f"socket:[{each.inode}]" for each in listeners.on_port(port, proc)}
    for process in proc.glob("[0-9]*") if sockets else ():
        # Other users' processes cannot be looked into, and any may end while we look.
        with contextlib.suppress(OSError):
            if any(str(descriptor.readlink()) in sockets for descriptor in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return int(process.name), command
    return None
