"""Runs all checks at once, each with a bound of its own, and shows what they found."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from modulecontroller.configuration import Configuration
from modulecontroller.doctor import (
    addresses,
    apiserver,
    broker,
    clock,
    controlplane,
    files,
    identity,
    kubelet,
    permissions,
    ports,
    reports,
    settings,
    vnodes,
)
from modulecontroller.doctor.findings import Check, Finding, Level, error

TIME_LIMIT = 30.0
"""Seconds that one check may take."""

CHECKS: Mapping[str, Check] = {
    "settings": settings.check,
    "identity": identity.check,
    "files": files.check,
    "ports": ports.check,
    "control plane": controlplane.check,
    "API server": apiserver.check,
    "permissions": permissions.check,
    "kubelet API": kubelet.check,
    "clock": clock.check,
    "addresses": addresses.check,
    "reports": reports.check,
    "VNodes": vnodes.check,
    "broker": broker.check,
}
"""All checks in the order in which they are shown; what they find may be about a part of the name's subject."""


async def examine(
    configuration: Configuration, *, checks: Mapping[str, Check] = CHECKS, limit: float = TIME_LIMIT
) -> list[Finding]:
    """Return what all checks found; a check takes at most limit seconds."""
    found = await asyncio.gather(*(_run(name, check, configuration, limit) for name, check in checks.items()))
    return [finding for findings in found for finding in findings]


async def _run(name: str, check: Check, configuration: Configuration, limit: float) -> list[Finding]:
    found: list[Finding] = []
    keep = found.append  # one by one: what came before the time was over counts
    try:
        async with asyncio.timeout(limit):
            async for finding in check(configuration):
                keep(finding)
    except TimeoutError:
        found.append(
            error(name, f"not done within {limit:g} s", "something on the way swallows packets: look at firewalls")
        )
    except Exception as defect:  # supervisor: a defect of one check must not hide what the others found
        words = f"the check itself failed: {type(defect).__name__}: {defect}"
        found.append(error(name, words, "report it, please; the other checks are not touched by it"))
    return found


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 when there is an error, else 0."""
    return 1 if any(finding.level is Level.ERROR for finding in findings) else 0


def as_text(findings: Sequence[Finding]) -> str:
    """Return a line for each finding, its fix below it, and the sum."""
    return "\n".join(_lines(findings)) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Return one JSON object: the findings, and how many there are of each level."""
    told = [
        {"about": finding.about, "level": finding.level.value, "message": finding.message, "fix": finding.fix}
        for finding in findings
    ]
    counts = Counter(finding.level for finding in findings)
    summary = {level.value: counts[level] for level in Level}
    return json.dumps({"findings": told, "summary": summary}, indent=2, ensure_ascii=False) + "\n"


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    width = max((len(finding.about) for finding in findings), default=0)
    for finding in findings:
        yield f"{finding.level.value:<7}  {finding.about:<{width}}  {finding.message}"
        if finding.fix:
            yield f"{'':<7}  {'':<{width}}  fix: {finding.fix}"
    counts = Counter(finding.level for finding in findings)
    yield ", ".join(f"{counts[level]} {level.value}" for level in Level if counts[level])
