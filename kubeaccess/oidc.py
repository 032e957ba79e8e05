"""The auth-provider ``oidc`` of a kubeconfig: an ID token, renewed with a refresh token.

A refresh token that the provider replaced is kept in memory only: no file of somebody else's is written. The official
client's way of renewing checks no certificate unless one of its private methods is replaced.

Source: client-go, plugin/pkg/client/auth/oidc.
"""

import ssl
from typing import Any

import aiohttp

from kubeaccess import tls
from kubeaccess.authorization import CannotConnect, basic, token_ends_at
from kubeaccess.kubeconfig import Oidc
from kubeaccess.tls import READ_WITHIN
from service.secrets import register
from service.worker import Worker

LEEWAY = 10.0
"""Seconds before its end at which a token is not used any more."""
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError)


class OidcProvider:
    """Gives ID tokens; renews says whether it may use the refresh token, which may serve only once."""

    def __init__(self, config: Oidc, worker: Worker, *, renews: bool = True) -> None:
        self._config = config
        self._renews = renews
        self._worker = worker
        self._id_token = config.id_token
        self._refresh_token = config.refresh_token
        register("auth-provider oidc: refresh-token", self._refresh_token)

    async def token(self, now: float, *, renew: bool) -> str:
        """Return a token that is valid now (seconds since the epoch), a new one if renew; raises CannotConnect."""
        ends_at = token_ends_at(self._id_token)
        if self._id_token and not renew and (ends_at is None or now < ends_at - LEEWAY):
            return self._id_token
        if not self._renews:
            raise CannotConnect(
                "auth-provider oidc: the id-token has ended or is not accepted; kubectl renews it in the kubeconfig: "
                "run it once with this context, such as kubectl get namespaces"
            )
        if not self._refresh_token:
            raise CannotConnect(
                "auth-provider oidc: the id-token has ended, and there is no refresh-token: log in again"
            )
        answer = await self._renewed(await self._worker.call(self._context, within=READ_WITHIN))
        id_token = answer.get("id_token")
        if not isinstance(id_token, str) or not id_token:
            raise CannotConnect("auth-provider oidc: the provider gave no id_token; was the scope openid asked for?")
        self._id_token = id_token
        replaced = answer.get("refresh_token")
        if isinstance(replaced, str) and replaced:
            self._refresh_token = replaced
            register("auth-provider oidc: refresh-token", replaced)
        return id_token

    async def _renewed(self, context: ssl.SSLContext) -> dict[str, Any]:
        config = self._config
        login = {"Authorization": basic(config.client_id, config.client_secret)}
        form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        where = f"{config.idp_issuer_url.rstrip('/')}/.well-known/openid-configuration"
        asking = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), headers=login, raise_for_status=True, trust_env=True
        )
        try:
            async with asking as session:
                async with session.get(where) as found:
                    endpoint = (await found.json())["token_endpoint"]
                async with session.post(endpoint, data=form) as reply:
                    answer: Any = await reply.json()
        except _FAILURES as error:
            cause = str(error) or type(error).__name__
            raise CannotConnect(f"auth-provider oidc: {config.idp_issuer_url}: {cause}") from error
        return answer if isinstance(answer, dict) else {}

    def _context(self) -> ssl.SSLContext:
        return tls.context(tls.Material(ca=self._config.pem("idp_certificate_authority")))
