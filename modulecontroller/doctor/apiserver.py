"""Whether the API server can be reached, takes us for somebody, and is of a version that is known to work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, ok, skipped, warning
from modulecontroller.doctor.kube import Answer, NoAnswer, connect, subject

ABOUT = "API server"
OLDEST, NEWEST = (1, 20), (1, 36)
"""Versions of Kubernetes, as (major, minor), between which the tests were run."""


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether the API server answers, and its version."""
    settings = subject(configuration)
    if isinstance(settings, str):
        yield skipped(ABOUT, settings)
        return
    try:
        async with connect(settings) as api:
            # /version is for everybody who is somebody, and for nobody in some clusters.
            answer = await api.ask("/version")
            yield judge(api.host, answer)
    except NoAnswer as failed:
        yield error(ABOUT, str(failed), failed.fix)


def judge(host: str, answer: Answer) -> Finding:
    """Return what the answer to /version means."""
    if answer.status == 401:
        fix = "renew the credentials of the kubeconfig, or the service account's token"
        return error(ABOUT, f"{host} does not accept our credentials: {answer.message}", fix)
    told = str(answer.body.get("gitVersion", ""))
    found = re.match(r"v(\d+)\.(\d+)", told)
    if answer.status != 200 or found is None:
        return error(ABOUT, f"{host} does not tell its version: {answer.message}", "is this a Kubernetes API server?")
    version = (int(found[1]), int(found[2]))
    between = f"{_text(OLDEST)} to {_text(NEWEST)}"
    if version < OLDEST:
        fix = f"update Kubernetes: the tests were run with {between}"
        return warning(ABOUT, f"{host} is Kubernetes {told}, older than any that was tried", fix)
    if version > NEWEST:
        fix = f"none needed as long as all works: the tests were run with {between}"
        return warning(ABOUT, f"{host} is Kubernetes {told}, newer than any that was tried", fix)
    return ok(ABOUT, f"{host} answers; Kubernetes {told}")


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
