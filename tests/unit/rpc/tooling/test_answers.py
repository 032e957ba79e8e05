"""A mutation is done once for each request id, refused for another request, and ended with the replica."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.ports import Transient
from controlplane.app.tooling.refusals import RequestError
from controlplane.rpc.refusals import Busy, Ending
from controlplane.rpc.tooling.answers import KEPT, MOST_UNDER_WAY, Answers

pytestmark = pytest.mark.looptime

Work = Callable[[], Coroutine[None, None, pb.InstallModuleResponse]]


def request(request_id: str = "r", name: str = "biz") -> pb.InstallModuleRequest:
    return pb.InstallModuleRequest(request_id=request_id, name=name)


class Doing:
    """Work that takes a second, and counts how often it was begun and done."""

    def __init__(self, result: str = "created", error: Exception | None = None, takes: float = 1.0) -> None:
        self.result = result
        self.error = error
        self.begun = self.done = 0
        self._takes = takes

    async def __call__(self) -> pb.InstallModuleResponse:
        self.begun += 1
        await asyncio.sleep(self._takes)
        if self.error is not None:
            raise self.error
        self.done += 1
        return pb.InstallModuleResponse(operations=[pb.ModuleOperation(result=self.result)])


async def test_a_request_is_done_once_also_when_it_comes_twice_at_once() -> None:
    answers, doing = Answers(), Doing()
    first, second = await asyncio.gather(
        answers.once("install", request(), doing), answers.once("install", request(), doing)
    )
    assert first == second == await answers.once("install", request(), doing)
    assert doing.begun == 1


async def test_the_same_id_with_another_request_is_refused_with_the_field() -> None:
    answers, doing = Answers(), Doing()
    under_way = asyncio.create_task(answers.once("install", request(), doing))
    await asyncio.sleep(0.1)
    for _ in range(2):  # while the first is under way, and after it
        with pytest.raises(RequestError, match="was used for another request") as refused:
            await answers.once("install", request(name="other"), doing)
        assert refused.value.field == "request_id"
        await under_way
    assert doing.begun == 1
    await answers.once("uninstall", request(), doing)
    assert doing.begun == 2


async def test_a_request_that_failed_or_reports_a_failure_is_done_again() -> None:
    answers, doing = Answers(), Doing(error=Transient("away"))
    with pytest.raises(Transient):
        await answers.once("install", request(), doing)
    doing.error, doing.result = None, "failed"
    for _ in range(2):
        assert (await answers.once("install", request(), doing)).operations[0].result == "failed"
    assert doing.begun == 3


@pytest.mark.parametrize("request_id", ["", "x" * 129])
async def test_a_request_needs_an_id(request_id: str) -> None:
    with pytest.raises(RequestError):
        await Answers().once("install", request(request_id), Doing())


async def test_a_caller_that_goes_away_does_not_stop_what_it_began() -> None:
    answers, doing = Answers(), Doing()
    caller = asyncio.create_task(answers.once("install", request(), doing))
    await asyncio.sleep(0.1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(1.0)
    assert doing.done == 1


async def test_at_the_end_work_is_finished_or_cut_short_with_an_error_for_its_caller() -> None:
    answers, short, long = Answers(), Doing(takes=1.0), Doing(takes=60.0)
    callers = [
        asyncio.create_task(answers.once("install", request(str(number)), doing))
        for number, doing in enumerate((short, long))
    ]
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    await answers.finish(2.0)
    assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
    assert (await callers[0]).operations[0].result == "created"
    with pytest.raises(Ending, match="in part"):
        await callers[1]
    assert (short.done, long.done) == (1, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_memory_and_work_are_bounded() -> None:
    answers, quick = Answers(), Doing(takes=0.0)
    for number in range(KEPT + 1):
        await answers.once("install", request(str(number)), quick)
    await answers.once("install", request("0"), quick)
    assert quick.begun == KEPT + 2
    await answers.once("install", request(str(KEPT)), quick)
    assert quick.begun == KEPT + 2
    slow = Doing(takes=60.0)
    callers = [asyncio.create_task(answers.once("slow", request(str(n)), slow)) for n in range(MOST_UNDER_WAY)]
    await asyncio.sleep(0.1)
    with pytest.raises(Busy):
        await answers.once("slow", request("more"), slow)
    await answers.finish(0.0)
    assert {type(end) for end in await asyncio.gather(*callers, return_exceptions=True)} == {Ending}
