"""What only repeats what a replica knows waits for more of its kind; anything else is sent at once."""

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.outbox import Outbox
from tests.unit.gateways import said
from tests.unit.gateways.said import modules
from tests.unit.gateways.session.test_outbox import BIZ, failed, heartbeat


def health(state: str = "ACTIVATED") -> pb.Report:
    return pb.Report(base_id="a", health=said.health(state))


@pytest.mark.parametrize("again", [heartbeat("a"), modules("a", BIZ), health()], ids=["heart", "list", "health"])
def test_what_says_nothing_new_can_wait(again: pb.Report) -> None:
    outbox, woken = Outbox(), list[bool]()
    outbox.open(pb.Limits(), lambda can_wait: woken.append(can_wait))
    news = (modules("a", BIZ), heartbeat("a"), health())
    for report in news:
        outbox.put(report, 0)
        outbox.take(0)
    outbox.put(again, 1)
    assert woken == [False, False, False, True]
    outbox.take(1)
    for change in (lambda: outbox.send_in_full("a"), lambda: outbox.put(failed(pb.VERB_HEALTH), 1)):
        change()
        outbox.take(1)
        woken.clear()
        outbox.put(again, 2)
        assert woken == [False]
        for report in news:
            outbox.put(report, 2)
            outbox.take(2)


def test_what_says_something_new_cannot_wait() -> None:
    outbox, woken = Outbox(), list[bool]()
    outbox.open(pb.Limits(), lambda can_wait: woken.append(can_wait))
    for report in (modules("a", BIZ), heartbeat("a"), health()):
        outbox.put(report, 0)
        outbox.take(0)
    woken.clear()
    outbox.put(modules("a"), 1)
    outbox.put(heartbeat("a", port=2), 1)
    outbox.put(health("DEACTIVATED"), 1)
    assert woken == [False, False, False]
