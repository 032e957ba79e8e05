"""Which Events are reported, under which codes, and how often."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import reports
from controlplane.domain.reports import Allowance, Report, Sent, classify, gathered


def report(message: str = "no space", *, base: str = "b1", event: str = "ContainerStart") -> Report:
    return Report("key", "vpod_deploy", event, "fail", message, "01002", {"base": base}, "t-1", 120)


def test_the_fields_are_the_originals() -> None:
    assert report().fields() == {
        "traceID": "t-1",
        "scene": "vpod_deploy",
        "event": "ContainerStart",
        "timeUsed": 120,
        "result": "fail",
        "message": "no space",
        "code": "01002",
        "labels": {"base": "b1"},
    }


def test_a_report_is_a_line_of_the_events_file() -> None:
    line = report("no\nspace").line("2026-11-25 05:00:00.123")
    assert line == (
        "[2026-11-25 05:00:00.123], [t-1], [vpod_deploy], [ContainerStart], [120], [fail], [01002], "
        '[no\\nspace], [{"base":"b1"}]\n'
    )


@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_any_report_is_one_line(message: str, labels: dict[str, str]) -> None:
    any_report = Report("k", "s", "e", "fail", message, "c", labels, message)
    line = any_report.line("now")
    assert len(re.split("[\r\n]", line)) == 2
    before_labels = replace(any_report, labels={}).line("now").removesuffix("{}]\n")
    assert line.startswith(before_labels)
    assert json.loads(line.removeprefix(before_labels).removesuffix("]\n")) == labels


@pytest.mark.parametrize(
    ("reason", "warning", "event", "code"),
    [
        ("ModuleInstalled", False, "ContainerStart", "00000"),
        ("ModuleInstallFailed", True, "ContainerStart", "01002"),
        ("ModuleInstallUnanswered", True, "ContainerStart", "00002"),
        ("ModuleUninstalled", False, "ContainerShutdown", "00000"),
        ("ModuleUninstallFailed", True, "ContainerShutdown", "01003"),
        ("ModuleUninstallTimeout", True, "PodDelete", "00001"),
        ("PodRemoved", False, "PodDelete", "00000"),
        ("PodUpdated", False, "PodUpdate", "00000"),
    ],
)
def test_events_and_codes_of_modules_are_the_originals(reason: str, warning: bool, event: str, code: str) -> None:
    kind = classify(reason, warning=warning, module=True, vnode=True)
    assert kind is not None
    assert (kind.scene, kind.event, kind.code) == ("vpod_deploy", event, code)


def test_every_warning_is_a_failure_and_of_the_rest_only_what_was_done_to_modules() -> None:
    unknown = classify("SomethingNew", warning=True, module=False, vnode=True)
    assert unknown is not None
    assert (unknown.scene, unknown.event, unknown.code) == ("vnode", "SomethingNew", "00009")
    assert classify("BaseReachable", warning=False, module=False, vnode=True) is None
    assert classify("VNodeRemoved", warning=False, module=False, vnode=True) is None
    removed = classify("VNodeRemoved", warning=True, module=False, vnode=True)
    assert removed is not None
    assert removed.code != reports.DONE


def test_a_timeout_is_never_reported_as_a_success() -> None:
    for reason in ("ModuleInstallUnanswered", "ModuleUninstallUnanswered", "ModuleUninstallTimeout"):
        kind = classify(reason, warning=True, module=True, vnode=True)
        assert kind is not None
        assert kind.code in (reports.TIMED_OUT, reports.START_TIMED_OUT)


def test_repetitions_are_counted_with_the_last_message() -> None:
    sent = Sent(0.0, report("first")).again(report("second"))
    assert sent.summary().message == "second (once more within 10 minutes)"
    assert sent.again(report("third")).summary().message == "third (2 times more within 10 minutes)"


@given(st.lists(st.floats(0, 1000), max_size=60))
def test_an_allowance_is_never_exceeded_in_any_such_time(wishes: list[float]) -> None:
    allowance, called, now = Allowance(3, 10.0), list[float](), 0.0
    for wish in sorted(wishes):
        now = max(now, wish)
        now += allowance.wait(called, now)
        called.append(now)
    for index in range(len(called) - 3):
        assert called[index + 3] - called[index] >= 10.0 - 1e-9


def test_many_of_a_kind_are_reported_as_one() -> None:
    others = [report(base=f"b{n}") for n in range(2, 9)]
    assert gathered(report(), others).message == "no space (and 7 more like it: b2, b3, b4, b5, b6, ...)"
    assert gathered(report(), []) == report()
