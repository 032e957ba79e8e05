"""Who a caller is, and whether they may: all ways to find out, in one place."""

from controlplane.access.localtokens import LocalTokens
from controlplane.access.refusals import Forbidden, Unauthenticated
from controlplane.access.reviews import Reviewer
from controlplane.domain.access import Access, Caller, role_allows


class Authenticator:
    """Knows callers by tokens of this machine and by reviews of the API server, where there are these."""

    def __init__(self, local: LocalTokens | None, reviewer: Reviewer | None) -> None:
        self._local = local
        self._reviewer = reviewer

    async def whose(self, token: str, *, audience: str, peer: str) -> Caller:
        """Return whose token it is; the API server is asked whether it is for the audience. Raises AccessRefused."""
        if self._local is not None and (holder := self._local.holder(token)) is not None:
            return holder
        if self._reviewer is None:
            raise Unauthenticated("token", "nobody knows this bearer token")
        return await self._reviewer.whose(token, audience=audience, peer=peer)

    async def may(self, caller: Caller, access: Access) -> bool:
        """Return whether a caller may do something; raises AccessRefused where that cannot be found out."""
        if caller.role is not None:
            return role_allows(caller.role, access)
        return self._reviewer is not None and await self._reviewer.may(caller, access)

    async def must(self, caller: Caller, access: Access) -> None:
        """Raise Forbidden unless a caller may do something."""
        if not await self.may(caller, access):
            raise Forbidden("not_allowed", f"{caller.user} may not {access}")
