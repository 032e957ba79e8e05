"""Tokens for programs of one machine: a file with a line ``token,user,role`` for each, as Kubernetes' static tokens.

The control plane makes it at its first start, with a token for each role. Only its owner can read it.
"""

import contextlib
import csv
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service import listeners
from service.secrets import register
from service.settings import state_folder

SHORTEST = 16
"""Characters of a token: a shorter one can be guessed."""
MOST = 100
"""Tokens of a file; each is a source of service.secrets, which keeps a bounded number."""
LARGEST = 1024 * 1024
"""Bytes of a file."""


class WrongTokenFile(Exception):
    """The file cannot be used; the message has cause and fix, and never a token."""


@dataclass(frozen=True, slots=True)
class LocalToken:
    """A token, who holds it, and the name of a role."""

    token: str
    user: str
    role: str


def default_path() -> Path:
    """Return where the file is unless a setting names another one."""
    return state_folder() / "tokens.csv"


def read(path: Path) -> tuple[LocalToken, ...]:
    """Return the tokens of a file; raises WrongTokenFile, and FileNotFoundError where there is none. Blocks."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise WrongTokenFile(f"others than its owner can use it (mode {mode & 0o777:03o}): chmod 600 {path}")
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise WrongTokenFile(f"cannot be read ({error.strerror})") from error
    if len(text) > LARGEST:
        raise WrongTokenFile(f"larger than {LARGEST} bytes")
    return parse(text.decode("ascii", errors="replace"))


def parse(text: str) -> tuple[LocalToken, ...]:
    """Return the tokens in a text; raises WrongTokenFile."""
    found: dict[str, LocalToken] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            (values,) = csv.reader([line], strict=True)
            token, user, role = (value.strip() for value in values)
        except (ValueError, csv.Error):
            raise WrongTokenFile(f"line {number} is not token,user,role") from None
        if len(token) < SHORTEST or not all("!" <= character <= "~" for character in token):
            raise WrongTokenFile(f"line {number}: a token has at least {SHORTEST} ASCII characters without spaces")
        if not user or not role:
            raise WrongTokenFile(f"line {number} names no user or no role")
        if token in found:
            raise WrongTokenFile(f"line {number} has the token of an earlier line")
        found[token] = LocalToken(token, user, role)
        register(f"token {len(found)} of this machine", token)
        if len(found) > MOST:
            raise WrongTokenFile(f"more than {MOST} tokens")
    return tuple(found.values())


def make(path: Path, roles: Sequence[str]) -> None:
    """Make the file, with a random token for each role, unless it is there; raises WrongTokenFile. Blocks."""
    if path.exists():
        return
    header = f"# token,user,role: the holder of a token may do what the role may ({', '.join(roles)})"
    lines = [header, *(f"{secrets.token_urlsafe(32)},local-{role},{role}" for role in roles), ""]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(number, "w") as file:
                file.write("\n".join(lines))
            # Several processes may start at once: all see the whole file of one of them.
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            os.unlink(name)
    except OSError as error:
        fix = "name a file in a folder that can be written"
        raise WrongTokenFile(f"cannot be made ({error.strerror}); {fix}") from error


def can_be(path: Path) -> bool:
    """Return whether the file is there, or could be made."""
    if path.exists():
        return True
    folder = next(parent for parent in path.parents if parent.exists())
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def for_server(path: Path, role: str, port: int) -> str:
    """Return the first token of a role, for the server on a port of this machine; empty when there is none.

    Anybody may wait on a port for tokens: they go only where the file's owner listens, or root. Raises WrongTokenFile,
    and FileNotFoundError where there is no file. Blocks.
    """
    found = of_role(read(path), role)
    strangers = {listener.uid for listener in listeners.on_port(port)} - {path.stat().st_uid, 0}
    if strangers:
        users = ", ".join(map(str, sorted(strangers)))
        raise WrongTokenFile(f"its tokens are not sent to port {port}, on which another user listens (uid {users})")
    return found


def of_role(tokens: Iterable[LocalToken], role: str) -> str:
    """Return the first token of a role; empty when there is none."""
    return next((each.token for each in tokens if each.role == role), "")
