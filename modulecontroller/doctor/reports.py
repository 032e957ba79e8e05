"""Whether those who are told of failures can be reached. Nothing is sent to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from urllib.request import getproxies, proxy_bypass

from controlplane.reports import hooks, trackerfile
from controlplane.reports.hooks import Destination
from controlplane.settings import ControlPlaneSettings
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, ok, skipped, warning

ABOUT = "reports"
CONNECT_TIME = 5.0


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which hooks and links can be reached; those that cannot be used are told as settings."""
    settings = configuration.of(ControlPlaneSettings)
    if settings is None:
        yield skipped(ABOUT, configuration.why_not("controlplane"))
        return
    targets = list(_targets(settings))
    if not targets:
        yield skipped(ABOUT, "no hook and no link is called by http or https")
    for finding in await asyncio.gather(*(_reach(target) for target in targets)):
        yield finding


def _targets(settings: ControlPlaneSettings) -> Iterator[Destination]:
    of_hooks = hooks.destinations("hook", hooks.urls(settings.report_hooks.get_secret_value()))
    yield from (hook for hook in of_hooks if not hook.problem)
    if settings.tracker_file is not None:
        with contextlib.suppress(trackerfile.WrongTrackerFile):
            yield from trackerfile.load(settings.tracker_file).links


async def _reach(target: Destination) -> Finding:
    scheme, host = target.parts.scheme, target.parts.hostname or ""
    if scheme in getproxies() and not proxy_bypass(host):
        return skipped(ABOUT, f"{target.name} is called through a proxy, and not tried")
    try:
        async with asyncio.timeout(CONNECT_TIME):
            _, writer = await asyncio.open_connection(host, target.parts.port or (443 if scheme == "https" else 80))
    except (OSError, TimeoutError) as failed:
        cause = _cause(failed)
        fix = "correct the URL, or look at DNS, firewalls and NetworkPolicies; all else works without it"
        return warning(ABOUT, f"{target.name} cannot be reached: {cause}", fix)
    writer.close()
    return ok(ABOUT, f"{target.name} can be reached")


def _cause(failed: OSError) -> str:
    """Return why a connection failed; asyncio's own text tells the address once more."""
    if isinstance(failed, TimeoutError):
        return f"no answer within {CONNECT_TIME:g} s"
    return os.strerror(failed.errno) if failed.errno and failed.errno > 0 else failed.strerror or str(failed)
