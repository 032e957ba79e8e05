"""Module lists, health and help as bases answer them."""

from typing import Any

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.rpc.access.rules import LARGE
from gateways.arklet.fields import Malformed
from gateways.arklet.payloads import LARGEST
from tests.unit.gateways import said
from tests.unit.gateways.arklet.reading import answer, health, help_commands, modules


def listed(**changes: Any) -> dict[str, Any]:
    return {"bizName": "biz1", "bizVersion": "0.0.1", "bizState": "activated"} | changes


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("activated", pb.MODULE_STATE_ACTIVATED),
        ("ACTIVATED", pb.MODULE_STATE_ACTIVATED),
        (2, pb.MODULE_STATE_ACTIVATED),
        ("3", pb.MODULE_STATE_DEACTIVATED),
        ("4", pb.MODULE_STATE_BROKEN),
        ("resolved", pb.MODULE_STATE_RESOLVED),
        ("dancing", pb.MODULE_STATE_UNSPECIFIED),
        (None, pb.MODULE_STATE_UNSPECIFIED),
        (6, pb.MODULE_STATE_UNSPECIFIED),
    ],
)
def test_module_state_is_a_name_or_ordinal(value: Any, state: pb.ModuleState.ValueType) -> None:
    assert modules(answer([listed(bizState=value)])).modules[0].state == state


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (None, (None, "")),
        ([], (None, "")),
        ("x", (None, "")),
        ([{}, {}], (None, "")),
        ([None, 3], (None, "")),
        ([{"reason": "Created"}, {"reason": "Started"}], (None, "Started")),
        ([{"changeTime": 2, "reason": "b"}, {"changeTime": 1, "reason": "a"}], (2, "b")),
        ([{"changeTime": 2, "reason": "a"}, {"changeTime": 2, "reason": "b"}], (2, "b")),
        ([{"changeTime": 2, "reason": "a"}, {"reason": "b"}], (2, "a")),
        ([{"changeTime": "2024-01-01", "reason": "a"}], (None, "a")),
        ([{"changeTime": 2**62, "reason": "a"}], (None, "a")),
        ([{"changeTime": -5, "reason": "a"}], (None, "")),
        ([{"changeTime": True, "reason": 3}], (None, "")),
    ],
)
def test_latest_record_counts(records: Any, expected: tuple[int | None, str]) -> None:
    module = modules(answer([listed(bizStateRecords=records)])).modules[0]
    changed_at = module.changed_at.ToMilliseconds() if module.HasField("changed_at") else None
    assert (changed_at, module.reason) == expected


def test_module_list_may_be_empty() -> None:
    assert modules(answer([])) == pb.Modules(complete=True)


@pytest.mark.parametrize("value", [{}, None, "x"])
def test_module_list_of_another_type_is_malformed(value: Any) -> None:
    with pytest.raises(Malformed, match="data: expected a list"):
        modules(answer(value))


def test_embedded_master_is_no_module() -> None:
    assert modules(answer([{"mainClass": "embed main"}, listed()])).modules == [said.module("biz1", "0.0.1")]


@pytest.mark.parametrize(
    "entry",
    [None, 3, [], {}, listed(bizName=None), listed(bizName=""), listed(bizVersion=1), listed(bizName="n" * 257)],
)
def test_one_unreadable_entry_makes_the_list_malformed(entry: Any) -> None:
    with pytest.raises(Malformed, match=r"data\[1\]"):
        modules(answer([listed(), entry]))


def test_module_list_is_never_cut() -> None:
    with pytest.raises(Malformed, match="more than 4096 modules"):
        modules(answer([listed(bizVersion=str(number)) for number in range(4097)]))


def test_what_no_replica_takes_is_malformed() -> None:
    """Such a report would end the stream of the gateway, again and again."""
    assert LARGEST + 4096 < LARGE
    record = {"reason": "r" * 250, "message": "m" * 1000}
    entries = [listed(bizVersion=str(number), bizStateRecords=[record]) for number in range(1000)]
    with pytest.raises(Malformed, match=f"at most {LARGEST} are reported"):
        modules(answer(entries))
    assert len(modules(answer(entries[:500])).modules) == 500


HEALTH: dict[str, Any] = {
    "masterBizInfo": {"bizName": "shop-base", "bizState": "activated", "bizVersion": "1.0.0"},
    "jvm": {
        "java version": "1.8.0_402",
        "max non heap memory(M)": -9.5367431640625e-7,
        "java used metaspace": 65585152,
        "java committed metaspace": 69468160,
        "java max metaspace": 268435456,
    },
}


def test_health_has_state_metaspace_and_java_version() -> None:
    assert health(answer({"healthData": HEALTH})) == said.health(
        "ACTIVATED", (65585152, 69468160, 268435456), "1.8.0_402"
    )


@pytest.mark.parametrize(
    "data",
    [None, {}, [], "x", {"healthData": None}, {"healthData": []}, {"healthData": {"jvm": 1, "masterBizInfo": []}}],
)
def test_missing_parts_of_health_are_left_out(data: Any) -> None:
    assert health(answer(data)) == pb.Health()


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("ACTIVATED", pb.BASE_STATE_ACTIVATED),
        (2, pb.BASE_STATE_ACTIVATED),
        ("deactivated", pb.BASE_STATE_DEACTIVATED),
        ("", pb.BASE_STATE_UNSPECIFIED),
        (None, pb.BASE_STATE_UNSPECIFIED),
        ("broken", pb.BASE_STATE_UNKNOWN),
        (9, pb.BASE_STATE_UNKNOWN),
    ],
)
def test_health_has_the_state_of_the_base(value: Any, state: pb.BaseState.ValueType) -> None:
    assert health(answer({"healthData": {"masterBizInfo": {"bizState": value}}})).state == state


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"java max metaspace": -1}, (65585152, 69468160, -1)),
        ({"java max metaspace": -2}, None),
        ({"java max metaspace": None}, None),
        ({"java used metaspace": "65585152"}, None),
        ({"java used metaspace": -1}, None),
        ({"java committed metaspace": 1.5}, None),
        ({"java committed metaspace": 2**63}, None),
    ],
)
def test_metaspace_is_complete_or_left_out(change: dict[str, Any], expected: tuple[int, int, int] | None) -> None:
    data = HEALTH | {"jvm": HEALTH["jvm"] | change}
    assert health(answer({"healthData": data})) == said.health("ACTIVATED", expected, "1.8.0_402")


@pytest.mark.parametrize(
    ("cpu", "cpus"),
    [
        ({"count": 4, "type": "Xeon"}, 4),
        ({"count": 65535}, 65535),
        ({"count": 65536}, 0),
        ({"count": 0}, 0),
        ({"count": -1}, 0),
        ({"count": "4"}, 0),
        ({"count": 1.5}, 0),
        ({"count": True}, 0),
        ({}, 0),
        ([], 0),
        (None, 0),
    ],
)
def test_cpus_are_a_number_or_left_out(cpu: Any, cpus: int) -> None:
    assert health(answer({"healthData": {"cpu": cpu}})).cpus == cpus


CPU = {"total used (%)": 40_000.0, "user used (%)": 50, "system used (%)": 12.5}


@pytest.mark.parametrize(
    ("jvm", "cpu", "usage"),
    [
        ({"used heap memory(M)": 1.5}, CPU, pb.Usage(heap_bytes=1_572_864, cpu_seconds=25.0)),
        ({}, CPU, pb.Usage(cpu_seconds=25.0)),
        ({}, CPU | {"user used (%)": 0, "system used (%)": 0}, pb.Usage(cpu_seconds=0.0)),
        ({}, CPU | {"user used (%)": 99}, pb.Usage(cpu_seconds=40.0)),
        ({"used heap memory(M)": 0}, {}, pb.Usage(heap_bytes=0)),
        ({"used heap memory(M)": -1}, CPU | {"user used (%)": None}, None),
        ({"used heap memory(M)": "1"}, CPU | {"user used (%)": -1}, None),
        ({"used heap memory(M)": 1e300}, CPU | {"total used (%)": 1e300}, None),
        ({"used heap memory(M)": True}, CPU | {"system used (%)": True}, None),
        ({"used heap memory(M)": []}, CPU | {"system used (%)": "1"}, None),
    ],
)
def test_heap_and_cpu_are_each_there_or_left_out(
    jvm: dict[str, Any], cpu: dict[str, Any], usage: pb.Usage | None
) -> None:
    found = health(answer({"healthData": {"jvm": jvm, "cpu": cpu}}))
    assert found == pb.Health(usage=usage)
    assert found.HasField("usage") == (usage is not None)


def test_help_lists_commands() -> None:
    result = answer([{"id": "help", "desc": "x"}, {"id": "installBiz"}, {"id": 3}, {}, None, {"id": ""}])
    assert help_commands(result) == {"help", "installBiz"}
