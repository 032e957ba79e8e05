"""The token of the control plane on this machine, from the file that it wrote for its user."""

from pathlib import Path

from mctl.errors import Unauthenticated
from service import localtokens

ADMIN = "admin"


def admin_token(path: Path, port: int) -> str:
    """Return the token of the first admin in the file, for the server on a port; raises Unauthenticated."""
    try:
        token = localtokens.for_server(path, ADMIN, port)
    except FileNotFoundError:
        raise _unusable(path, "cannot be read (it is gone)") from None
    except localtokens.WrongTokenFile as error:
        raise _unusable(path, str(error)) from None
    if not token:
        raise _unusable(path, "there is no line TOKEN,USER,admin in it")
    return token


def _unusable(path: Path, problem: str) -> Unauthenticated:
    return Unauthenticated(f"{path}: {problem}", "say who you are with --token-file or --token")
