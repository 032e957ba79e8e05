"""Sightings record when objects reach a state, over watches that break."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from benchmarks.api import Api, Failed, Json, Sightings, gone, ready


def pod(name: str, *, is_ready: bool = False) -> Json:
    status = {"conditions": [{"type": "Ready", "status": str(is_ready)}]}
    return {"metadata": {"name": name, "resourceVersion": "1"}, "status": status}


class Server:
    """A server that gives its lists in turn; each watch sends its events and ends."""

    def __init__(self, lists: list[list[Json]], watches: list[list[tuple[str, Json]]]) -> None:
        self.lists = lists
        self.watches = watches

    async def get(self, _path: str) -> Json:
        return {"metadata": {"resourceVersion": "1"}, "items": self.lists.pop(0)}

    async def watch(self, _path: str, _version: str) -> AsyncIterator[tuple[str, Json]]:
        if not self.watches:
            await asyncio.get_running_loop().create_future()
        for event in self.watches.pop(0):
            yield event


def sightings(server: Any) -> Sightings:
    return Sightings(cast("Api", server), "/pods", {"ready": ready, "gone": gone})


@pytest.mark.looptime
async def test_marks_are_recorded_once_and_kept() -> None:
    events = [("ADDED", pod("a")), ("MODIFIED", pod("a", is_ready=True)), ("DELETED", pod("a"))]
    async with sightings(Server([[], []], [events])) as seen:
        await seen.wait("gone", 1, within=5, what="Pods gone")
    assert seen.times["ready"].keys() == seen.times["gone"].keys() == {"a"}
    assert seen.times["ready"]["a"] <= seen.times["gone"]["a"]


@pytest.mark.looptime
async def test_the_next_list_shows_what_a_broken_watch_missed() -> None:
    missed = Server([[pod("a"), pod("b")], [pod("b", is_ready=True)]], [[]])
    async with sightings(missed) as seen:
        await seen.wait("ready", 1, within=5, what="Pods Ready")
    assert seen.times["ready"].keys() == {"b"}
    assert seen.times["gone"].keys() == {"a"}


@pytest.mark.looptime
async def test_an_expired_watch_starts_again() -> None:
    error = ("ERROR", {"kind": "Status", "code": 410})
    async with sightings(Server([[], [pod("a", is_ready=True)]], [[error]])) as seen:
        await seen.wait("ready", 1, within=5, what="Pods Ready")


async def test_a_timeout_reports_the_progress() -> None:
    async with sightings(Server([[pod("a", is_ready=True)]], [])) as seen:
        with pytest.raises(Failed, match="1 of 2 Pods Ready after 0 s"):
            await seen.wait("ready", 2, within=0, what="Pods Ready")


async def test_a_server_that_is_gone_ends_the_wait() -> None:
    async with sightings(Server([[]], [[]])) as seen:
        with pytest.raises(Failed, match="the watch of /pods ended"):
            await seen.wait("ready", 1, within=60, what="Pods Ready")
