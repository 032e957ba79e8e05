"""Any replica answers for all, and reports what an answer lacks when another one is away."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub
from koupleless.replica.v1 import replica_pb2 as rpb
from koupleless.replica.v1.replica_pb2_grpc import ReplicaServiceStub

from tests.integration.shards_tooling.conftest import BASES, NAMES, Pair, install_from_outside
from tests.programs import ControlPlane, eventually
from tests.servers.kubeapi import Json

pytestmark = pytest.mark.timeout(600)

URL = "https://repo.example/{}-1.jar"


@contextmanager
def stub(plane: ControlPlane) -> Iterator[ModuleControllerServiceStub]:
    with plane.channel() as channel:
        yield ModuleControllerServiceStub(channel)


def same(look: Callable[[int], object], *, what: str) -> None:
    """Return once both replicas answer the same; what changes by itself may do so between two questions."""
    seen: list[object] = []

    def agree() -> bool:
        seen[:] = [look(0), look(1)]
        return seen[0] == seen[1]

    try:
        eventually(agree, within=30, what=what)
    except AssertionError:
        raise AssertionError(f"{what}:\n{seen[0]}\n{seen[1]}") from None


def collect(watch: Iterator[pb.WatchModulesResponse], received: list[pb.WatchModulesResponse]) -> None:
    """Keep what a watch sends, until it is cancelled."""
    with suppress(grpc.RpcError):
        received.extend(watch)


def without(items: list[Json], *keys: str) -> list[Json]:
    return [{key: value for key, value in item.items() if key not in keys} for item in items]


def test_both_report_the_same_vnodes_modules_history_events_and_gateways(pair: Pair) -> None:
    for replica in NAMES:
        install_from_outside(pair.owned_by(replica), f"foreign-{replica[-1]}")
    pair.mctl[0]("install", "shared", "--version", "1", "--url", URL.format("shared"), "--all")
    for mctl in pair.mctl:
        mctl("wait", "--for=ready", "module/shared:1", "--timeout", "60s")

    def foreign(which: int) -> list[tuple[str, str]]:
        items = pair.mctl[which].items("get", "modules", "--unmanaged")
        return [(item["name"], item["vnode"]) for item in items]

    want = [(f"foreign-{r[-1]}", f"vnode.{pair.owned_by(r).identity}.dev") for r in NAMES]
    for which in (0, 1):
        eventually(lambda which=which: sorted(foreign(which)) == want, within=60, what="both foreign modules")  # type: ignore[misc]
    same(lambda which: without(pair.mctl[which].items("get", "vnodes"), "lastSeen"), what="VNodes")
    vnodes = pair.mctl[1].items("get", "vnodes")
    assert all(v["address"] and v["gateway"] == "http-gateway" and v["lastSeen"] for v in vnodes)
    assert sorted(v["modules"] for v in vnodes) == [1, 1, 2, 2]
    same(lambda which: pair.mctl[which].items("get", "modules"), what="modules")
    assert len(pair.mctl[1].items("get", "modules")) == BASES + 2
    same(lambda which: pair.mctl[which]("describe", "module", "shared"), what="modules with history and events")
    assert pair.mctl[1]("describe", "module", "shared").count("Operations:\n") == BASES
    same(lambda which: pair.mctl[which].items("events"), what="events")
    received = {(event["reason"], event["vnode"]) for event in pair.mctl[1].items("events")}
    assert received >= {("ModuleInstalled", vnode["name"]) for vnode in vnodes}
    for base in pair.bases:
        same(lambda which, base=base: shown(pair, which, base), what=f"all of {base}")  # type: ignore[misc]
    (gateway,) = pair.mctl[1].items("get", "gateways")
    assert (gateway["id"], gateway["watched"], gateway["tunnelUp"]) == ("http-gateway", BASES, True)
    same(lambda which: pair.mctl[which].items("get", "gateways"), what="gateways")
    pair.mctl[1]("uninstall", "shared", "--version", "1", "--all")
    pair.mctl[0]("wait", "--for=gone", "module/shared:1", "--timeout", "60s")


def shown(pair: Pair, which: int, base: str) -> list[str]:
    return [line for line in pair.mctl[which]("describe", "vnode", base).splitlines() if "ago)" not in line]


def test_a_rollout_counts_what_another_replica_knows(pair: Pair) -> None:
    base = pair.owned_by(NAMES[1])
    install_from_outside(base, "bare")
    eventually(
        lambda: "bare" in {m["name"] for m in pair.mctl[1].items("get", "modules")}, within=60, what="its owner knows"
    )
    for mctl in pair.mctl:
        out, err = mctl.run("rollout", "status", "module/bare:1", "--base", base.identity, "--timeout", "10s")
        assert (out.splitlines()[-1], err) == ('module "bare:1" successfully rolled out', "")


def test_changes_are_made_through_a_replica_that_owns_nothing_of_them(pair: Pair) -> None:
    for mctl, owner in ((pair.mctl[0], NAMES[1]), (pair.mctl[1], NAMES[0])):
        base = pair.owned_by(owner)
        mctl("install", "far", "--version", "1", "--url", URL.format("far"), "--base", base.identity)
        mctl("wait", "--for=ready", "module/far:1", "--base", base.identity, "--timeout", "60s")
        assert base.modules().get("far:1") == "activated"
        mctl("uninstall", "far", "--version", "1", "--base", base.identity)
        mctl("wait", "--for=gone", "module/far:1", "--base", base.identity, "--timeout", "60s")
        assert "far:1" not in base.modules()


@pytest.mark.parametrize("size", [1, 3])
def test_pages_are_those_of_one_list(pair: Pair, size: int) -> None:
    found = []
    for plane in pair.planes:
        with stub(plane) as api:
            names, token = [], ""
            while True:
                page = api.ListVNodes(pb.ListVNodesRequest(page_size=size, page_token=token), timeout=10)
                assert len(page.items) <= size
                assert all(item.address for item in page.items)
                names += [item.name for item in page.items]
                token = page.next_page_token
                if not token:
                    break
            found.append(names)
    assert found == [[f"vnode.base-{number}.dev" for number in range(1, BASES + 1)]] * 2


def test_a_replica_sends_another_one_what_it_owns_itself(pair: Pair) -> None:
    owners = pair.owners()
    for plane, name in zip(pair.planes, NAMES, strict=True):
        with plane.channel("replica") as channel:
            stream = ReplicaServiceStub(channel).Follow(iter([rpb.FollowRequest(sync=7)]), timeout=10)
            sent = list(takewhile(lambda message: not message.HasField("synced"), stream))
            bases = {message.vnode.vnode.base for message in sent if message.HasField("vnode")}
            assert bases == {base for base, owner in owners.items() if owner == name}


def test_a_watch_shows_what_happens_on_the_other_replica(pair: Pair) -> None:
    base = pair.owned_by(NAMES[1])
    with stub(pair.planes[0]) as api:
        modules = api.WatchModules(pb.WatchModulesRequest(management=pb.MANAGEMENT_UNMANAGED), timeout=60)
        events = api.WatchEvents(pb.WatchEventsRequest(follow=True), timeout=60)
        # All present objects come first, then the mark that no replica is missing.
        assert not next(m for m in modules if not m.HasField("module")).unreachable_replicas
        assert not next(m for m in events if not m.HasField("event")).unreachable_replicas
        install_from_outside(base, "seen")
        change = next(m for m in modules if m.module.name == "seen")
        assert (change.type, change.module.vnode) == (pb.CHANGE_TYPE_ADDED, f"vnode.{base.identity}.dev")
        pair.mctl[1]("install", "watched", "--version", "1", "--url", URL.format("watched"), "--base", base.identity)
        assert next(m for m in events if m.event.module == "watched:1").event.vnode == change.module.vnode
        pair.mctl[1]("uninstall", "watched", "--version", "1", "--base", base.identity)
        modules.cancel()
        events.cancel()


def test_a_replica_is_drained_through_the_other_one(pair: Pair) -> None:
    out = pair.mctl[0]("drain", NAMES[1], "--wait", "--timeout", "60s")
    assert out.splitlines() == [f"replica/{NAMES[1]} draining: it still owns 2 VNodes", f"replica/{NAMES[1]} drained"]
    assert set(pair.owners().values()) == {NAMES[0]}
    states = {item["id"]: item["state"] for item in pair.mctl[1].items("get", "replicas")}
    assert states == {NAMES[0]: "active", NAMES[1]: "draining"}
    assert f"{NAMES[0]} is the last replica that takes VNodes" in pair.mctl[1]("drain", NAMES[0], code=1)
    assert pair.mctl[1].items("get", "shards", "--owner", NAMES[1]) == []
    pair.mctl[1]("drain", NAMES[1], "--undo")
    pair.wait_even()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_replica_that_is_away_costs_a_warning(pair: Pair, how: signal.Signals) -> None:
    away, vnodes = pair.planes[1], [f"vnode.{base}.dev" for base in sorted(pair.bases)]
    foreign = f"kept-{how.name.lower()}"
    install_from_outside(pair.owned_by(NAMES[1]), foreign)
    eventually(
        lambda: any(m["name"] == foreign for m in pair.mctl[0].items("get", "modules")), within=60, what="it is seen"
    )
    with stub(pair.planes[0]) as api:
        watch = api.WatchModules(pb.WatchModulesRequest(name=foreign), timeout=200)
        assert next(watch).module.name == foreign
        assert not next(watch).unreachable_replicas
        received: list[pb.WatchModulesResponse] = []
        reader = threading.Thread(target=collect, args=(watch, received))
        reader.start()
        if how is signal.SIGKILL:
            away.server.stop(how)
        else:
            away.server.signal(how)
        # Asked at once on an open channel: after 8 s the replica is no member any more, and nothing lacks.
        asked = api.ListVNodes.future(pb.ListVNodesRequest(), timeout=60)
        events = list(api.WatchEvents(pb.WatchEventsRequest(), timeout=60))
        answer = asked.result()
        assert [vnode.name for vnode in answer.items] == vnodes
        assert list(answer.unreachable_replicas) == [NAMES[1]]
        assert [list(m.unreachable_replicas) for m in events if not m.HasField("event")] == [[NAMES[1]]]
        assert "VNodeCreated" in {m.event.reason for m in events}

        def taken() -> bool:
            items = pair.mctl[0].items("get", "vnodes")
            return {v["owner"] for v in items} == {NAMES[0]} and all(v["state"] == "Ready" for v in items)

        eventually(taken, within=60, what="the other replica took all")
        eventually(
            lambda: any(m["name"] == foreign for m in pair.mctl[0].items("get", "modules")),
            within=60,
            what="seen again",
        )
        assert pair.mctl[0].run("get", "modules")[1] == ""
        watch.cancel()
        reader.join(10)
        assert pb.CHANGE_TYPE_DELETED not in [message.type for message in received]
        marks = [list(message.unreachable_replicas) for message in received if not message.HasField("module")]
        # The stream of a stopped replica sends nothing until its member lease expires; then the replica is gone.
        if how is signal.SIGKILL:
            assert marks[0] == [NAMES[1]]
        assert not any(marks[-1:]), "at the end no replica is missing"
    if how is signal.SIGKILL:
        away.start()
    else:
        away.server.signal(signal.SIGCONT)
    pair.wait_even()
    assert pair.mctl[1].run("get", "vnodes")[1] == ""
