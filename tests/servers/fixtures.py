"""The pytest plugin that gives tests real servers, and reports which tests had none.

``kube`` is a cluster that is clean before each test, ``kube_cluster`` the same one as it is, ``mosquitto`` a broker per
test. Where the programs are missing the tests are skipped, or fail if REQUIRE_KUBERNETES=1 or REQUIRE_MOSQUITTO=1.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers.bundles import Bundle, find, find_mosquitto
from tests.servers.cluster import KubeCluster, programs
from tests.servers.fetch import MOSQUITTO_MISSING, Unavailable, where
from tests.servers.mosquitto import Mosquitto

MARKERS = {"kube": "kubernetes", "kube_cluster": "kubernetes", "mosquitto": "mosquitto"}
"""Marker by the fixture that a test asks for."""


def programs_of(bundle: Bundle) -> Path:
    """Return the folder with the programs of a bundle; without it the test is left out, or fails."""
    found = find(bundle)
    if found is None:
        not_run("kubernetes", f"no {bundle.name} {bundle.version} in the cache; make test-servers gets it")
    return found.folder


@pytest.fixture(scope="session")
def kube_cluster() -> Iterator[KubeCluster]:
    """One cluster for the whole run, the shipped roles applied; as the last test left it."""
    try:
        cluster = KubeCluster()
    except Unavailable as error:
        not_run("kubernetes", f"{error}; make test-servers gets it")
    with cluster:
        cluster.apply_rbac()
        yield cluster


@pytest.fixture
def kube(kube_cluster: KubeCluster) -> KubeCluster:
    """The cluster, with nothing of another test in it."""
    kube_cluster.clean()
    return kube_cluster


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    """A broker that accepts every client."""
    try:
        broker = Mosquitto()
    except Unavailable as error:
        not_run("mosquitto", str(error))
    with broker:
        yield broker


def required(need: str) -> bool:
    """Return whether tests must fail without a server: REQUIRE_KUBERNETES, REQUIRE_MOSQUITTO."""
    return os.environ.get(f"REQUIRE_{need.upper()}", "") not in {"", "0"}


def not_run(need: str, why: str) -> NoReturn:
    """Skip the test, or fail it where the server is required; why is one line."""
    message = f"{need}: not run: {why}"
    if required(need):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def pytest_report_header() -> list[str]:
    """Name the servers that the tests run against."""
    return [*where("kubernetes"), *where("mosquitto")]


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run at once where a required server is missing; its result would mean nothing."""
    if session.config.option.collectonly:
        return
    missing = []
    if required("kubernetes"):
        try:
            programs()
        except Unavailable as error:
            missing.append(f"kubernetes is required: {error}")
    if required("mosquitto") and find_mosquitto() is None:
        missing.append(f"mosquitto is required: {MOSQUITTO_MISSING}")
    if missing:
        pytest.exit("; ".join(missing), returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the servers that they ask for."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKERS:
                item.add_marker(MARKERS[fixture])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out and why."""
    skipped: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(left_out([_reason(report) for report in skipped]))


def left_out(reasons: list[str]) -> str:
    """Return the line for the reasons of all skipped tests."""
    if not reasons:
        return "left out: nothing"
    parts = [f"{count} x {reason}" for reason, count in Counter(reasons).most_common()]
    return f"left out: {'; '.join(parts)}"


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return "no reason given"
