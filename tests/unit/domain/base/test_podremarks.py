"""Events about a Pod: each is recorded once for as long as it holds, whoever writes the status."""

from dataclasses import replace

from controlplane.domain.base.vpod import remarks
from controlplane.domain.objects import ContainerKind, OtherContainer, Pod, PodStatus
from controlplane.domain.remarks import Remark
from tests.unit.domain.base.pods import biz, pod, pod_status, reported

IGNORED = Remark(False, "FieldsIgnored", "ignored: command")
REFUSED = "envFrom is not supported here"


def written(which: Pod) -> PodStatus:
    status = pod_status(which, reported(), superseded=frozenset(), now=0.0, wall=0.0)
    assert status is not None
    return status


def test_ignored_fields_are_reported_with_the_first_status_only() -> None:
    first = replace(pod(), ignored="ignored: command")
    status = written(first)
    assert list(remarks(first, status)) == [IGNORED]
    assert list(remarks(replace(first, status=status), replace(status, phase="Running"))) == []


def test_a_container_that_comes_later_is_reported() -> None:
    first = replace(pod(), ignored="ignored: command")
    debug = OtherContainer(ContainerKind.EPHEMERAL, "debug", "busybox")
    debugged = replace(first, status=written(first), others=(debug,), ignored="ignored: debug, command")
    assert list(remarks(debugged, written(debugged))) == [Remark(False, "FieldsIgnored", "ignored: debug, command")]


def test_a_refused_field_is_reported_once_until_it_changes() -> None:
    first = pod("p", replace(biz(), unsupported=REFUSED))
    status = written(first)
    assert list(remarks(first, status)) == [Remark(True, "UnsupportedField", f"a: {REFUSED}")]
    assert list(remarks(replace(first, status=status), status)) == []


def test_a_pod_that_cannot_be_a_module_is_reported() -> None:
    first = pod("p", biz(version=""))
    (remark,) = remarks(first, written(first))
    assert (remark.warning, remark.reason) == (True, "InvalidModule")
    assert "BIZ_VERSION" in remark.message


def test_nothing_is_reported_of_a_pod_in_order() -> None:
    assert list(remarks(pod(), written(pod()))) == []
