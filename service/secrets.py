"""The secrets that this process knows, so that nothing that it writes has them in it.

A value is registered where it is read, under its source. Tokens change: of each source the newest values count, and
those before them for a while, since a text may be about a request that was sent with them.
"""

import base64
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

MASK = "***"

SHORTEST = 6
"""Characters of a value that is looked for: a shorter one is a part of words that are no secret."""
SHORTEST_PART = 8
"""Characters of a part of a URL that is looked for."""
SHORTEST_SEGMENT = 16
"""Characters of a segment of the path of an http URL that is looked for."""
LONGEST = 16 * 1024
"""Characters of a value; what is longer is no password and no token."""
KEPT = 4
"""Values of one source."""
MOST_PARTS = 128
"""Parts of one value."""
MOST_SOURCES = 256

_SEPARATORS = re.compile(r"[;,\s]+")
_OF_URLS = re.compile(r"[/?&=@:#]+")


class Registry:
    """Secrets by source; safe to use from several threads."""

    def __init__(self) -> None:
        self._sources: dict[str, deque[frozenset[str]]] = {}
        self._forms: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def register(self, source: str, value: str) -> None:
        """Take a value; a list of them, separated by ; or , or a URL counts with its secret parts too."""
        if len(value) < SHORTEST or len(value) > LONGEST:
            return
        with self._lock:
            if source not in self._sources and len(self._sources) >= MOST_SOURCES:
                del self._sources[next(iter(self._sources))]
            newest = self._sources.setdefault(source, deque(maxlen=KEPT))
            forms = frozenset(form for part in _parts(value) for form in _forms(part))
            if forms in newest:
                return
            newest.append(forms)
            found = {form for values in self._sources.values() for each in values for form in each}
            # The longest goes first: a shorter one may be a part of it.
            self._forms = tuple(sorted(found, key=lambda form: (-len(form), form)))

    def hidden(self, text: str) -> str:
        """Return text with what is registered replaced by ***."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


KNOWN = Registry()
"""Those of this process."""


def register(source: str, value: str) -> None:
    """Have a secret of this process kept out of what it writes; source names where it comes from."""
    KNOWN.register(source, value)


def _parts(value: str) -> Iterator[str]:
    """Yield a value, the entries of a list, and what is secret in URLs."""
    yield value
    for entry in _SEPARATORS.split(value)[:MOST_PARTS]:
        scheme, separator, rest = entry.partition("://")
        if not separator:
            if len(entry) >= SHORTEST:
                yield entry
            continue
        yield entry
        http = scheme.lower() in ("http", "https")
        for part in _secrets_of_http(rest) if http else _OF_URLS.split(rest)[:MOST_PARTS]:
            if len(part) >= SHORTEST_PART:
                yield part
                yield unquote(part)


def _secrets_of_http(rest: str) -> Iterator[str]:
    """Yield the password, the values of the query and the long segments of the path of an http URL."""
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    yield authority.rpartition("@")[0].partition(":")[2]
    yield from (parameter.partition("=")[2] for parameter in query.split("&")[:MOST_PARTS])
    yield from (segment for segment in path.split("/")[:MOST_PARTS] if len(segment) >= SHORTEST_SEGMENT)


def _forms(value: str) -> Iterator[str]:
    """Yield the ways in which texts have a value: as it is, escaped, in a URL, in base64."""
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")
    yield base64.b64encode(value.encode(errors="replace")).decode().rstrip("=")
