"""Lines out of a stream of bytes, as a watch sends them."""

from __future__ import annotations


class LineTooLong(Exception):
    """A line exceeds the limit."""


class Lines:
    """Collects bytes and gives whole lines; keeps at most limit bytes of an unfinished one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that data completes, without line ends and empty ones; raises LineTooLong."""
        head, newline, tail = data.rpartition(b"\n")
        lines: list[bytes] = []
        if newline:
            self._rest += head
            lines = [line for line in bytes(self._rest).split(b"\n") if line.strip()]
            self._rest = bytearray(tail)
        else:
            self._rest += tail
        if len(self._rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise LineTooLong(f"a line is longer than {self._limit} bytes")
        return lines
