"""The places that say which server and which user: environment, saved logins, this machine."""

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mctl.auth.choice import NAMES, Found, Given, Logins
from mctl.errors import CommandError, UsageError
from service.settings import state_folder
from service.wording import problem

_LOGINS = TypeAdapter(Logins)


def variable(name: str) -> str:
    """Return the variable of the environment that says the same as an option."""
    return f"MCTL_{name.upper()}"


def from_environment(environ: Mapping[str, str]) -> Given:
    """Return what the variables MCTL_* say."""
    return Given(**{name: environ.get(variable(name), "").strip() for name in NAMES})


def on_this_machine(environ: Mapping[str, str]) -> Found:
    """Return which token file and kubeconfig files there are."""
    tokens = state_folder() / "tokens.csv"
    kubeconfig = environ.get("KUBECONFIG") or os.fspath(_home() / ".kube" / "config")
    there = any(path and Path(path).expanduser().exists() for path in kubeconfig.split(os.pathsep))
    return Found(os.fspath(tokens) if tokens.exists() else "", kubeconfig if there else "")


def logins_file(environ: Mapping[str, str]) -> Path:
    """Return the file that mctl login writes."""
    folder = Path(environ.get("XDG_CONFIG_HOME") or _home() / ".config")
    return folder / "koupleless-module-controller" / "mctl.json"


def read_logins(path: Path) -> Logins:
    """Return what was saved, nothing where there is no file; raises UsageError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise UsageError(f"{path}: others may read or write it, and it may have a token: chmod 600 {path}")
            text = file.read()
    except FileNotFoundError:
        return Logins()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): mctl login writes it again") from None
    try:
        return _LOGINS.validate_json(text)
    except ValidationError as error:
        raise UsageError(f"{path}: {problem(error)}: remove it, and mctl login writes it again") from None


def write_logins(path: Path, logins: Logins) -> None:
    """Put logins into the file, which only its user may read; raises CommandError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A new file has the mode 0600 from its beginning, and takes the old one's place at once.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".mctl-", delete=False) as file:
            json.dump(asdict(logins), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise CommandError(f"{path}: cannot be written ({error.strerror})") from None


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry in /etc/passwd
        return Path("/nonexistent")
