"""POST /log takes the original's fields and gives its answer; wrong requests are refused without effect."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
from structlog.testing import capture_logs

from controlplane.app.clock import SystemClock
from controlplane.domain.reports import Report
from controlplane.reports import intake
from controlplane.reports.intake import MOST, ReportIntake
from controlplane.reports.posting import TOLD_BY
from tests.servers.process import free_port

FIELDS = {
    "traceID": "t-1",
    "scene": "deploy",
    "event": "Build",
    "timeUsed": 12,
    "result": "fail",
    "message": "no disk",
    "code": "E1",
    "labels": {"app": "shop"},
}


@dataclass
class Scene:
    """A listening intake, and the reports that it took."""

    url: str
    taken: list[Report]
    session: aiohttp.ClientSession

    async def post(self, body: bytes | object, **headers: str) -> tuple[int, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url, data=data, headers=headers) as answer:
            return answer.status, await answer.text()


Start = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def begin(token: str = "", most: int = MOST) -> Scene:
            taken: list[Report] = []
            port = free_port()
            server = ReportIntake(port, "127.0.0.1", token=token, take=taken.append, clock=SystemClock(), most=most)
            await server.start()
            stack.push_async_callback(server.stop)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Scene(f"http://127.0.0.1:{port}/log", taken, session)

        yield begin


async def test_a_report_is_answered_as_by_the_original_and_taken(start: Start) -> None:
    scene = await start()
    with capture_logs() as logs:
        assert await scene.post(FIELDS) == (200, "")
    assert [report.fields() for report in scene.taken] == [FIELDS]
    assert "no disk" in str(logs)


async def test_names_are_read_in_any_case_and_unknown_ones_and_nulls_ignored(start: Start) -> None:
    scene = await start()
    assert (await scene.post({"TraceId": "t", "MESSAGE": "m", "labels": None, "more": [1]}))[0] == 200
    assert (scene.taken[0].trace_id, scene.taken[0].message) == ("t", "m")


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"", 400, "empty"),
        (b"  \n", 400, "empty"),
        (b"{", 400, "not a JSON object"),
        (b"\xff\xfe", 400, "not a JSON object"),
        (b"[" * 60_000, 400, "not a JSON object"),
        (b"[]", 400, "not a JSON object"),
        (b"{}", 400, "none of"),
        ({"message": 5}, 400, "message is not a text"),
        ({"message": "m", "labels": {"a": 1}}, 400, "labels"),
        ({"message": "m", "labels": ["a"]}, 400, "labels"),
        ({"message": "m", "timeUsed": "soon"}, 400, "timeUsed"),
        ({"message": "x" * 70_000}, 413, "larger than 65536"),
    ],
)
async def test_what_is_no_report_is_refused_with_the_reason(start: Start, body: object, status: int, why: str) -> None:
    scene = await start()
    found, text = await scene.post(body)
    assert found == status
    assert why in text
    assert not scene.taken


async def test_other_methods_and_paths_are_refused(start: Start) -> None:
    scene = await start()
    async with scene.session.get(scene.url) as answer:
        assert answer.status == 405
    async with scene.session.post(scene.url + "s") as answer:
        assert answer.status == 404


async def test_with_a_token_nobody_else_may_report(start: Start) -> None:
    scene = await start(token="right")
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}, {"Authorization": "right"}):
        assert (await scene.post(FIELDS, **wrong))[0] == 401
    assert not scene.taken
    assert (await scene.post(FIELDS, Authorization="bearer right"))[0] == 200


async def test_an_address_that_reports_too_fast_has_to_wait(start: Start) -> None:
    scene = await start(most=5)
    statuses = [(await scene.post({"message": str(n)}))[0] for n in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    async with scene.session.post(scene.url, data=b"{}") as answer:
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert len(scene.taken) == 5


async def test_a_body_that_does_not_come_is_not_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BODY_WITHIN", 0.2)
    scene = await start()
    host, _, port = scene.url.removeprefix("http://").removesuffix("/log").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert not scene.taken


async def test_what_a_replica_has_sent_to_its_hooks_is_not_sent_again(start: Start) -> None:
    scene = await start()
    assert (await scene.post(FIELDS, **{TOLD_BY: "r0"}))[0] == 200
    assert not scene.taken
