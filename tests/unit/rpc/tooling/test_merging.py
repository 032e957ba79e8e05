"""One answer from the parts of several replicas."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.rpc.tooling.merging import MODULES, VNODES, Part, by_time, cut, merge, merge_gateways
from controlplane.rpc.tooling.paging import page

REPLICAS = "abc"


def vnode(name: str, owner: str = "", fence: int = 0) -> pb.VNode:
    return pb.VNode(name=name, owner=owner, fence=fence)


def test_the_owners_word_counts_and_the_clusters_where_nobody_speaks() -> None:
    parts = [Part("a", [vnode("v1", "a", 3)]), Part("b", [vnode("v3", "b", 5)])]
    rest = Part("", [vnode("v2"), vnode("v3")])
    merged = merge(VNODES, parts, rest, lambda _: "")
    assert [(item.name, item.owner) for item in merged.items] == [("v1", "a"), ("v2", ""), ("v3", "b")]


def test_of_two_who_speak_of_one_vnode_its_holder_counts() -> None:
    parts = [Part("a", [vnode("v1", "a")]), Part("b", [vnode("v1", "b")])]
    for holder, counts in (("a", "a"), ("b", "b"), ("c", "a"), ("", "a")):
        (item,) = merge(VNODES, parts, Part("", []), lambda _, holder=holder: holder).items  # type: ignore[misc]
        assert item.owner == counts


def test_nothing_is_told_beyond_what_every_part_tells() -> None:
    parts = [Part("a", [vnode("v1"), vnode("v2")], until="v2"), Part("b", [vnode("v3")])]
    merged = merge(VNODES, parts, Part("", [vnode("v4")]), lambda _: "")
    assert [item.name for item in merged.items] == ["v1", "v2"]
    assert cut(VNODES, merged, 5) == (merged.items, "v2")
    assert cut(VNODES, merged, 1) == (merged.items[:1], "v1")


@dataclass
class World:
    """Modules of VNodes: what their owners say, and what the cluster shows of each."""

    owner: dict[str, str] = field(default_factory=dict)
    told: dict[str, set[str]] = field(default_factory=dict)
    shown: dict[str, set[str]] = field(default_factory=dict)

    def items(self, names: dict[str, set[str]], of: str) -> list[pb.Module]:
        found = [
            pb.Module(vnode=vnode, name=name, version=of)
            for vnode, modules in names.items()
            if of in ("", self.owner[vnode])
            for name in modules
        ]
        return sorted(found, key=MODULES.key)


worlds = st.dictionaries(
    st.sampled_from([f"v{n}" for n in range(6)]),
    st.tuples(st.sampled_from([*REPLICAS, "away"]), st.sets(st.sampled_from("pqrs")), st.sets(st.sampled_from("pqrs"))),
)


@given(world=worlds, size=st.integers(1, 7))
def test_pages_are_those_of_the_whole(world: dict[str, tuple[str, set[str], set[str]]], size: int) -> None:
    """Whatever the owners are and how long pages are: each item once, in order, the owner's word for each VNode."""
    state = World(
        {vnode: owner for vnode, (owner, _, _) in world.items()},
        # An owner sees all that the cluster shows, and more.
        {vnode: unseen | shown for vnode, (_, unseen, shown) in world.items()},
        {vnode: shown for vnode, (_, _, shown) in world.items()},
    )
    want = [
        (vnode, name, owner if owner != "away" else "")
        for vnode, (owner, _, shown) in sorted(world.items())
        for name in sorted(shown if owner == "away" else state.told[vnode])
    ]
    found: list[tuple[str, str, str]] = []
    token = ""
    for _ in range(100):
        parts = []
        for replica in REPLICAS:
            items = state.items(state.told, replica)
            chosen, until = page(items, [MODULES.key(item) for item in items], size, token)
            parts.append(Part(replica, chosen, until))
        others = {vnode: names for vnode, names in state.shown.items() if state.owner[vnode] != REPLICAS[0]}
        rest = sorted(state.items(others, ""), key=MODULES.key)
        chosen, until = page(rest, [MODULES.key(item) for item in rest], size, token)
        merged = merge(MODULES, parts, Part("", chosen, until), lambda vnode: state.owner[vnode])
        told, following = cut(MODULES, merged, size)
        assert len(told) <= size
        found += [(item.vnode, item.name, item.version) for item in told]
        assert not following or following > token
        token = following
        if not token:
            break
    assert found == want


def test_a_gateway_is_told_once_with_all_that_it_does() -> None:
    def gateway(name: str, watched: int, since: int, *, up: bool = True, message: str = "") -> pb.Gateway:
        since_then = Timestamp(seconds=since)
        told = pb.Gateway(id=name, watched=watched, orders=1, tunnel_up=up, connected_since=since_then, tunnel="mqtt")
        told.message = message
        return told

    ours = [gateway("g2", 3, 20, up=False, message="no broker")]
    merged = merge_gateways([ours, [gateway("g1", 1, 5, message="not shared"), gateway("g2", 4, 10)]])
    assert [(g.id, g.watched, g.orders, g.tunnel_up, g.connected_since.seconds, g.message) for g in merged] == [
        ("g1", 1, 1, True, 5, "not shared"),
        ("g2", 7, 2, True, 10, ""),
    ]
    assert ours[0].watched == 3, "what a replica told is not changed"


def test_events_are_told_by_time() -> None:
    events = [pb.Event(reason=str(n), time=Timestamp(seconds=s, nanos=n)) for s, n in ((2, 1), (1, 5), (2, 0))]
    assert [event.reason for event in by_time(events)] == ["5", "0", "1"]
