"""Texts of strangers show what they say in a message, and neither mention, nor link, nor take its form."""

import dataclasses
import unicodedata

import apprise
import pytest
from apprise.conversion import convert_between
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from controlplane.domain.reports import Report
from controlplane.reports.apprises import body
from controlplane.reports.neutral import cut, markdown, neutral
from controlplane.reports.posting import message
from service.wording import clean, unsafe

RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HARMLESS = Report("k", "vpod_deploy", "ContainerStart", "fail", "boom", "01002", {"b": "2", "a": "1"}, "t-1", 5)
FIELDS = ("scene", "event", "result", "message", "code", "trace_id")

PIECES = st.sampled_from(
    [
        *"\\`*_[](){}<>#+-.!|~=:&@/\"' \n\t1a",
        "\r\n\r\n", "    ", "```", "---", "===", "1. ", "- ", "## ", "> ", "|-|", "&amp;", "&#64;", "![a](b)",
        "[x](http://evil.example)", "<http://evil.example>", "<b>", "<!--", "http://evil.example", "www.evil.example",
        "@all", "@13800000000", "<!channel>", "<@U1>", "<users/all>", "<at id=all>", "[a]: /b",
        "a_b", "\u202e", "\u200b", "\x1b[31m", "\u2028", "\ud800", "dingtalk://x", "you@evil.example",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)


def rendered(text: str) -> list[tuple[str, str]]:
    """Return what a chat makes of Markdown: the elements, and between them the text as it is seen."""
    seen: list[tuple[str, str]] = []
    for block in RENDERER.parse(text):
        for token in block.children if block.children is not None else [block]:
            said = token.content if token.type in ("text", "text_special", "code_inline", "html_inline") else ""
            if said and seen and seen[-1][0] == "text":
                seen[-1] = ("text", seen[-1][1] + said)
            else:
                seen.append(("text" if token.type in ("text", "text_special") else token.type, said))
    return seen


def elements(report: Report) -> list[str]:
    return [kind for kind, _ in rendered(_text(report))]


def _text(report: Report) -> str:
    found = message(report)["markdown"]
    assert isinstance(found, dict)
    return str(found["text"])


@given(TEXTS)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    seen = rendered(f"x\n\n{markdown(text)}\n\nx")
    shown = "".join(said for kind, said in seen if kind == "text")
    assert [kind for kind, _ in seen if kind != "text"] == _around(text)
    assert shown == f"x{neutral(text).strip()}x"


def _around(text: str) -> list[str]:
    paragraphs = 3 if neutral(text).strip() else 2
    return ["paragraph_open", "paragraph_close"] * paragraphs


@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXTS)), st.dictionaries(TEXTS, TEXTS, max_size=2))
def test_no_text_changes_the_form_of_the_robots_message(texts: dict[str, str], labels: dict[str, str]) -> None:
    plain = dataclasses.replace(
        HARMLESS,
        labels={f"l{number}": "x" if neutral(labels[name]).strip() else "" for number, name in enumerate(labels)},
        **{name: "x" if neutral(texts[name]).strip() else "" for name in FIELDS},  # type: ignore[arg-type]
    )
    hostile = dataclasses.replace(HARMLESS, labels=labels, **texts)  # type: ignore[arg-type]
    assert elements(hostile) == elements(plain)


@given(TEXTS)
def test_a_text_neither_mentions_nor_links_nor_steers(text: str) -> None:
    for made in (neutral(text), markdown(text)):
        assert not set("@<") & set(made)
        assert "://" not in made
        assert "www." not in made.lower()
        assert "\n" not in made
        assert not any(unsafe(char) for char in made)


@given(st.text("abcXYZ 0123456789.,:;/'\"?%-_", max_size=60))
def test_ordinary_text_stays(text: str) -> None:
    text = text.replace("://", "").replace("www.", "")
    assert neutral(text) == clean(text)


@pytest.mark.parametrize("name", ["vpod_deploy", "biz1:0.0.1", "com.alipay.Biz_1", "t-1", "01002", "a/b?c=d"])
def test_names_are_written_as_they_are(name: str) -> None:
    assert markdown(name) == name


@given(TEXTS, st.integers(0, 60))
def test_no_escape_is_cut_in_two(text: str, most: int) -> None:
    whole = markdown(text)
    short = cut(whole, most)
    assert len(short.encode(errors="replace")) <= most + 3
    if short != whole:
        assert (len(short) - 3 - len(short[:-3].rstrip("\\"))) % 2 == 0


@given(TEXTS)
def test_services_of_apprise_get_text_that_mentions_and_links_nothing(text: str) -> None:
    report = dataclasses.replace(HARMLESS, message=text, labels={text or "a": text})
    plain = body(report)
    for kind in (apprise.NotifyFormat.TEXT, apprise.NotifyFormat.MARKDOWN, apprise.NotifyFormat.HTML):
        made = convert_between(apprise.NotifyFormat.TEXT, kind, plain)  # type: ignore[no-untyped-call]
        assert "@" not in made
        assert "://" not in made
        assert "<!" not in made
    assert not any(unsafe(char) for char in plain.replace("\n", ""))


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2))
def test_a_line_of_the_trackers_file_is_one_line(text: str, labels: dict[str, str]) -> None:
    line = dataclasses.replace(HARMLESS, message=text, event=text, labels=labels).line("2026-01-01 00:00:00.000")
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert not {unicodedata.category(char) for char in line[:-1]} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    line.encode()
