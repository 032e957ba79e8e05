"""The Kubernetes client reports what API servers do that hang, cut replies, refuse tokens or answer with nonsense."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from controlplane.app.ports import Rejected, Transient, Unknown
from controlplane.cluster.api import LEASES, NODES, PODS, Expired, Json, WatchEvent
from controlplane.kube import client, transport
from controlplane.kube.client import KubeApiServer
from controlplane.kube.gate import Gate
from kubeaccess.access import Access
from tests.fakes.kubeaccess import fixed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(handler: Handler) -> AsyncIterator[KubeApiServer]:
    async with serving(handler) as host:
        api = KubeApiServer(fixed(Access(host)), Gate())
        try:
            yield api
        finally:
            await api.close()


def answering(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    return handler


def cutting(body: bytes) -> Handler:
    """Announce a longer reply than is sent, then close the connection."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body) + 100)})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    return handler


async def hanging(_request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


def watch_of(*lines: bytes, then: float = 0.0) -> Handler:
    """Send the lines of a watch, hang for some seconds, then end it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        await asyncio.sleep(then)
        return response

    return handler


async def watched(api: KubeApiServer) -> list[WatchEvent]:
    return [event async for event in api.watch(NODES, resource_version="7")]


def line(kind: str, **obj: object) -> bytes:
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


async def test_a_write_that_is_not_answered_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WRITE_DEADLINE", 0.2)
    async with connected(hanging) as api:
        with pytest.raises(Unknown, match=r"patch leases: no reply within 0\.2 s, after the request was sent"):
            await api.patch(LEASES, "a", {}, namespace="ns")
        with pytest.raises(Unknown):
            await api.create(NODES, {})
        with pytest.raises(Unknown):
            await api.delete(NODES, "a")


async def test_a_read_that_is_not_answered_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ_DEADLINE", 0.2)
    monkeypatch.setattr(transport, "LIST_DEADLINE", 0.2)
    async with connected(hanging) as api:
        with pytest.raises(Transient, match=r"no reply within 0\.2 s"):
            await api.get(NODES, "a")
        with pytest.raises(Transient):
            await api.list(NODES)
        with pytest.raises(Transient):
            await watched(api)


async def test_a_server_that_is_not_there_is_transient_for_writes_too() -> None:
    async with serving(hanging) as host:
        pass
    api = KubeApiServer(fixed(Access(host)))
    for attempt in (api.create(NODES, {}), api.get(NODES, "a"), api.list(NODES), watched(api)):
        with pytest.raises(Transient):
            await attempt
    await api.close()


async def test_a_reply_that_breaks_off_is_unknown_for_writes_and_transient_for_reads() -> None:
    async with connected(cutting(b'{"metadata":')) as api:
        with pytest.raises(Unknown):
            await api.create(NODES, {})
        with pytest.raises(Transient):
            await api.list(NODES)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'"a"', b"\xff\xfe"])
async def test_a_reply_that_is_no_object_is_unknown_for_writes_and_transient_for_reads(body: bytes) -> None:
    async with connected(answering(body)) as api:
        with pytest.raises(Transient):
            await api.get(NODES, "a")
        with pytest.raises(Unknown):
            await api.create(NODES, {})


async def test_a_redirect_is_not_followed() -> None:
    async with connected(answering(b"", 302, {"Location": "http://127.0.0.1:1/"})) as api:
        with pytest.raises(Rejected, match="HTTP 302"):
            await api.get(NODES, "a")


async def test_too_many_requests_names_when_to_come_back() -> None:
    async with connected(answering(b"", 429, {"Retry-After": "7"})) as api:
        with pytest.raises(Transient) as raised:
            await api.create(NODES, {})
        assert raised.value.retry_after == 7.0


async def test_a_refused_token_is_renewed_and_the_request_made_again() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer new":
            return web.Response(status=401)
        return web.json_response({"metadata": {"name": "a"}})

    async with serving(handler) as host:
        api = KubeApiServer(fixed(Access(host, "Bearer old"), Access(host, "Bearer new")))
        assert await api.create(NODES, {"metadata": {"name": "a"}}) == {"metadata": {"name": "a"}}
        await api.close()


async def test_a_token_that_stays_refused_is_asked_for_once() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=401)

    async with connected(handler) as api:
        with pytest.raises(Rejected, match="HTTP 401"):
            await api.get(NODES, "a")
    assert len(asked) == 2


async def test_a_list_is_fetched_in_pages_without_managed_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE", 2)

    async def handler(request: web.Request) -> web.Response:
        assert request.path == "/api/v1/namespaces/ns/pods"
        assert (request.query["limit"], request.query["labelSelector"]) == ("2", "a=b")
        first = int(request.query.get("continue", "0"))
        items = [{"metadata": {"name": str(n), "managedFields": [{}]}} for n in range(first, min(first + 2, 5))]
        more = str(first + 2) if first + 2 < 5 else ""
        return web.json_response({"metadata": {"resourceVersion": "9", "continue": more}, "items": items})

    async with connected(handler) as api:
        listed = await api.list(PODS, namespace="ns", label_selector="a=b")
    assert listed.resource_version == "9"
    assert [obj["metadata"] for obj in listed.items] == [{"name": str(n)} for n in range(5)]


async def test_a_watch_begins_with_its_version_and_ends_with_the_server() -> None:
    event = line("ADDED", metadata={"name": "a"})
    async with connected(watch_of(event[:5], event[5:] + event, event[:-1], b"\n")) as api:
        events = await watched(api)
    assert events[0] == WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "7"}})
    assert events[1:] == [WatchEvent("ADDED", {"metadata": {"name": "a"}})] * 3


async def test_what_own_writes_made_comes_as_a_bookmark() -> None:
    def version(name: str, number: str, **more: object) -> dict[str, object]:
        return {"metadata": {"name": name, "resourceVersion": number, **more}}

    # Only what was modified, and only by its own version: users choose labels, annotations and everything below.
    sent = [
        line("MODIFIED", **version("a", "8")),
        line("ADDED", **version("b", "9")),
        line("MODIFIED", **version("c", "10", labels={"resourceVersion": "8"})),
        line("MODIFIED", **version("d", "11", annotations={"x": '"resourceVersion":"8"'})),
        line("DELETED", **version("a", "9")),
        line("MODIFIED", metadata={"name": "e"}),
    ]
    async with connected(watch_of(*sent)) as api:
        events = [event async for event in api.watch(NODES, resource_version="7", echoes={"8", "9"})]
    assert [event.type for event in events[1:]] == ["BOOKMARK", "ADDED", "MODIFIED", "MODIFIED", "DELETED", "MODIFIED"]
    assert events[1].object == {"metadata": {"resourceVersion": "8"}}


async def test_a_watch_that_is_not_ended_in_time_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WATCH_SECONDS", (1, 1))
    monkeypatch.setattr(client, "WATCH_GRACE", 0.2)
    async with connected(watch_of(line("ADDED", metadata={}), then=20.0)) as api:
        async with asyncio.timeout(5):
            with pytest.raises(Transient, match=r"watch nodes: nothing was received for 1\.2 s"):
                await watched(api)


async def test_a_watch_says_how_long_it_may_last() -> None:
    asked: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(int(request.query["timeoutSeconds"]))
        assert request.query["allowWatchBookmarks"] == "true"
        return await watch_of()(request)

    async with connected(handler) as api:
        await watched(api)
    assert client.WATCH_SECONDS[0] <= asked[0] <= client.WATCH_SECONDS[1]
    assert client.WATCH_SECONDS[1] + client.WATCH_GRACE <= 18, (
        "with the time for a new connection it is noticed within 20 s"
    )


async def test_watches_that_end_in_time_use_one_connection() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return await watch_of(line("ADDED", metadata={}))(request)

    async with connected(handler) as api:
        for _ in range(3):
            assert len(await watched(api)) == 2
    assert len(peers) == 1


async def test_after_a_request_without_an_answer_no_older_connection_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ_DEADLINE", 0.3)
    monkeypatch.setattr(transport, "UNANSWERED", 0.2)
    peers: list[object] = []

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        if request.path.endswith("/slow"):
            await asyncio.sleep(0.15)
        elif request.path.endswith("/dead"):
            await asyncio.sleep(30)
        return web.json_response({})

    async with connected(handler) as api:
        await asyncio.gather(*(api.get(NODES, "slow") for _ in range(3)))
        older = set(peers)
        await api.get(NODES, "a")
        assert peers[-1] in older
        with pytest.raises(Transient):
            await api.get(NODES, "dead")
        await api.get(NODES, "a")
        assert peers[-1] not in older, "an older connection may be as dead as that one"


async def test_error_410_is_an_expired_watch() -> None:
    async with connected(watch_of(line("ERROR", code=410, reason="Expired", message="too old"))) as api:
        with pytest.raises(Expired):
            await watched(api)
    async with connected(answering(orjson.dumps({"code": 410, "reason": "Expired"}), 410)) as api:
        with pytest.raises(Expired):
            await watched(api)


@pytest.mark.parametrize("sent", [b"<html>\n", b"[]\n", b"x" * 2000])
async def test_nonsense_on_a_watch_is_transient(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LINE_LIMIT", 1000)
    async with connected(watch_of(sent, then=5.0)) as api:
        with pytest.raises(Transient):
            await watched(api)


async def test_a_watch_that_is_cut_is_transient() -> None:
    async with connected(cutting(line("ADDED", metadata={}))) as api:
        with pytest.raises(Transient, match="watch nodes broke off"):
            await watched(api)


async def test_requests_have_the_paths_and_bodies_of_the_api() -> None:
    seen: list[tuple[str, str, str, Json]] = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.read()
        seen.append((request.method, request.path, request.content_type, orjson.loads(body) if body else {}))
        return web.json_response({})

    async with connected(handler) as api:
        await api.get(LEASES, "l", "kube-node-lease")
        await api.patch(PODS, "p", {"status": {}}, namespace="ns", subresource="status")
        await api.delete(PODS, "p", namespace="ns", uid="u", resource_version="3", grace_seconds=0)
    assert seen == [
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/l", "application/octet-stream", {}),
        ("PATCH", "/api/v1/namespaces/ns/pods/p/status", "application/merge-patch+json", {"status": {}}),
        (
            "DELETE",
            "/api/v1/namespaces/ns/pods/p",
            "application/json",
            {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": "Background",
                "preconditions": {"uid": "u", "resourceVersion": "3"},
                "gracePeriodSeconds": 0,
            },
        ),
    ]


async def test_requests_are_counted() -> None:
    labels = {"verb": "get", "resource": "nodes", "code": "200"}
    before = REGISTRY.get_sample_value("koupleless_api_requests_total", labels) or 0.0
    async with connected(answering(b"{}")) as api:
        await api.get(NODES, "a")
    assert REGISTRY.get_sample_value("koupleless_api_requests_total", labels) == before + 1


async def test_a_cancelled_request_leaves_no_place_taken() -> None:
    async with serving(hanging) as host:
        api = KubeApiServer(fixed(Access(host)), Gate(concurrent=1, patience=0.5))
        request = asyncio.create_task(api.get(NODES, "a"))
        await asyncio.sleep(0.1)
        request.cancel()
        await asyncio.wait([request])
        second = asyncio.create_task(api.get(NODES, "a"))
        await asyncio.sleep(0.7)
        assert not second.done(), "it waits for the server, not for a place"
        second.cancel()
        await asyncio.wait([second])
        await api.close()
