"""Texts of strangers in messages to people: they show what they say, and do nothing.

Texts come from bases, from Kubernetes, and from whoever reaches /log. In a chat they must neither mention anybody, nor
link anywhere, nor look like a part of the message that they stand in.

Source for Markdown: CommonMark 0.31, section 2.4 (backslash escapes), which DingTalk's robots follow.
"""

import re

from service.wording import clean

_ACTIVE = str.maketrans(
    {
        "@": "\N{FULLWIDTH COMMERCIAL AT}",  # mentions, and addresses of mail
        "<": "\N{FULLWIDTH LESS-THAN SIGN}",  # mentions of Slack, Google Chat and Feishu, HTML
    }
)
_COLON, _STOP = "\N{FULLWIDTH COLON}", "\N{FULLWIDTH FULL STOP}"
_SCHEME = re.compile(r":(?=//)")
_WWW = re.compile(r"(www)\.", re.IGNORECASE)

# An underscore within a word is none of emphasis, and names have them. An ampersand counts where it begins an entity.
_MARKDOWN = re.compile(r"[\\`*\[\]()#!|~>$^{}]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w{1,32};)")
_FIRST = re.compile(r"([-+=:])|(\d{1,9})([.)])")


def neutral(text: str) -> str:
    """Return text on one line, without what a chat takes for a mention or a link, and without control characters."""
    text = _SCHEME.sub(_COLON, clean(text).translate(_ACTIVE))
    return _WWW.sub(rf"\1{_STOP}", text)


def markdown(text: str) -> str:
    """Return text as Markdown that shows it as it is, wherever in a line it stands; it is neutral."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", neutral(text).strip())
    return _FIRST.sub(_escaped_first, escaped, count=1) if _FIRST.match(escaped) else escaped


def cut(text: str, most: int) -> str:
    """Return at most so many bytes of Markdown, and three dots where it was longer; no escape is cut in two."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return text
    kept = encoded[:most].decode(errors="ignore")
    return kept[: len(kept) - (len(kept) - len(kept.rstrip("\\"))) % 2] + "..."


def _escaped_first(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"
