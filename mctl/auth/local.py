"""The token of the control plane on this machine, from the file that it wrote for its user.

Whoever may open a port of this machine could wait there for the token. It goes only to a port on which the file's own
user listens, or root: nobody else could have read the file.
"""

import csv
import os
import stat
from pathlib import Path

from mctl.errors import Unauthenticated
from service import listeners

ADMIN = "admin"
_LARGEST = 1024 * 1024


def admin_token(path: Path, port: int) -> str:
    """Return the token of the first admin in the file, for the server on a port; raises Unauthenticated."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            rows = list(csv.reader(file.read(_LARGEST).splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unusable(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise _unusable(path, "others may read or write it: chmod 600, and have the control plane make new tokens")
    strangers = {each.uid for each in listeners.on_port(port)} - {status.st_uid, 0}
    if strangers:
        users = ", ".join(map(str, sorted(strangers)))
        raise _unusable(path, f"its tokens are not sent to port {port}, on which another user listens (uid {users})")
    for row in rows:
        if len(row) >= 3 and row[2].strip() == ADMIN:
            return row[0].strip()
    raise _unusable(path, "there is no line TOKEN,USER,admin in it")


def _unusable(path: Path, problem: str) -> Unauthenticated:
    return Unauthenticated(f"{path}: {problem}", "say who you are with --token-file or --token")
