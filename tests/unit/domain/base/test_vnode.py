"""The Node of a base is written once, then only where something changed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import vnode
from controlplane.domain.base.environment import Place
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.state import Base, Signs
from controlplane.domain.base.vitals import note_own_use
from controlplane.domain.facts import Address, Module, ModuleState, TunnelKind
from controlplane.domain.identity import BaseId, ModuleKey, VNodeName
from controlplane.domain.objects import Condition, Container, Node, Pod
from tests.unit.domain.base.pods import pod

MI = 1024 * 1024
PROFILE = vnode.Profile(
    base=BaseId("b1"),
    env="dev",
    name="shop",
    version="1.0.0",
    cluster_name="default",
    host_name="shop-0",
    address=Address("10.0.0.7", 1238),
    tunnel=TunnelKind.HTTP,
    metaspace=256 * MI,
    base_used=65 * MI + 1,
    java_version="17",
    cpu="4",
)


def spec(
    profile: vnode.Profile = PROFILE,
    unreachable: str = "",
    now: str = "t1",
    policy: vnode.NodePolicy = vnode.NODE_POLICY,
) -> Node:
    return vnode.node_spec(profile, unreachable=unreachable, fault="", now=now, controller_version="1", policy=policy)


def as_node(wanted: Node) -> Node:
    return replace(wanted, uid="uid", resource_version="1")


def test_memory_is_the_limit_less_what_the_base_used_before_modules() -> None:
    capacity, allocatable = vnode.room(PROFILE, vnode.NODE_POLICY)
    assert capacity["memory"] == "256Mi"
    assert allocatable["memory"] == "190Mi"


@pytest.mark.parametrize("metaspace", [None, -1, 0])
def test_without_a_limit_there_is_no_memory_figure(metaspace: int | None) -> None:
    capacity, allocatable = vnode.room(replace(PROFILE, metaspace=metaspace, base_used=5), vnode.NODE_POLICY)
    assert "memory" not in capacity
    assert "memory" not in allocatable


OFFERED = {"cpu": "1k", "memory": "1Ti", "example.com/tape": "2"}


@pytest.mark.parametrize(
    ("metaspace", "memory"),
    [(None, None), (-1, "1Ti"), (256 << 20, "256Mi")],
    ids=["not reported", "unlimited", "limited"],
)
def test_offered_resources_stand_beside_the_limits_of_the_base(metaspace: int | None, memory: str | None) -> None:
    profile = replace(PROFILE, metaspace=metaspace, base_used=None, cpu="")
    capacity, _ = vnode.room(profile, vnode.NodePolicy(OFFERED))
    assert capacity.get("memory") == memory
    assert (capacity["cpu"], capacity["example.com/tape"]) == ("1k", "2")


@pytest.mark.parametrize(
    ("reported", "policy", "cpu"),
    [
        ("", vnode.NodePolicy(OFFERED), "1k"),
        ("4", vnode.NodePolicy(OFFERED), "4"),
        ("4", vnode.NodePolicy(OFFERED, cpu="8"), "8"),
        ("", vnode.NodePolicy(), None),
        ("4", vnode.NodePolicy(), "4"),
    ],
)
def test_cpu_is_the_setting_or_what_the_base_reports_or_what_is_offered(
    reported: str, policy: vnode.NodePolicy, cpu: str | None
) -> None:
    capacity, allocatable = vnode.room(replace(PROFILE, cpu=reported), policy)
    assert capacity.get("cpu") == allocatable.get("cpu") == cpu


@pytest.mark.parametrize(
    ("most", "limit", "pods"), [(65535, 65535, "65535"), (20, 65535, "20"), (20, 5, "5"), (5, 20, "5")]
)
def test_the_lower_limit_of_modules_counts(most: int, limit: int, pods: str) -> None:
    assert vnode.room(PROFILE, vnode.NodePolicy(pods=most), limit)[0]["pods"] == pods


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1", 1),
        ("007", 7),
        ("65535", 65535),
        ("0", None),
        ("65536", None),
        ("-1", None),
        ("1e3", None),
        ("", None),
        ("٣", None),
    ],
)
def test_a_label_that_is_no_number_of_modules_is_no_limit(text: str, limit: int | None) -> None:
    assert vnode.module_limit(text) == limit


def test_a_provider_id_is_given_once_and_never_taken() -> None:
    with_id, without = spec(policy=vnode.NodePolicy(provider_id=True)), spec()
    assert with_id.provider_id == "koupleless://vnode.b1.dev"
    assert vnode.metadata_differs(as_node(without), with_id)
    assert not vnode.metadata_differs(as_node(with_id), without)
    assert not vnode.metadata_differs(as_node(replace(without, provider_id="aws:///z/i-1")), with_id)


def test_variables_see_the_address_and_what_metaspace_leaves_for_modules() -> None:
    assert vnode.place(PROFILE) == Place(PROFILE.address.ip, "190Mi")
    assert vnode.place(replace(PROFILE, metaspace=-1)).memory == ""


@given(st.integers(min_value=0, max_value=2**62))
def test_quantities_are_read_back(size: int) -> None:
    assert vnode.parse_quantity(vnode.quantity(size)) == size // 1024 * 1024


@pytest.mark.parametrize("text", ["", "abc", "1.5Gi", "-1Ki", "1e3", "９Ki", "9" * 30 + "Ki"])
def test_other_quantities_are_none(text: str) -> None:
    assert vnode.parse_quantity(text) is None


def test_nothing_is_written_where_the_node_is_current() -> None:
    node, later = as_node(spec()), spec(now="t2")
    assert not vnode.metadata_differs(node, later)
    assert vnode.shows(node.status, vnode.with_times(node.status, later.status))


def test_foreign_labels_taints_and_conditions_are_left_alone() -> None:
    node = as_node(spec())
    status = replace(node.status, conditions=(*node.status.conditions, Condition("Foreign", "True")))
    node = replace(node, labels={**node.labels, "x": "y"}, status=status)
    assert not vnode.metadata_differs(node, spec())
    assert vnode.shows(node.status, vnode.with_times(node.status, spec().status))


def test_transition_times_move_only_when_a_status_does() -> None:
    node = as_node(spec())
    written = vnode.with_times(node.status, spec(unreachable="no sign of life for 25 s", now="t2").status)
    assert not vnode.shows(node.status, written)
    times = {c.type: c.last_transition_time for c in written.conditions}
    assert times["Ready"] == "t2"
    assert {time for kind, time in times.items() if kind != "Ready"} == {"t1"}


def test_a_replica_that_takes_over_reads_the_base_back_from_its_node() -> None:
    node = as_node(spec())
    profile = vnode.profile_of(node, BaseId("b1"), "dev")
    assert profile is not None
    assert profile == replace(PROFILE, base_used=66 * MI)
    assert vnode.shows(node.status, vnode.with_times(node.status, spec(profile).status))


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"base.koupleless.io/address": "10.0.0.7:1238"}, Address("10.0.0.7", 1238)),
        ({"base.koupleless.io/address": "[fd00::7]:1238"}, Address("fd00::7", 1238)),
        ({"base.koupleless.io/address": "10.0.0.7:99999"}, None),
        ({"base.koupleless.io/address": "10.0.0.7:x"}, None),
        ({"base.koupleless.io/address": ":0"}, Address("", 0)),
        ({}, None),
    ],
)
def test_addresses_are_read_from_nodes(annotations: dict[str, str], expected: Address | None) -> None:
    assert vnode.address_of(Node("n", "u", "1", annotations=annotations)) == expected


def test_a_base_whose_own_use_is_not_known_is_measured_by_the_next_replica() -> None:
    node = as_node(spec(replace(PROFILE, base_used=None)))
    profile = vnode.profile_of(node, BaseId("b1"), "dev")
    assert profile is not None
    assert profile.base_used is None


def test_values_that_no_label_can_hold_are_left_out() -> None:
    odd = replace(PROFILE, name="a b", version="x" * 64, cluster_name="ok", host_name="-")
    labels = vnode.labels(odd, vnode.HostnameLabel.HOST)
    assert labels["base.koupleless.io/cluster-name"] == "ok"
    assert "kubernetes.io/hostname" not in labels
    assert not {"base.koupleless.io/name", "base.koupleless.io/version", "base.koupleless.io/host-name"} & labels.keys()


def test_bases_of_one_host_have_hostnames_of_their_own() -> None:
    names = {spec(replace(PROFILE, base=BaseId(base))).labels["kubernetes.io/hostname"] for base in ("b1", "b2")}
    assert names == {"vnode.b1.dev", "vnode.b2.dev"}


def test_the_hostname_of_the_original_is_that_of_the_host_or_else_the_identity() -> None:
    host = vnode.HostnameLabel.HOST
    assert vnode.labels(PROFILE, host)["kubernetes.io/hostname"] == "shop-0"
    assert vnode.labels(replace(PROFILE, host_name=""), host)["kubernetes.io/hostname"] == "b1"


@given(st.from_regex(r"[a-z0-9][-a-z0-9]{0,61}[a-z0-9](\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?){0,2}", fullmatch=True))
def test_the_name_of_any_node_has_a_label_value_of_its_own(identity: str) -> None:
    one, other = (spec(replace(PROFILE, base=BaseId(base))).labels for base in (identity, f"{identity}0"))
    assert vnode.LABEL_VALUE.fullmatch(one["kubernetes.io/hostname"])
    assert one["kubernetes.io/hostname"] != other["kubernetes.io/hostname"]


def test_a_node_of_an_earlier_version_gets_its_hostname() -> None:
    before = spec(policy=vnode.NodePolicy(hostname=vnode.HostnameLabel.HOST))
    assert vnode.metadata_differs(as_node(before), spec())


def test_the_own_use_of_a_base_leaves_out_what_pods_of_present_modules_request() -> None:
    def requesting(name: str, memory: int) -> Pod:
        return pod("p", Container(name, "u", "1", memory=memory))

    def own_use(used: int, *names: str) -> int | None:
        present = {key: Module(key, ModuleState.ACTIVATED) for key in (ModuleKey(name, "1") for name in names)}
        profile, modules = replace(PROFILE, base_used=None), Modules(listed=True, present=present)
        base = Base(BaseId("b1"), VNodeName("n"), profile, 0.0, signs=Signs(metaspace_used=used), modules=modules)
        return note_own_use(base, pods, 0.0).profile.base_used

    pods = [requesting("a", 10), requesting("a", 15), requesting("b", 20), requesting("absent", 40)]
    assert own_use(100, "a", "b", "by-hand") == 100 - 15 - 20
    assert own_use(30, "a", "b", "by-hand") == 0
    assert own_use(100) == 100
