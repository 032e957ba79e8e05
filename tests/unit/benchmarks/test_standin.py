"""The stand-in for an API server: what requests make of objects, and what watches receive."""

import asyncio
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlencode

import orjson
import pytest

from benchmarks.standin import Connection, StandIn
from benchmarks.standin_objects import Refused, target

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
NODES = "/api/v1/nodes"


class Client:
    """A client on a connection of its own."""

    def __init__(self, stand_in: StandIn) -> None:
        self.sent: list[bytes] = []
        self.connection = Connection(stand_in)
        self.connection.connection_made(Mock(write=self.sent.append, is_closing=lambda: False))

    def ask(self, method: str, path: str, body: object = None, kind: str = "application/json") -> tuple[int, Any]:
        self.sent.clear()
        data = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        self.connection.data_received(head.encode() + data)
        head_of, _, said = b"".join(self.sent).partition(b"\r\n\r\n")
        return int(head_of.split(b" ")[1]), orjson.loads(said)

    def watch(self, path: str, version: str, **query: str) -> None:
        words = urlencode({"watch": "true", "resourceVersion": version, "timeoutSeconds": "5", **query})
        self.connection.data_received(f"GET {path}?{words} HTTP/1.1\r\n\r\n".encode())

    def events(self) -> list[tuple[str, str]]:
        """Return kinds and names, or versions of bookmarks."""
        lines = [line for sent in self.sent[1:] for line in sent.split(b"\r\n")[1:-1] if line.startswith(b"{")]
        found = [orjson.loads(each) for line in lines for each in line.splitlines()]
        return [
            (each["type"], each["object"]["metadata"].get("name") or each["object"]["metadata"]["resourceVersion"])
            for each in found
        ]


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def client(stand_in: StandIn) -> Client:
    return Client(stand_in)


def lease(name: str, **labels: str) -> dict[str, Any]:
    return {"kind": "Lease", "metadata": {"labels": labels, "name": name}, "spec": {"holderIdentity": "a"}}


def test_an_object_is_created_read_patched_and_removed(client: Client) -> None:
    code, created = client.ask("POST", LEASES, lease("a"))
    assert code == 201
    assert created["metadata"]["namespace"] == "kube-node-lease"
    assert client.ask("POST", LEASES, lease("a"))[1]["reason"] == "AlreadyExists"
    code, patched = client.ask("PATCH", f"{LEASES}/a", {"spec": {"holderIdentity": "b"}})
    assert (code, patched["spec"]) == (200, {"holderIdentity": "b"})
    assert int(patched["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
    assert client.ask("GET", f"{LEASES}/a") == (200, patched)
    assert client.ask("GET", LEASES)[1]["items"] == [patched]
    assert client.ask("DELETE", f"{LEASES}/a")[0] == 200
    assert client.ask("GET", f"{LEASES}/a")[0] == 404


def test_preconditions_are_heeded(client: Client) -> None:
    _, created = client.ask("POST", LEASES, lease("a"))
    now = created["metadata"]
    for wrong in ({"resourceVersion": "1"}, {"uid": "another"}):
        assert client.ask("PATCH", f"{LEASES}/a", {"metadata": wrong})[0] == 409
        assert client.ask("DELETE", f"{LEASES}/a", {"preconditions": wrong})[0] == 409
    right = {"resourceVersion": now["resourceVersion"], "uid": now["uid"]}
    assert client.ask("PATCH", f"{LEASES}/a", {"metadata": right})[0] == 200


def test_a_strategic_patch_merges_conditions(client: Client) -> None:
    conditions = [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]
    client.ask("POST", NODES, {"metadata": {"name": "n"}, "status": {"conditions": conditions}})
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    _, node = client.ask("PATCH", f"{NODES}/n/status", patch, "application/strategic-merge-patch+json")
    assert {each["type"]: each["status"] for each in node["status"]["conditions"]} == {"Ready": "True", "Other": "True"}


def test_the_version_comes_before_what_users_choose(client: Client) -> None:
    """As in what API servers write: clients find it without reading the rest."""
    client.ask("POST", LEASES, lease("a", resourceVersion="7"))
    raw = client.sent[-1].partition(b"\r\n\r\n")[2]
    assert raw.index(b'"resourceVersion":"2"') < raw.index(b'"resourceVersion":"7"')


@pytest.mark.looptime
async def test_a_watch_gets_what_was_missed_what_changes_and_how_far_it_came(stand_in: StandIn, client: Client) -> None:
    watcher = Client(stand_in)
    client.ask("POST", LEASES, lease("before", app="x"))
    watcher.watch(LEASES, "1", labelSelector="app=x", allowWatchBookmarks="true")
    client.ask("POST", LEASES, lease("other", app="y"))
    client.ask("PATCH", f"{LEASES}/other", {"metadata": {"labels": {"app": "x"}}})
    client.ask("PATCH", f"{LEASES}/other", {"metadata": {"labels": {"app": "z"}}})
    client.ask("DELETE", f"{LEASES}/before")
    await asyncio.sleep(6)
    assert watcher.events() == [
        ("ADDED", "before"),
        ("ADDED", "other"),
        ("DELETED", "other"),
        ("DELETED", "before"),
        ("BOOKMARK", "6"),
    ]
    assert watcher.sent[-1] == b"0\r\n\r\n"
    assert not any(stand_in.watches.values())


@pytest.mark.looptime
async def test_a_watch_that_does_not_ask_for_bookmarks_gets_none(stand_in: StandIn, client: Client) -> None:
    watcher = Client(stand_in)
    watcher.watch(LEASES, "0")
    client.ask("POST", LEASES, lease("a"))
    await asyncio.sleep(6)
    assert watcher.events() == [("ADDED", "a")]
    assert watcher.sent[-1] == b"0\r\n\r\n"


@pytest.mark.looptime
async def test_a_watch_ends_with_its_connection(stand_in: StandIn, client: Client) -> None:
    client.watch(LEASES, "1")
    client.connection.connection_lost(None)
    assert not any(stand_in.watches.values())


def test_what_is_no_request_is_refused(client: Client) -> None:
    assert client.ask("PUT", f"{NODES}/n", {})[0] == 405
    assert client.ask("GET", "/healthz")[0] == 404
    assert client.ask("GET", f"{NODES}?watch=true&resourceVersion=soon")[0] == 400
    assert client.ask("GET", f"{NODES}?labelSelector=%21%21")[0] == 400
    assert client.ask("GET", "/version")[1]["major"] == "1"
    with pytest.raises(Refused):
        target("/apis")
