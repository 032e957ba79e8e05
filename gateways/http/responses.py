"""Reads one HTTP response of a base, as it comes, under a budget.

Arklet answers without Content-Length and ends the body by closing the connection; answers with Content-Length or
chunks, as proxies make them, are understood too. llhttp reads them, in C; chunks and reads are counted: an answer in
tiny pieces costs more than it is worth.
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateways.http.memory import NoRoom, Share

MAX_RESPONSE = 4 << 20
"""Bytes of an answer, head included; a full module list of a large base takes some hundred KB."""
MAX_HEAD = 16 << 10
FREE_PIECES = 256
PIECE = 128
"""Bytes that a piece (a chunk, or a read) must have on average, beyond the first FREE_PIECES."""
_STEP = 16 << 10
"""Bytes between two looks at the budget."""


class NotSent(Exception):
    """The command never left: it had no effect. The message says why."""

    end = "not_sent"


class Lost(Exception):
    """The command was sent and no answer can be had: it may have taken effect. The message says why."""

    end = "lost"


class Excessive(Lost):
    """The answer costs more than an answer may; reason is one word for counting."""

    end = "excessive"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Response:
    """One response. feed takes what came, end returns its body."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._parser = HttpResponseParser(self)
        self._received = self._pieces = self._size = 0
        self._body: list[bytes] = []
        self._in_head = True
        self._length: int | None = None
        self._encoding = ""
        self._complete = False

    def feed(self, data: bytes) -> bool:
        """Take more bytes; return whether the response is complete by its own framing. Raises Lost, Excessive."""
        view = memoryview(data)
        for start in range(0, len(view), _STEP):
            step = view[start : start + _STEP]
            self._received += len(step)
            self._pieces += 1
            self._parse(step)
            if self._complete:
                return True
            self._check()
        return False

    def end(self) -> bytes:
        """Return the body, once connection or response ended. Raises Lost unless it is whole, with status 200."""
        if not self._received:
            raise Lost("the base closed the connection without an answer")
        if self._in_head:
            raise Lost("the answer was cut within its head")
        if not self._complete and (self._length is not None or self._encoding == "chunked"):
            whole = "" if self._length is None else f" of {self._length}"
            raise Lost(f"the answer was cut after {self._size}{whole} bytes")
        if self._encoding not in ("", "chunked", "identity"):
            raise Lost("the answer has an encoding that is not understood")
        body = b"".join(self._body)
        self.close()
        if (status := self._parser.get_status_code()) != 200:
            shown = body[:200].decode("utf-8", "replace")
            raise Lost(f"HTTP status {status}: {shown}" if shown else f"HTTP status {status}")
        if not body:
            raise Lost("the answer is empty")
        return body

    def _parse(self, step: memoryview) -> None:
        try:
            self._parser.feed_data(step)
        except HttpParserUpgrade:
            raise Lost("the answer is not HTTP") from None
        except HttpParserError as error:
            if isinstance(error.__context__, NoRoom):
                raise Excessive("memory", "there is no room for so large an answer beside the others") from None
            if not self._complete:  # what follows a complete answer is nobody's
                raise Lost("the answer is not HTTP") from None

    def _check(self) -> None:
        if self._received > MAX_RESPONSE:
            raise Excessive("size", f"the answer is larger than {MAX_RESPONSE} bytes")
        if self._in_head and self._received > MAX_HEAD:
            raise Excessive("size", "the head of the answer is too long")
        if self._pieces > FREE_PIECES + self._received // PIECE:
            raise Excessive("pieces", f"the answer comes in {self._pieces} pieces of {self._received} bytes in all")

    def close(self) -> None:
        """Forget what came."""
        self._body.clear()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin anew after an interim response."""
        if not self._complete:
            self._length, self._encoding = None, ""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        match name.lower():
            case b"content-length":
                self._length = int(value) if value.isdigit() and len(value) < 12 else None
            case b"transfer-encoding":
                self._encoding = value.decode("latin-1").strip().lower()

    def on_headers_complete(self) -> None:
        """Take note that the body begins, unless the response is an interim one."""
        self._in_head = self._parser.get_status_code() < 200

    def on_body(self, piece: bytes) -> None:
        """Take a part of the body."""
        if not self._complete:
            self._pieces += 1
            self._size += len(piece)
            self._share.need(self._size)
            self._body.append(piece)

    def on_message_complete(self) -> None:
        """Take note of the end."""
        self._complete = self._complete or not self._in_head
