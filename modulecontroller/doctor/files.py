"""Files and folders: what is read, what is written, and certificates that end soon. Wrong paths are wrong settings."""

from __future__ import annotations

import os
import ssl
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from controlplane.settings import ClusterKind, ControlPlaneSettings
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller.configuration import SUPERVISOR, Configuration
from modulecontroller.doctor.findings import Finding, error, ok, warning

ABOUT = "files"
SOON = 14 * 86400.0
"""Seconds before its end from which on a certificate is told."""


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield what is wrong with files, or that nothing is."""
    found = [*_temporary(configuration), *_database(configuration), *_certificates(configuration)]
    for finding in found or [ok(ABOUT, "what is read can be read, what is written can be written")]:
        yield finding


def _temporary(configuration: Configuration) -> list[Finding]:
    if all(program.name != SUPERVISOR for program in configuration.programs):
        return []
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        cause = "module-controller keeps its children's sockets in the folder for temporary files, and none is writable"
        return [error(ABOUT, cause, "mount an emptyDir at /tmp, or name a folder with TMPDIR")]
    return []


def _database(configuration: Configuration) -> list[Finding]:
    settings = configuration.of(ControlPlaneSettings)
    if settings is None or settings.kind is not ClusterKind.EMBEDDED:
        return []
    path = Path(settings.embedded_db).absolute()
    there = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    if os.access(there, os.W_OK) and (there == path or there.is_dir()):
        return []
    fix = "name a file in a folder that can be written"
    return [error(ABOUT, f"EMBEDDED_DB={settings.embedded_db}: {there} cannot be written", fix)]


def _certificates(configuration: Configuration) -> list[Finding]:
    settings = configuration.of(MqttGatewaySettings)
    if settings is None:
        return []
    found = []
    if settings.ca_path:
        end = _last_end(settings.ca_path)
        left = end - time.time()
        day = time.strftime("%Y-%m-%d", time.gmtime(end))
        fix = "get the CA's new certificate before it ends; the broker cannot be checked with an old one"
        if left < 0:
            found.append(error(ABOUT, f"MQTT_CA_PATH={settings.ca_path}: the certificate ended on {day}", fix))
        elif left < SOON:
            found.append(warning(ABOUT, f"MQTT_CA_PATH={settings.ca_path}: the certificate ends on {day}", fix))
    key = settings.client_key_path
    if key and Path(key).stat().st_mode & stat.S_IROTH:
        fix = "let only the program's user read it (in a Pod: defaultMode of the volume)"
        found.append(warning(ABOUT, f"MQTT_CLIENT_KEY_PATH={key}: everybody on this machine can read the key", fix))
    return found


def _last_end(ca_path: str) -> float:
    """Return when the last of the certificates ends, in epoch seconds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=ca_path)
    ends = [certificate["notAfter"] for certificate in context.get_ca_certs()]
    return max((ssl.cert_time_to_seconds(str(end)) for end in ends), default=float("inf"))
