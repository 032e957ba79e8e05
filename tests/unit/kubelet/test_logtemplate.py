"""A template is filled with what is known, and leads to no other server and into no other query."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kubelet.logtemplate import FIELDS, LogTemplate, WrongOption, WrongTemplate

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BASE = {
    "host": "shop-7",
    "ip": "10.1.0.9",
    "node": "vnode.b2.dev",
    "namespace": "apps",
    "pod": "biz1",
    "container": "biz1",
}
URL = "https://logs.example/{host}/{ip}?n={tail}&b={limit}&since={since}&f={follow}"


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, "n=&b=&since=&f=false"),
        ({"tailLines": "0", "limitBytes": "5", "follow": "true"}, "n=0&b=5&since=&f=true"),
        ({"sinceSeconds": "3600"}, "n=&b=&since=2026-01-31T11%3A00%3A00Z&f=false"),
        ({"sinceTime": "2026-01-31T12:00:00+02:00"}, "n=&b=&since=2026-01-31T10%3A00%3A00Z&f=false"),
        ({"sinceSeconds": "999999999999999999"}, "n=&b=&since=&f=false"),
    ],
)
def test_it_is_filled_with_what_is_asked_for(options: dict[str, str], query: str) -> None:
    assert LogTemplate(URL).url(BASE, options, NOON) == f"https://logs.example/shop-7/10.1.0.9?{query}"


@pytest.mark.parametrize(
    "options",
    [
        {"tailLines": "ten"},
        {"limitBytes": "-1"},
        {"tailLines": "9" * 10_000},
        {"sinceTime": "yesterday"},
        {"sinceTime": "2026-01-31T12:00:00Z" * 500},
    ],
)
def test_what_cannot_be_is_refused_shortly(options: dict[str, str]) -> None:
    with pytest.raises(WrongOption, match="is no") as refusal:
        LogTemplate(URL).url(BASE, options, NOON)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("text", ["http://h:" + "9x" * 5000 + "/{ip}", "http://h/{" + "x" * 10_000 + "}"])
def test_a_template_that_cannot_be_is_refused_shortly(text: str) -> None:
    with pytest.raises(WrongTemplate) as refusal:
        LogTemplate(text)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "http://"),
        ("logs.example/{host}", "http://"),
        ("ftp://logs.example/{host}", "http://"),
        ("http://{host}/log", "http://"),
        ("http://logs.example{host}", "http://"),
        ("http://logs.example:{ip}/", "http://"),
        ("http://me:secret@logs.example/{host}", "LOG_SOURCE_TOKEN_PATH"),
        ("http://logs.example/{hots}", "{hots} is not one of host, ip"),
        ("http://logs.example/{host.x}", "is not one of"),
        ("http://logs.example/{host!r}", "only a name"),
        ("http://logs.example/{host:>9}", "only a name"),
        ("http://logs.example/{host", "no template"),
        ("http://logs.example:port/{host}", "no template"),
        ("http://logs.example/{pod}", "all bases have one log"),
        ("http://logs.example/{host}?f={follow}", "needs {tail}"),
    ],
)
def test_a_wrong_template_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(WrongTemplate) as wrong:
        LogTemplate(text)
    assert why in str(wrong.value)
    assert "secret" not in str(wrong.value)


@given(st.fixed_dictionaries({name: st.text(max_size=12) for name in BASE}))
def test_nothing_that_a_base_reports_leads_elsewhere(of: dict[str, str]) -> None:
    text = "https://logs.example/of/" + "/".join(f"{{{name}}}" for name in BASE) + "/log?q={host}&z=1"
    url = LogTemplate(text).url(of, {}, NOON)
    parts = urlsplit(url)
    assert url.isascii()
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "logs.example", "")
    assert parts.path.count("/") == len(BASE) + 2
    assert not {".", ".."} & set(parts.path.split("/"))
    assert set(parse_qs(parts.query, keep_blank_values=True)) == {"q", "z"}


def test_the_names_are_those_that_are_filled() -> None:
    text = "http://logs.example/" + "/".join(f"{{{name}}}" for name in FIELDS)
    assert "{" not in LogTemplate(text).url(BASE, {}, NOON)
