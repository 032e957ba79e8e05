"""Whether this instance finds its own leases after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator

from controlplane.settings import ClusterKind, ControlPlaneSettings
from modulecontroller.configuration import SUPERVISOR, Configuration
from modulecontroller.doctor.findings import Finding, ok, skipped, warning
from service.settings import Source

ABOUT = "CLIENT_ID"


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether CLIENT_ID is one that lasts."""
    settings = configuration.of(ControlPlaneSettings)
    if settings is None:
        yield skipped(ABOUT, configuration.why_not("controlplane"))
        return
    chosen = any(
        variable.name == ABOUT and variable.source is Source.ENVIRONMENT
        for program in configuration.programs
        if program.name in (SUPERVISOR, "controlplane")
        for variable in program.variables
    )
    if chosen:
        yield ok(ABOUT, f"{settings.client_id} is set, so that a restart takes up its own leases at once")
    elif settings.kind is ClusterKind.EMBEDDED:
        yield ok(ABOUT, f"{settings.client_id}, which is the host's name")
    else:
        yield warning(
            ABOUT,
            f"not set: the host's name {settings.client_id} is used, and a new Pod has another one",
            "set it to what stays the same over restarts (a single instance), or to the Pod's name (several)",
        )
