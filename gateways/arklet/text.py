"""Text from bases, without secrets, cut to what is worth carrying. Lengths are in characters."""

from service.masking import masked

NAME_LIMIT = 256
"""Names, versions, addresses and reasons."""

MESSAGE_LIMIT = 1024
"""Messages of replies and of module state records."""

TRACE_LIMIT = 4096
"""Java stack traces."""

_CUT = " ..."
_GAP = "\n\t...\n"
_CAUSE = "\nCaused by: "
_FRAME = "\n\tat "
_HEAD_LIMIT = 512

_CONTROLS = {code: " " for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
"""Control characters, which could drive the terminal that shows the text, become blanks."""


def is_trace(text: str) -> bool:
    """Return whether text holds a Java stack trace."""
    return _FRAME in text


def clip(text: str, limit: int) -> str:
    """Return text without secrets and control characters other than tab and line feed, no longer than limit."""
    # Masked before it is cut: of half a URL nobody sees what is secret.
    text = masked(text[: 2 * limit])
    if len(text) > limit:
        text = text[: limit - len(_CUT)] + _CUT
    return text.translate(_CONTROLS)


def clip_message(text: str) -> str:
    """Return a message no longer than MESSAGE_LIMIT; of a stack trace, its useful end."""
    return clip_trace(text, MESSAGE_LIMIT) if is_trace(text) else clip(text, MESSAGE_LIMIT)


def clip_trace(text: str, limit: int = TRACE_LIMIT) -> str:
    """Return a stack trace no longer than limit: what was thrown, and the last "Caused by" with its frames.

    The frames between them are wrappers of the container and of Spring. A trace without a cause keeps its beginning.
    """
    at = text.rfind(_CAUSE)
    if len(text) <= limit or at < 0:
        return clip(text, limit)
    thrown = clip(text[: text.find("\n")], min(_HEAD_LIMIT, limit // 4))
    kept = thrown + _GAP
    return kept + clip(text[at + 1 :], limit - len(kept))
