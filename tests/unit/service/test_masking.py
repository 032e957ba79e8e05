"""Secrets are masked in texts and log lines."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import masking
from service.masking import masked, masked_fields


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "403, message='Forbidden', url='http://user:pa%40ss@proxy:3128'",
            "403, message='Forbidden', url='http://***@proxy:3128'",
        ),
        ("socks5://user@proxy:1080 does not answer", "socks5://***@proxy:1080 does not answer"),
        ("http://user:p@ss/w@rd@proxy:1", "http://***@proxy:1"),
        ("HTTPS://u:p@h, then https://v:q@i", "HTTPS://***@h, then https://***@i"),
        ("https://h/robot/send?access_token=0123&a=b", "https://h/robot/send?access_token=***&a=b"),
        ("https://h/?a=b&X-Amz-Signature=0123 failed", "https://h/?a=b&X-Amz-Signature=*** failed"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDE=", "Authorization: Basic ***"),
        ("sent Bearer abcdefghijklmnopqrstuvwxyz", "sent Bearer ***"),
        ("POST /t/0123.abc.base-1/heartbeat HTTP/1.1", "POST /t/***/heartbeat HTTP/1.1"),
        ("https://10.0.0.1:7777/t/s3cret and /t/s3cret", "https://10.0.0.1:7777/t/*** and /t/***"),
        (
            "https://b.oss.example/x.jar?OSSAccessKeyId=a&Expires=1&Signature=b%2F",
            "https://b.oss.example/x.jar?OSSAccessKeyId=***&Expires=***&Signature=***",
        ),
        (
            "https://a.blob.example/x.jar?sv=2022&sig=abc%3D&se=2026",
            "https://a.blob.example/x.jar?sv=2022&sig=***&se=2026",
        ),
        ("https://g/api?private_token=a#token=b", "https://g/api?private_token=***"),
        ("url='http://h/x;jsessionid=1;token=2'", "url='http://h/x;jsessionid=***'"),
        ("jdbc:mysql://h/db?user=u&password=p", "jdbc:mysql://h/db?user=u&password=***"),
        ("MQTT_PASSWORD=p is wrong", "MQTT_PASSWORD=*** is wrong"),
        ("Authorization: Bearer s3cret", "Authorization: Bearer ***"),
        (
            "<CIMultiDict('Host': 'h', 'Authorization': 'Bearer s3cret')>",
            "<CIMultiDict('Host': 'h', 'Authorization': 'Bearer ***')>",
        ),
        ("(b'Authorization', b'Bearer s3cret')", "(b'Authorization', b'Bearer ***')"),
        ("Proxy-Authorization: Basic dTpw", "Proxy-Authorization: Basic ***"),
        ("Set-Cookie: session=1; Path=/", "Set-Cookie: ***; Path=/"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("AWS4-HMAC-SHA256 Credential=a/b, Signature=c", "AWS4-HMAC-SHA256 Credential=*** Signature=***"),
        (
            "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----***-----END EC PRIVATE KEY-----\n",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMHcC and what follows", "-----BEGIN PRIVATE KEY-----***"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrIn0.c2ln was refused", "token *** was refused"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to https://10.0.0.1:6443: connection refused",
        "user@example.com may not list pods (HTTP 403)",
        "https://h/api/v1/pods?limit=500&continue=abc",
        "basic authentication and bearer tokens",
        "ipv4:10.0.0.1:50051",
        "LOCAL_TOKENS_PATH=/var/lib/tokens.csv: cannot be made",
        "/mnt/t/file and https://h/a/t/b",
        "https://repo.example/biz@1.0/biz1.jar",
        "https://[fd00::1]:8443/a@b",
        "the authorization of the caller",
        "state=ACTIVATED, name=biz1",
        "a page=2&limit=5 of x-forwarded things",
        "",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert masked(text) == text


def test_every_value_of_a_log_line_is_masked() -> None:
    secret, shown = "http://u:p@h", "http://***@h"
    value = {"a": secret, "b": [secret, {"c": (secret,), secret: 1}], "d": 5, "e": None, "f": ValueError(secret)}
    assert masked_fields(value) == {"a": shown, "b": [shown, {"c": [shown], shown: 1}], "d": 5, "e": None, "f": shown}


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


def test_what_is_in_a_log_line_is_bounded_and_reading_it_does_not_fail() -> None:
    endless: list[Any] = []
    endless.append(endless)
    line = masked_fields(
        {"a": Unreadable(), "b": endless, "c": "x" * 100_000, "d": list(range(100_000)), "e": {Unreadable(): 1}}
    )
    assert line["a"] == "<Unreadable>"
    assert len(line["c"]) < masking.LONGEST + 100
    assert len(line["d"]) <= masking.MOST_VALUES
    assert line["e"] in ("...", {"<Unreadable>": "..."})
    assert "..." in str(line["b"])


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    ["a", "://", "?", "?a", "a=", "=", "/t/", "eyJ", "eyJaaaaaaaa-", "eyJaaaaaaaa.", "bearer ", "authorization: ", "x-",
     "x-aaaaaaaaaa", "http://u:", "@", "://@", "-----BEGIN PRIVATE KEY-----", " ", "\n", "%", "."],
)  # fmt: skip
def test_the_time_is_linear_in_the_length(part: str) -> None:
    """A quadratic pattern takes hours for a text of this length."""
    assert isinstance(masked(part * (2_000_000 // len(part))), str)


@given(st.text(max_size=300))
def test_any_text_can_be_masked(text: str) -> None:
    assert isinstance(masked(text), str)


URL_TEXT = st.text("abcXYZ019-._~%", min_size=4, max_size=20)


@given(
    URL_TEXT, URL_TEXT, st.sampled_from(["Signature", "X-Amz-Signature", "OSSAccessKeyId", "sig", "token"]), URL_TEXT
)
def test_no_secret_of_a_url_is_left_wherever_it_stands(user: str, password: str, name: str, value: str) -> None:
    url = f"https://{user}:{password}@repo.example/biz1.jar?v=1&{name}={value}"
    for text in (url, f"cannot fetch {url}: 403", f"url='{url}'", f'{{"url": "{url}"}}', f"<{url}>"):
        shown = masked(text)
        assert f"{user}:" not in shown
        assert f":{password}@" not in shown
        assert f"={value}" not in shown
        assert "repo.example/biz1.jar?v=1" in shown


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text(max_size=40) | st.integers() | st.none()))
def test_one_look_for_all_texts_gives_what_a_look_at_each_gives(fields: dict[str, Any]) -> None:
    assert masked_fields(fields) == {
        name: masked(value) if isinstance(value, str) else value for name, value in fields.items()
    }
