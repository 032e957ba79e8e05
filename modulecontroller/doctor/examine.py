"""Runs all checks at once, each with a bound of its own, and shows what they found."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from modulecontroller.configuration import Configuration
from modulecontroller.doctor import broker, cluster, machine, openports, others
from modulecontroller.doctor.findings import Check, Finding, Level, Skip, error, skipped
from service.masking import masked

TIME_LIMIT = 30.0
"""Seconds that one check may take."""

CHECKS: Mapping[str, Check] = {
    "settings": machine.settings,
    "CLIENT_ID": machine.identity,
    "files": machine.files,
    "ports": machine.ports,
    "open ports": openports.open_ports,
    "control plane": others.control_planes,
    "API server": cluster.api_server,
    "permissions": cluster.permissions,
    "kubelet API": cluster.kubelet_api,
    "clock": cluster.clock,
    "addresses": others.addresses,
    "reports": others.reports,
    "VNodes": others.vnodes,
    "broker": broker.broker,
}
"""All checks by what they are about, in the order in which they are shown; some find something about a part of it."""


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
    except Skip as skip:
        keep(skipped(str(skip)))
    except TimeoutError:
        keep(error(f"not done within {limit:g} s", "something on the way swallows packets: look at firewalls"))
    except Exception as defect:  # supervisor: a defect of one check must not hide what the others found
        words = f"the check itself failed: {type(defect).__name__}: {defect}"
        keep(error(words, "report it, please; the other checks are not touched by it"))
    return [replace(each, about=each.about or name, message=masked(each.message)) for each in found]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 when there is an error, else 0."""
    return 1 if any(finding.level is Level.ERROR for finding in findings) else 0


def as_text(findings: Sequence[Finding]) -> str:
    """Return a line for each finding, its fix below it, and the sum."""
    width = max((len(finding.about) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<7}  {finding.about:<{width}}  {finding.message}")
        if finding.fix:
            lines.append(f"{'':<7}  {'':<{width}}  fix: {finding.fix}")
    lines.append(", ".join(f"{count} {level}" for level, count in _counts(findings).items() if count))
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Return one JSON object: the findings, and how many there are of each level."""
    shown = [{"about": finding.about, **asdict(finding)} for finding in findings]
    return json.dumps({"findings": shown, "summary": _counts(findings)}, indent=2, ensure_ascii=False) + "\n"


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(finding.level for finding in findings)
    return {level.value: counts[level] for level in Level}
