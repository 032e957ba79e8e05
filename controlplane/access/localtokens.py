"""The tokens of this machine, as a file has them; what an operator changes in it counts within seconds."""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import structlog

from controlplane.domain.access import Caller, Role
from service import localtokens
from service.localtokens import WrongTokenFile
from service.process import StartError

log = structlog.get_logger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks at the file."""


class LocalTokens:
    """Who holds which token of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holders: Mapping[bytes, Caller] = {}

    async def start(self) -> None:
        """Read the file, which is made if it is not there; raises StartError."""
        try:
            await asyncio.to_thread(localtokens.make, self._path, [role.value for role in Role])
            self._holders = await asyncio.to_thread(self._read)
        except (WrongTokenFile, FileNotFoundError) as error:
            raise StartError(f"LOCAL_TOKENS_PATH={self._path}: {error}") from error

    def holder(self, token: str) -> Caller | None:
        """Return who holds a token, if anybody does."""
        return self._holders.get(_digest(token))

    async def run(self) -> NoReturn:
        """Follow the file; one that cannot be used leaves what was read before in place."""
        problem = ""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                self._holders = await asyncio.to_thread(self._read)
                problem = ""
            except (WrongTokenFile, FileNotFoundError) as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning(
                        "the token file cannot be used; the old tokens count", file=str(self._path), cause=problem
                    )

    def _read(self) -> dict[bytes, Caller]:
        found: dict[bytes, Caller] = {}
        for each in localtokens.read(self._path):
            if each.role not in {role.value for role in Role}:
                known = ", ".join(role.value for role in Role)
                raise WrongTokenFile(f"{each.role[:50]!r} is no role; there are {known}")
            found[_digest(each.token)] = Caller(each.user, role=Role(each.role))
        return found


def _digest(token: str) -> bytes:
    """Return what is looked up: how long that takes says nothing of the tokens."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
