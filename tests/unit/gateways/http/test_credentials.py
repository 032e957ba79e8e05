"""Who may call the HTTP gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.http.credentials import Caller, Credentials, Place, locate
from service.refusals import RequestRefused
from service.tokens import Key

KEY, GONE = Key(b"k" * 32), Key(b"g" * 32)
TOKEN = KEY.token("base-1")


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ("/heartbeat", ("/heartbeat", "")),
        ("/t/abc/heartbeat", ("/heartbeat", "abc")),
        ("/t/a%2Fb%20c/queryBaseline", ("/queryBaseline", "a/b c")),
        ("/t//heartbeat", ("/t//heartbeat", "")),
        ("/t/abc/heartbeat/", ("/t/abc/heartbeat/", "")),
        ("/x/abc/heartbeat", ("/x/abc/heartbeat", "")),
        ("/t/abc", ("/t/abc", "")),
        ("*", ("*", "")),
    ],
)
def test_a_path_may_have_a_token(raw: str, place: tuple[str, str]) -> None:
    assert locate(raw) == Place(*place)


@given(st.text())
def test_any_path_is_a_place(raw: str) -> None:
    assert raw.endswith(locate(raw).path)


def allowed(credentials: Credentials, token: str = "", header: str = "") -> Caller | None:
    try:
        return credentials.caller("10.0.0.1", token, header)
    except RequestRefused:
        return None


ANY = Caller("10.0.0.1")
BOUND = Caller("10.0.0.1", "base-1")


@pytest.mark.parametrize(
    ("shared", "keys", "given", "caller"),
    [
        ("", (), "", ANY),
        ("", (), "anything", ANY),
        ("s3cret", (), "s3cret", ANY),
        ("s3cret", (), "", None),
        ("s3cret", (), "wrong", None),
        ("s3cret", (), "s3cre\udcff", None),
        ("s3cret", (), TOKEN, None),
        ("", (KEY,), TOKEN, BOUND),
        ("", (GONE, KEY), TOKEN, BOUND),
        ("", (GONE,), TOKEN, None),
        ("", (KEY,), f"\udcff{TOKEN}", None),
        ("", (KEY,), "\udcff.x.base-1", None),
        ("", (KEY,), "", None),
        ("", (KEY,), KEY.id, None),
        ("", (KEY,), "k" * 32, None),
        ("s3cret", (KEY,), "s3cret", ANY),
        ("s3cret", (KEY,), TOKEN, BOUND),
    ],
)
def test_a_token_counts_in_the_path_and_in_the_header(
    shared: str, keys: tuple[Key, ...], given: str, caller: Caller | None
) -> None:
    credentials = Credentials(shared, lambda: keys)
    assert allowed(credentials, token=given) == caller
    assert allowed(credentials, header=f"Bearer {given}") == caller


@pytest.mark.parametrize("header", ["s3cret", "bearer s3cret", "Basic s3cret", "Bearer  s3cret"])
def test_other_headers_do_not_count(header: str) -> None:
    assert allowed(Credentials("s3cret"), header=header) is None


def test_a_refusal_says_nothing_about_the_token() -> None:
    with pytest.raises(RequestRefused, match=r"^token missing or wrong$") as refused:
        Credentials("s3cret").caller("10.0.0.1", "guess", "")
    assert (refused.value.status, refused.value.reason) == (401, "token")


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Credentials("s3cret"))


def test_a_bound_token_speaks_for_its_base_only() -> None:
    BOUND.check_identity("base-1")
    ANY.check_identity("base-2")
    with pytest.raises(RequestRefused, match="for base base-1, not for base-2") as refused:
        BOUND.check_identity("base-2")
    assert (refused.value.status, refused.value.reason) == (403, "other_base")


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_base_calls_from_its_own_address(peer: str) -> None:
    Caller(peer).check_address("10.0.0.1")


@pytest.mark.parametrize("peer", ["10.0.0.2", "", "fe80::1%eth0", "::1"])
def test_a_base_at_another_address_is_refused(peer: str) -> None:
    with pytest.raises(RequestRefused, match="HTTP_TUNNEL_PEER_CHECK must be off") as refused:
        Caller(peer).check_address("10.0.0.1")
    assert (refused.value.status, refused.value.reason) == (403, "peer")
