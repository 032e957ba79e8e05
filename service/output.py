"""Standard output that cannot be written: a reader that went away is no error, a full disk is one with a message.

Whoever writes (argparse, typer, rich, print), the failure arrives as CannotWrite, which none of them takes for one of
its own and swallows.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

EXIT_READER_GONE = 141
"""What a shell calls the end of a program by SIGPIPE, as in: yes | head -1."""
EXIT_CANNOT_WRITE = 1


class CannotWrite(Exception):
    """Standard output cannot be written; exit_code is what the program ends with."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror or error}")
        self.quiet = error.errno == errno.EPIPE
        self.exit_code = EXIT_READER_GONE if self.quiet else EXIT_CANNOT_WRITE


class _File(io.FileIO):
    """A file whose failures to write are CannotWrite, through whatever buffers."""

    def write(self, data: Any) -> int:
        try:
            return os.write(self.fileno(), data)
        except OSError as error:
            raise CannotWrite(error) from None


def run(program: str, main: Callable[[], int]) -> int:
    """Run what writes to standard output; return its exit code, or what a failure to write means."""
    stream = sys.stdout
    try:
        sys.stdout = _guarded(stream)
        try:
            return main()
        finally:
            sys.stdout.flush()
    except CannotWrite as failure:
        _abandon(stream)
        if not failure.quiet:
            complain(f"{program}: {failure}")
        return failure.exit_code
    finally:
        sys.stdout = stream


def complain(line: str) -> None:
    """Write a line to standard error; where that cannot be written nothing else can be said."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        _abandon(sys.stderr)


def _guarded(stream: TextIO | None) -> TextIO:
    """Return a buffered stream to the same file; without a buffer a part that was not written is not noticed."""
    if stream is None:
        raise CannotWrite(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        # Not closed with the wrapper: it is the interpreter's.
        file = _File(stream.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:  # not a file, in tests
        return stream
    return io.TextIOWrapper(io.BufferedWriter(file), stream.encoding, stream.errors, line_buffering=stream.isatty())


def _abandon(stream: TextIO | None) -> None:
    """Let what is still buffered go nowhere, so that it does not fail again when the process ends."""
    if stream is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
