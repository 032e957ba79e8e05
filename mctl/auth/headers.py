"""The Authorization header of each call: fixed, read again, or that of the user of a kubeconfig."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kubeaccess.authorization import CannotConnect, bearer
from mctl.auth.choice import ContextUser
from mctl.errors import Unauthenticated

if TYPE_CHECKING:
    from kubeaccess.users import Identity

FETCH_WITHIN = 60.0
"""Seconds that the user of a kubeconfig may take: a plugin may ask the person, or a provider."""
_KEPT = 30.0
"""Seconds for which an answer of the kubeconfig serves without a look at the files."""
_LEEWAY = 10.0
"""Seconds before its end at which a credential is not used any more."""


class Header(Protocol):
    """Gives the value of the Authorization header; raises Unauthenticated."""

    hint: str
    """What to do when the server does not accept it, for people."""

    def value(self) -> str:
        """Return the value for a call that is made now, empty for none."""

    def renew(self) -> bool:
        """Get another one, since the server does not accept the last; return whether it is another."""


class Fixed:
    """A value that stays."""

    def __init__(self, value: str, hint: str) -> None:
        self._value = value
        self.hint = hint

    def value(self) -> str:
        """Return it."""
        return self._value

    def renew(self) -> bool:
        """Return that there is no other."""
        return False


class Reread:
    """A token that is read for each call, so that a file that was replaced counts at once."""

    def __init__(self, token: Callable[[], str], hint: str) -> None:
        self._token = token
        self._last = ""
        self.hint = hint

    def value(self) -> str:
        """Return the header of the token that is there now."""
        try:
            self._last = bearer(self._token())
        except CannotConnect as error:
            raise Unauthenticated(str(error)) from None
        return self._last

    def renew(self) -> bool:
        """Return whether there is another one by now."""
        return self._last != self.value()


class KubeconfigHeader:
    """The user of a kubeconfig. A client certificate that it has is that of the first look."""

    def __init__(self, user: ContextUser, *, attended: bool, within: float = FETCH_WITHIN) -> None:
        from kubeaccess.users import KubeconfigUser

        self._given = user
        self._within = within
        self._user = KubeconfigUser(user.paths, _Clock(), user.context, attended=attended)
        self._value = ""
        self._again_at: float | None = None
        self.certificate = self.key = b""
        self.hint = (
            f"the user of the kubeconfig {user.paths} is not accepted: choose another with --context, or log in again"
        )

    def value(self) -> str:
        """Return the header, after another look at files and plugin when it is time."""
        if self._again_at is None or time.time() >= self._again_at:
            self._look(renew=False)
        return self._value

    def renew(self) -> bool:
        """Have files read and the plugin run again."""
        before = self._value
        self._look(renew=True)
        return self._value != before

    def _look(self, *, renew: bool) -> None:
        try:
            self._take(renew=renew)
        except (CannotConnect, TimeoutError) as error:
            problem = str(error) or f"no credential within {self._within:g}s"
            message = f"kubeconfig {self._given.paths}: {problem}"
            if not self._given.optional or self._value:
                raise Unauthenticated(message, "or say who you are with --token-file or --token") from None
            self._again_at = time.time() + _KEPT
            self.hint = f"{message}; choose another user with --context, or use --token-file or --token"

    def _take(self, *, renew: bool) -> None:
        identity = asyncio.run(self._identity(renew=renew))
        _check(identity)
        self._value = identity.authorization
        self.certificate, self.key = identity.tls.certificate, identity.tls.key
        ends_at = float("inf") if identity.ends_at is None else identity.ends_at - _LEEWAY
        self._again_at = min(time.time() + _KEPT, ends_at)

    async def _identity(self, *, renew: bool) -> "Identity":
        async with asyncio.timeout(self._within):
            return await self._user.identity(renew=renew)


def _check(identity: "Identity") -> None:
    """Raise CannotConnect unless the control plane can know by it who we are."""
    named = f'context "{identity.context.name}"'
    if identity.context.user.impersonation:
        raise CannotConnect(f"{named}: the control plane does not know as, and you would act as yourself")
    if identity.authorization.startswith("Basic "):
        raise CannotConnect(f"{named}: the control plane knows no user names with passwords")
    if not (identity.authorization or identity.tls.certificate):
        raise CannotConnect(f"{named}: its user has no credential for a server with TLS")


class _Clock:
    def wall(self) -> float:
        return time.time()
