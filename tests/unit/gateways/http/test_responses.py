"""One answer is read within its budget, in whatever parts it comes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.arklet.fields import MOST_VALUES, TooManyValues, first_object
from gateways.http.memory import AnswerMemory
from gateways.http.responses import MAX_HEAD, MAX_RESPONSE, Excessive, Lost
from tests.unit.gateways.answers import parse

OK = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(body: bytes, size: int) -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@given(st.binary(min_size=1, max_size=2000), st.integers(8, 500), st.integers(8, 500))
def test_framing_and_parts_change_nothing(body: bytes, size: int, step: int) -> None:
    assert parse(OK + body, step) == body
    assert parse(chunks(body, size), step) == body
    assert parse(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), step) == body


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_an_answer_or_lost(junk: bytes, step: int) -> None:
    for answer in (junk, OK[: len(junk)] + junk, CHUNKED + junk):
        with suppress(Lost):
            assert parse(answer, step)


def test_an_interim_response_is_passed_over() -> None:
    assert parse(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"{}") == b"{}"


@pytest.mark.parametrize(
    ("answer", "step", "reason"),
    [
        (OK + b"x" * MAX_RESPONSE, 1 << 16, "size"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD, 1 << 16, "size"),
        (b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * MAX_HEAD, 1 << 16, "size"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_HEAD, 1 << 16, "size"),
        (chunks(b"x" * 100_000, 1), 1 << 16, "pieces"),
        (chunks(b"x" * 100_000, 64), 1 << 16, "pieces"),
        (OK + b"x" * 10_000, 1, "pieces"),
    ],
)
def test_an_answer_beyond_the_budget_is_excessive(answer: bytes, step: int, reason: str) -> None:
    with pytest.raises(Excessive) as error:
        parse(answer, step)
    assert error.value.reason == reason


def test_the_largest_answers_are_within_the_budget() -> None:
    body = b"x" * (MAX_RESPONSE - 4096)
    assert parse(OK + body, 1448) == body
    assert parse(chunks(body[: MAX_RESPONSE // 2], 200), 1448) == body[: MAX_RESPONSE // 2]


def test_an_answer_for_which_there_is_no_room_is_excessive() -> None:
    with pytest.raises(Excessive) as error:
        parse(OK + b"x" * 100_000, memory=AnswerMemory(total=50_000))
    assert error.value.reason == "memory"


def test_values_of_a_text_are_bounded() -> None:
    most = b'{"data":[' + b"1," * (MOST_VALUES - 2) + b"1]}"
    assert len(first_object(most)["data"]) == MOST_VALUES - 1
    with pytest.raises(TooManyValues):
        first_object(most[:-2] + b",1]}")
    with pytest.raises(TooManyValues):
        first_object(b'{"data":[' + b"[]," * MOST_VALUES + b"[]]}")
