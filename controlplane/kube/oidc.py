"""The auth-provider ``oidc`` of a kubeconfig: an ID token, renewed with a refresh token.

A refresh token that the provider replaced is kept in memory only: no file of somebody else's is written. The official
client's way of renewing checks no certificate unless one of its private methods is replaced.

Source: client-go, plugin/pkg/client/auth/oidc.
"""

import ssl
from typing import Any

import aiohttp

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.kube import tls
from controlplane.kube.access import CannotConnect, basic, token_ends_at
from controlplane.kube.kubeconfig import Oidc
from controlplane.kube.tls import READ_WITHIN
from service.secrets import register
from service.worker import Worker

LEEWAY = 10.0
"""Seconds before its end at which a token is not used any more."""
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError)


class OidcProvider:
    """Gives ID tokens."""

    def __init__(self, config: Oidc, worker: Worker) -> None:
        self._config = config
        self._worker = worker
        self._id_token = config.id_token
        self._refresh_token = config.refresh_token
        register("auth-provider oidc: refresh-token", self._refresh_token)

    async def token(self, now: float, *, renew: bool) -> str:
        """Return a token that is valid now (seconds since the epoch), a new one if renew; raises CannotConnect."""
        ends_at = token_ends_at(self._id_token)
        if self._id_token and not renew and (ends_at is None or now < ends_at - LEEWAY):
            return self._id_token
        if not self._refresh_token:
            raise CannotConnect(
                "auth-provider oidc: the id-token has ended, and there is no refresh-token: log in again"
            )
        answer = await self._renewed(await self._worker.call(self._context, within=READ_WITHIN))
        id_token = fields.text(answer, "id_token")
        if not id_token:
            raise CannotConnect("auth-provider oidc: the provider gave no id_token; was the scope openid asked for?")
        self._id_token = id_token
        self._refresh_token = fields.text(answer, "refresh_token") or self._refresh_token
        register("auth-provider oidc: refresh-token", self._refresh_token)
        return id_token

    async def _renewed(self, context: ssl.SSLContext) -> Json:
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
