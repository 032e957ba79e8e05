"""What the pages name exists: links, tests, metrics, reasons; and every console block is run or says why not."""

import re
from pathlib import Path

import pytest

from tests.unit.docs.pages import PAGES, ROOT, blocks, links

OPERATIONS = ROOT / "docs" / "operations.md"
REPORTS = ROOT / "docs" / "reports.md"
PROGRAMS = (
    "controlplane",
    "gateways",
    "kubeaccess",
    "mctl",
    "modulecontroller",
    "mqttclient",
    "service",
    "simulatedbase",
)
SOURCES = [path for folder in PROGRAMS for path in (ROOT / folder).rglob("*.py")]

_TEST = re.compile(r"\b(tests/[\w/]+\.py)::(\w+)")
_METRIC = re.compile(r"\bkoupleless_[a-z0-9_]+\b")
_REASON = re.compile(r'"([A-Z][a-z]+(?:[A-Z]+[a-z]*)+)"')
_NO_REASONS = re.compile(
    r"(PreferNo|No)(Execute|Schedule)|\w+ClusterAutoscaler|InternalIP|NotIn|RuntimeDefault|DaemonSet|PodScheduled|DoesNotExist|\w+Exception|\w+(Id|Service)"
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{name(page)}: {target}"
        assert not anchor or anchor in anchors(linked), f"{name(page)}: {target}"


def test_links_are_found_with_and_without_an_anchor() -> None:
    found = {target for page in PAGES for target in links(page)}
    assert {"docs/deployment.md", "operations.md#rules-of-scheduling", "#which-form"} <= found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_cited_tests_exist(page: Path) -> None:
    for path, test in _TEST.findall(page.read_text(encoding="utf-8")):
        defined = re.search(rf"\b(def {test}\(|{test} = )", (ROOT / path).read_text(encoding="utf-8"))
        assert defined, f"{name(page)}: {path}::{test}"


def test_the_invariants_name_tests() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (I[1-9]) \|(.*)$", text, re.MULTILINE)
    assert [number for number, _ in rows] == [f"I{n}" for n in range(1, 10)]
    assert all(_TEST.search(row) for _, row in rows)


def test_every_metric_is_explained_and_no_other() -> None:
    named = {metric for source in SOURCES for metric in re.findall(r'"(koupleless_[a-z0-9_]+)"', source.read_text())}
    explained = set(_METRIC.findall(OPERATIONS.read_text(encoding="utf-8")))
    # With and without _total the supervisor knows the same metric.
    assert explained == {metric for metric in named if f"{metric}_total" not in named}


def test_every_reason_is_explained() -> None:
    texts = [path.read_text() for part in ("app", "domain") for path in (ROOT / "controlplane" / part).rglob("*.py")]
    reasons = {word for text in texts for word in _REASON.findall(text) if not _NO_REASONS.fullmatch(word)}
    page = OPERATIONS.read_text(encoding="utf-8") + REPORTS.read_text(encoding="utf-8")
    assert not {reason for reason in reasons if f"`{reason}`" not in page}
    assert {"ModuleUninstallTimeout", "InstallFailed", "BaseReady"} <= reasons


def test_every_console_block_is_run_or_says_why_not() -> None:
    for block in blocks():
        assert block.why is None or block.why.strip(), f"{block.name}: <!-- not run: ... --> gives no reason"
        assert any(True for _ in block.commands()), f"{block.name}: no command begins with $"
    assert any(block.why is None for block in blocks())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_nowhere_but_in_console_blocks(page: Path) -> None:
    kinds = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
    assert set(kinds) <= {"console", "http", "json", "python", "text", "yaml"}, "write commands as a console block"
