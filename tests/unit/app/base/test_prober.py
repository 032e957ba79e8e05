"""Probes are sent on time, one at a time for each module, bounded in number, and never for removed modules."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from controlplane.app.base import prober as module
from controlplane.app.base.prober import BaseProbes, Key, Prober, Target
from controlplane.domain.identity import VNodeName
from controlplane.domain.probes import Handler, HttpGet, Outcome, Port, Probe, Probes, Reading, TcpSocket
from tests.unit.app.harness import LoopClock

pytestmark = pytest.mark.looptime

BASE = VNodeName("vnode.b1.dev")
KEY = ("uid", "biz1")


def probe(port: int = 80, **more: float | int) -> Probe:
    return Probe(TcpSocket(Port(port)), **more)  # type: ignore[arg-type]


def target(
    readiness: Probe | None = None,
    *,
    startup: Probe | None = None,
    key: Key = KEY,
    run: str = "r1",
    age: float = 0.0,
    ready: bool = False,
) -> Target:
    return Target(key, "10.0.0.7", Probes(startup, readiness), run, age, started=ready, ready=ready)


class Sender:
    """Implements ``ports.ProbeSender``; records when each port was probed, on the loop's time."""

    def __init__(self) -> None:
        self.times: list[tuple[float, int]] = []
        self.answer: Callable[[int], Outcome] = lambda _port: Outcome(True)
        self.takes = 0.0
        self.under_way: Counter[str] = Counter()
        self.most = 0

    async def send(self, ip: str, handler: Handler) -> Outcome:
        port = handler.port.number
        self.times.append((round(asyncio.get_running_loop().time(), 2), port))
        self.under_way[ip] += 1
        self.most = max(self.most, self.under_way.total())
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way[ip] -= 1
        return self.answer(port)

    def at(self, port: int = 80) -> list[float]:
        return [at for at, asked in self.times if asked == port]


class Bases:
    """The probes of all bases that share a prober."""

    def __init__(self, sender: Sender) -> None:
        self._prober = Prober(sender, LoopClock(), Random(7))
        self._bases: dict[VNodeName, BaseProbes] = {}

    def attend(self, base: VNodeName, targets: list[Target], changed: asyncio.Event) -> None:
        self._bases.setdefault(base, BaseProbes(self._prober, changed)).attend(targets)

    def reading(self, base: VNodeName, key: Key) -> Reading | None:
        return self._bases[base].reading(key)

    def end(self) -> None:
        for base in self._bases.values():
            base.attend(())


@asynccontextmanager
async def running(sender: Sender) -> AsyncIterator[Bases]:
    bases = Bases(sender)
    try:
        yield bases
    finally:
        bases.end()


class Changed(asyncio.Event):
    """Records the reading of the module each time that it is set."""

    def __init__(self, prober: Bases) -> None:
        super().__init__()
        self._prober = prober
        self.readings: list[Reading | None] = []

    def set(self) -> None:
        self.readings.append(self._prober.reading(BASE, KEY))
        super().set()


async def test_a_module_is_probed_at_once_and_then_each_period() -> None:
    sender = Sender()
    async with running(sender) as prober:
        changed = Changed(prober)
        prober.attend(BASE, [target(probe(period=5))], changed)
        await asyncio.sleep(12)
        assert sender.at() == [0.0, 5.0, 10.0]
        assert [reading and reading.ready for reading in changed.readings] == [True]
        reading = prober.reading(BASE, KEY)
        assert reading is not None
        assert reading.ready


async def test_the_initial_delay_counts_from_the_start_of_the_module() -> None:
    sender = Sender()
    async with running(sender) as prober:
        prober.attend(BASE, [target(probe(initial_delay=10), age=4)], asyncio.Event())
        await asyncio.sleep(9)
        assert sender.at() == [6.0]


async def test_readiness_waits_for_startup_and_for_its_own_delay() -> None:
    sender = Sender()
    sender.answer = lambda port: Outcome(port != 81 or len(sender.at(81)) > 2, "not yet")
    async with running(sender) as prober:
        prober.attend(BASE, [target(probe(80, initial_delay=5), startup=probe(81, period=1))], asyncio.Event())
        await asyncio.sleep(8)
        assert sender.at(81) == [0.0, 1.0, 2.0]
        assert sender.at(80) == [5.0]


async def test_attending_again_changes_nothing_and_a_new_run_starts_over() -> None:
    sender = Sender()
    async with running(sender) as prober:
        for _ in range(3):
            prober.attend(BASE, [target(probe())], asyncio.Event())
            await asyncio.sleep(1)
        assert sender.at() == [0.0]
        prober.attend(BASE, [target(probe(), run="r2")], asyncio.Event())
        reading = prober.reading(BASE, KEY)
        assert reading is not None
        assert (reading.run, reading.ready) == ("r2", False)
        await asyncio.sleep(1)
        assert sender.at() == [0.0, 3.0]


async def test_a_module_no_longer_attended_is_not_probed_and_its_answer_is_ignored() -> None:
    sender = Sender()
    sender.takes = 0.5
    async with running(sender) as prober:
        changed = Changed(prober)
        prober.attend(BASE, [target(probe())], changed)
        await asyncio.sleep(0.2)
        prober.attend(BASE, [], asyncio.Event())
        await asyncio.sleep(30)
        assert sender.at() == [0.0]
        assert changed.readings == []
        assert prober.reading(BASE, KEY) is None


async def test_a_missing_answer_is_a_failure_and_no_second_probe_is_sent_meanwhile() -> None:
    sender = Sender()
    sender.takes = 1000.0
    async with running(sender) as prober:
        changed = Changed(prober)
        slow = probe(period=1, timeout=3, failure_threshold=2)
        prober.attend(BASE, [target(slow)], changed)
        await asyncio.sleep(7)
        assert sender.at() == [0.0, 3.0, 6.0]
        reasons = [reading and reading.why for reading in changed.readings]
        assert reasons == ["no answer from port 80 of 10.0.0.7 within 3 s"]


async def test_no_probe_takes_longer_than_the_longest_timeout() -> None:
    sender = Sender()
    sender.takes = 1e6
    async with running(sender) as prober:
        prober.attend(BASE, [target(probe(timeout=86400, failure_threshold=1))], asyncio.Event())
        await asyncio.sleep(61)
        reading = prober.reading(BASE, KEY)
        assert reading is not None
        assert "within 60 s" in reading.why


async def test_modules_that_were_ready_stay_ready_and_are_probed_over_a_period() -> None:
    sender = Sender()
    async with running(sender) as prober:
        targets = [target(probe(1000 + n), key=("uid", str(n)), age=1e6, ready=True) for n in range(50)]
        prober.attend(BASE, targets, asyncio.Event())
        assert all((reading := prober.reading(BASE, each.key)) and reading.ready for each in targets)
        await asyncio.sleep(10.01)
        assert len(sender.times) == 50
        assert 0 < min(sender.times)[0] < 1 < 9 < max(sender.times)[0]


async def test_a_base_that_hangs_delays_no_other() -> None:
    sender = Sender()
    other = VNodeName("vnode.b2.dev")

    async def send(ip: str, handler: Handler) -> Outcome:
        sender.times.append((round(asyncio.get_running_loop().time(), 2), handler.port.number))
        if handler.port.number > 1000:
            await asyncio.sleep(1e6)
        return Outcome(True)

    sender.send = send  # type: ignore[method-assign]
    async with running(sender) as prober:
        many = [target(probe(1001 + n, timeout=30), key=("uid", str(n))) for n in range(500)]
        prober.attend(BASE, many, asyncio.Event())
        await asyncio.sleep(2)
        assert len(sender.times) == module.AT_ONCE_OF_A_BASE
        prober.attend(other, [target(probe(80))], asyncio.Event())
        await asyncio.sleep(1)
        assert sender.at(80)


async def test_probes_under_way_and_those_of_a_second_are_bounded() -> None:
    sender = Sender()
    sender.takes = 5.0
    async with running(sender) as prober:
        for number in range(1000):
            base = VNodeName(f"vnode.b{number}.dev")
            prober.attend(base, [target(probe(period=3600, timeout=10))], asyncio.Event())
        await asyncio.sleep(1.0)
        assert sender.most <= module.AT_ONCE
        await asyncio.sleep(30)
        assert sender.most == module.AT_ONCE
        assert len(sender.times) == 1000
    sender = Sender()
    async with running(sender) as prober:
        for number in range(2000):
            prober.attend(VNodeName(f"vnode.b{number}.dev"), [target(probe(period=3600))], asyncio.Event())
        await asyncio.sleep(2.0)
        assert len(sender.times) <= module.A_SECOND * 2.2
        await asyncio.sleep(3.0)
        assert len(sender.times) == 2000


async def test_a_defect_of_the_sender_is_a_failure_and_probing_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = Sender()

    def defect(_port: int) -> Outcome:
        raise RuntimeError("a defect")

    sender.answer = defect
    async with running(sender) as prober:
        prober.attend(BASE, [target(Probe(HttpGet(Port(80)), period=1, failure_threshold=1))], asyncio.Event())
        await asyncio.sleep(2.5)
        assert sender.at() == [0.0, 1.0, 2.0]
        reading = prober.reading(BASE, KEY)
        assert reading is not None
        assert "could not be sent" in reading.why


async def test_replaced_targets_leave_no_tasks() -> None:
    async with running(Sender()) as prober:
        before = len(asyncio.all_tasks())
        for number in range(1000):
            later = target(probe(initial_delay=1e9), key=("uid", str(number)))
            prober.attend(BASE, [later], asyncio.Event())
        await asyncio.sleep(0.0)
        assert len(asyncio.all_tasks()) <= before + 2


async def test_a_defect_of_ours_ends_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> Reading:
        raise RuntimeError("a defect")

    monkeypatch.setattr("controlplane.domain.probes.take", defect)
    async with running(Sender()) as prober:
        prober.attend(BASE, [target(probe())], asyncio.Event())
        await asyncio.sleep(1.0)
        with pytest.raises(RuntimeError, match="a defect"):
            prober.reading(BASE, KEY)
