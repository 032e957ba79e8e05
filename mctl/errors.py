"""What ends a command early, and the exit codes that scripts may rely on."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of mctl."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMED_OUT = 4
    UNREACHABLE = 5
    PARTIAL = 6
    UNAUTHENTICATED = 7
    FORBIDDEN = 8
    INTERRUPTED = 130


class CommandError(Exception):
    """The server refused, or a command cannot be carried out; each line says cause and, if there is one, remedy."""

    exit_code = ExitCode.REFUSED

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class UsageError(CommandError):
    """The command line or a manifest is wrong."""

    exit_code = ExitCode.USAGE


class InvalidFields(UsageError):
    """The server refused fields of a request; violations are pairs of field and message."""

    def __init__(self, message: str, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__(*(f"{field}: {text}" for field, text in violations) if violations else (message,))
        self.violations = violations


class ItemNotFound(CommandError):
    """There is no such item."""

    exit_code = ExitCode.NOT_FOUND


class TimedOut(CommandError):
    """What was waited for did not happen in time."""

    exit_code = ExitCode.TIMED_OUT


class CannotAsk(CommandError):
    """The server cannot be asked at all, so that nothing else is asked of it."""


class ServerUnreachable(CannotAsk):
    """The control plane could not be asked, did not answer in time, or cannot do it now.

    retry_after is the seconds that it asks to be left alone.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, *lines: str, retry_after: float = 0.0) -> None:
        super().__init__(*lines)
        self.retry_after = retry_after


class TlsFailed(CannotAsk):
    """The server is there, and is not the one that was meant, or is asked without the TLS that it wants."""

    exit_code = ExitCode.UNREACHABLE


class Unauthenticated(CannotAsk):
    """The server does not know who we are."""

    exit_code = ExitCode.UNAUTHENTICATED


class Forbidden(CommandError):
    """The server knows who we are, and we may not do this."""

    exit_code = ExitCode.FORBIDDEN


class SomeFailed(CommandError):
    """Of several things some failed: the code is PARTIAL where others were done, else that of the first failure."""

    def __init__(self, lines: Sequence[str], *, done: int, first: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(*lines)
        self.exit_code = ExitCode.PARTIAL if done else first
