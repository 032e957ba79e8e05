"""Secrets are masked in texts and log lines."""

import pytest

from service.masking import masked, masked_deep


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
        "/mnt/t/file and https://h/a/t/b",
        "",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert masked(text) == text


def test_every_value_of_a_log_line_is_masked() -> None:
    secret, shown = "http://u:p@h", "http://***@h"
    value = {"a": secret, "b": [secret, {"c": (secret,)}], "d": 5, "e": None, "f": ValueError(secret)}
    assert masked_deep(value) == {"a": shown, "b": [shown, {"c": [shown]}], "d": 5, "e": None, "f": shown}
