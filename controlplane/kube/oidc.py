"""The auth-provider ``oidc`` of a kubeconfig: an ID token, renewed with a refresh token.

Discovery and the renewal itself are done by ``kubernetes.aio.config.openid``, which is
imported when a token has to be renewed. A refresh token that the provider replaced is
kept in memory only: no file of somebody else's is written.

Source: client-go, plugin/pkg/client/auth/oidc.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp

from controlplane.kube import tls
from controlplane.kube.access import CannotConnect, basic, token_ends_at
from controlplane.kube.blocking import Blocking

LEEWAY = 10.0
"""Seconds before its end at which a token is not used any more."""
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError)


class OidcProvider:
    """Gives ID tokens."""

    def __init__(self, config: Mapping[str, str], blocking: Blocking) -> None:
        self._config = config
        self._blocking = blocking
        self._id_token = config.get("id-token", "")
        self._refresh_token = config.get("refresh-token", "")

    async def token(self, now: float, *, anew: bool) -> str:
        """Return a token that is valid now (seconds since the epoch), a new one if anew; raises CannotConnect."""
        ends_at = token_ends_at(self._id_token)
        if self._id_token and not anew and (ends_at is None or now < ends_at - LEEWAY):
            return self._id_token
        if not self._refresh_token:
            raise CannotConnect(
                "auth-provider oidc: the id-token has ended, and there is no refresh-token: log in again"
            )
        answer = await self._renewed()
        id_token = answer.get("id_token")
        if not isinstance(id_token, str) or not id_token:
            raise CannotConnect("auth-provider oidc: the provider gave no id_token; was the scope openid asked for?")
        self._id_token = id_token
        if isinstance(refresh_token := answer.get("refresh_token"), str) and refresh_token:
            self._refresh_token = refresh_token
        return id_token

    async def _renewed(self) -> Mapping[str, Any]:
        from kubernetes.aio.config import ConfigException
        from kubernetes.aio.config.openid import OpenIDRequestor

        issuer = self._config["idp-issuer-url"]
        context = await self._blocking.do(self._context)

        class Requestor(OpenIDRequestor):  # type: ignore[misc]
            """Checks the provider's certificate, which the original does not."""

            def _client_session(self) -> aiohttp.ClientSession:
                login = {"Authorization": basic(self._client_id, self._client_secret)}
                return aiohttp.ClientSession(
                    headers=self._default_headers | login,
                    connector=aiohttp.TCPConnector(ssl=context),
                    raise_for_status=True,
                    trust_env=True,
                )

        requestor = Requestor(self._config["client-id"], self._config.get("client-secret", ""), issuer)
        try:
            answer: Any = await requestor.refresh_token(self._refresh_token)
        except ConfigException as error:
            raise CannotConnect(f"auth-provider {error}") from error
        except _FAILURES as error:
            raise CannotConnect(f"auth-provider oidc: {issuer}: {str(error) or type(error).__name__}") from error
        return answer if isinstance(answer, dict) else {}

    def _context(self) -> ssl.SSLContext:
        path = self._config.get("idp-certificate-authority", "")
        data = self._config.get("idp-certificate-authority-data", "")
        try:
            ca = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise CannotConnect("auth-provider oidc: idp-certificate-authority-data is no Base64") from None
        if path and not ca:
            ca = tls.read(path, "idp-certificate-authority")
        return tls.Contexts().context(tls.Material(ca=ca))
