"""A subscription that ends the connection is retried ever less often; answers of other gateways are counted."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pytest

from gateways.mqtt.baselines import ENOUGH, MOST, WINDOW, Doubles
from gateways.mqtt.extras import FIRST_HOLD, HOLD, Extra
from mqttclient.connection import MqttConnection
from mqttclient.failures import Lost, Unanswered


class FakeConnection:
    """Answers SUBSCRIBE with return codes, with Unanswered, or with Lost and the end of the connection."""

    def __init__(self, answer: list[bool] | Exception) -> None:
        self.answer = answer
        self.up = True
        self.asked = ""
        self.subscribed = 0

    async def subscribe(self, filters: Mapping[str, int], *, within: float = 10.0) -> list[bool]:
        self.subscribed += 1
        if isinstance(self.answer, Lost):
            self.up, self.asked = False, f"subscribe to {', '.join(filters)}"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        yield


async def ask(extra: Extra, answer: list[bool] | Exception) -> tuple[str, int]:
    """Return the reason of a refusal, and how often the broker was asked."""
    connection = FakeConnection(answer)
    try:
        why_not = await extra.subscribe(cast("MqttConnection", connection), {"a": 1, "b": 1})
    except Lost:
        why_not = "lost"
    return why_not, connection.subscribed


@pytest.mark.looptime
async def test_a_broker_that_ends_the_connection_is_asked_less_and_less_often() -> None:
    extra = Extra("a", "nothing follows")
    hold = FIRST_HOLD
    for _ in range(10):
        assert await ask(extra, Lost("gone")) == ("lost", 1)
        await asyncio.sleep(hold - 1)
        why_not, asked = await ask(extra, [True, True])
        assert (why_not, asked) == ("the broker ended the connection when it was asked to subscribe to a, b", 0)
        await asyncio.sleep(2)
        hold = min(2 * hold, HOLD)
    assert await ask(extra, [True, True]) == ("", 1)
    extra.settle("")
    await ask(extra, Lost("gone"))
    await asyncio.sleep(FIRST_HOLD + 1)
    assert await ask(extra, [True, True]) == ("", 1), "once granted, it begins again"


async def test_other_refusals_are_retried_on_each_connection() -> None:
    extra = Extra("a", "nothing follows")
    assert await ask(extra, [True, False]) == ("the broker refuses to subscribe to b", 1)
    assert await ask(extra, Unanswered("no answer")) == ("no answer", 1)
    assert await ask(extra, [True, True]) == ("", 1)


@pytest.mark.looptime
async def test_a_cancelled_subscription_is_not_held() -> None:
    extra = Extra("a", "nothing follows")
    connection = FakeConnection([True])
    with pytest.raises(asyncio.CancelledError), extra.asked_of(cast("MqttConnection", connection)):
        raise asyncio.CancelledError
    assert not extra.held


def both(doubles: Doubles, base: str, now: float) -> bool:
    """This gateway and another one answer a question."""
    doubles.asked(base, now)
    return [doubles.answered(base) for _ in range(2)][-1]


def test_others_are_noticed_when_they_answer_several_questions_in_a_row() -> None:
    doubles = Doubles()
    assert [both(doubles, f"base-{number}", number) for number in range(ENOUGH)] == [*[False] * (ENOUGH - 1), True]


def test_one_question_that_nobody_else_answers_resets_the_count() -> None:
    doubles = Doubles()
    for number in range(10):
        both(doubles, f"base-{number}", number * 100)
        doubles.asked("alone", number * 100 + 1)
        assert not doubles.answered("alone")
        assert not both(doubles, "after", number * 100 + 2 + WINDOW)


def test_answers_without_a_question_do_not_count_and_questions_are_bounded() -> None:
    doubles = Doubles()
    assert not any(doubles.answered("base-1") for _ in range(100))
    for number in range(3 * MOST):
        doubles.asked(f"base-{number}", 0.0)
    assert len(doubles._asked) == MOST
