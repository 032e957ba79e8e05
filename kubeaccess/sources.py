"""Where access comes from: kubeconfig files, or the service account of the Pod that we run in.

Where requests go is decided at the start and stays for the life of the process: somebody who edits a kubeconfig, or
chooses another context in it, moves no running control plane to another cluster. Credentials are read again and again.
"""

import os
from dataclasses import replace
from random import SystemRandom
from typing import Protocol

import structlog

from kubeaccess import execplugin, kubeconfig, tls
from kubeaccess.access import Access, CannotConnect, basic, bearer, choose_proxy, token_ends_at
from kubeaccess.execplugin import Credential
from kubeaccess.kubeconfig import Context, User
from kubeaccess.oidc import OidcProvider
from kubeaccess.tls import READ_WITHIN, Material, read
from service.worker import Worker

log = structlog.get_logger(__name__)

RENEWED_AFTER = (0.45, 0.55)
"""Shares of the time of a plugin's credential between which the next one is due, drawn at random."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def wall(self) -> float:
        """Seconds since the epoch."""


class CredentialSource(Protocol):
    """Gives access to the API server."""

    name: str

    async def fetch(self, *, renew: bool) -> Access:
        """Return access with the credentials as they are now; raises CannotConnect, TimeoutError.

        renew: those of the last time are not accepted any more.
        """


class PodSource:
    """The service account of this Pod, as the official client reads it: imported when it is needed, for it is large."""

    name = "service account of this Pod"

    def __init__(self) -> None:
        self._worker = Worker("credentials")

    async def fetch(self, *, renew: bool) -> Access:
        """Return access with the token as it is in its file now."""
        return await self._worker.call(self._read, within=READ_WITHIN)

    def _read(self) -> Access:
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import ConfigException, load_incluster_config

        account = Configuration()
        try:
            load_incluster_config(client_configuration=account, try_refresh_token=False)
        except (ConfigException, OSError, ValueError) as error:
            raise CannotConnect(str(error)) from error
        token: str = account.api_key["BearerToken"].partition(" ")[2]
        return Access(
            host=account.host,
            authorization=bearer(token),
            tls=tls.context(Material(ca=read(account.ssl_ca_cert, "certificate-authority"))),
            proxy=choose_proxy(account.host, "", os.environ),
            ends_at=token_ends_at(token),
        )


class KubeconfigSource:
    """kubeconfig files, a list as KUBECONFIG has it."""

    def __init__(self, paths: str, clock: Clock) -> None:
        self.name = f"KUBECONFIG={paths}"
        self._paths = paths
        self._clock = clock
        self._worker = Worker("credentials")
        self._random = SystemRandom()
        self._context: Context | None = None
        self._file_token = ""
        self._oidc: OidcProvider | None = None
        self._credential: Credential | None = None
        self._next_credential_at = 0.0

    async def fetch(self, *, renew: bool) -> Access:
        """Return access as files, plugin and provider give it now."""
        context, material = await self._worker.call(lambda: self._read(renew=renew), within=READ_WITHIN)
        cluster = context.cluster
        access = Access(
            host=cluster.server,
            impersonation=context.user.impersonation,
            proxy=choose_proxy(cluster.server, cluster.proxy_url, os.environ),
            compressed=not cluster.disable_compression,
        )
        if not cluster.uses_tls:
            return access
        authorization, material, ends_at = await self._identity(context, material, renew=renew)
        return replace(
            access,
            authorization=authorization,
            tls=await self._worker.call(lambda: tls.context(material), within=READ_WITHIN),
            server_name=cluster.tls_server_name or None,
            ends_at=ends_at,
        )

    def _read(self, *, renew: bool) -> tuple[Context, Material]:
        context = self._context
        if context is None or renew:
            context = kubeconfig.load(self._paths, context.name if context is not None else "")
            self._take(context)
        cluster, user = context.cluster, context.user
        if not cluster.uses_tls:
            return context, Material()
        if user.token_file:
            self._read_token(user)
        return context, Material(
            ca=cluster.pem("certificate_authority"),
            certificate=user.pem("client_certificate"),
            key=user.pem("client_key"),
            insecure=cluster.insecure_skip_tls_verify,
        )

    def _take(self, context: Context) -> None:
        before, user = self._context, context.user
        if before is not None and before.cluster != context.cluster:
            raise CannotConnect(f'context "{context.name}" is about another cluster now: start again to go there')
        if before is None or before.user != user:
            self._oidc = (
                OidcProvider(user.auth_provider.config, self._worker) if user.auth_provider is not None else None
            )
            self._credential, self._file_token = None, ""
            if user != User() and not context.cluster.uses_tls:
                log.warning("credentials are not sent without TLS, as with kubectl", server=context.cluster.server)
        self._context = context

    def _read_token(self, user: User) -> None:
        """Read the token file, which goes before a token; what was read last serves while it cannot be read."""
        try:
            token = read(user.token_file, "tokenFile").decode(errors="replace").strip()
            if not token:
                raise CannotConnect(f"tokenFile {user.token_file}: is empty")
        except CannotConnect as error:
            if not (self._file_token or user.token):
                raise
            log.warning("the token that was read last is used", error=str(error))
        else:
            self._file_token = token

    async def _identity(
        self, context: Context, material: Material, *, renew: bool
    ) -> tuple[str, Material, float | None]:
        """Return the Authorization header, the TLS material and the end of what the user of a context has.

        A token, a user name or a certificate goes before a plugin, as with kubectl.
        """
        user = context.user
        token = self._file_token or user.token
        if not token and (user.username or user.password):
            return basic(user.username, user.password), material, None
        if not token and self._oidc is not None:
            token = await self._oidc.token(self._clock.wall(), renew=renew)
        if token:
            return bearer(token), material, token_ends_at(token)
        if user.exec is None or material.certificate:
            return "", material, None
        given = self._credential
        if given is None or renew or self._clock.wall() >= self._next_credential_at:
            given = self._credential = await execplugin.run(user.exec, context.cluster, material.ca)
            now, share = self._clock.wall(), self._random.uniform(*RENEWED_AFTER)
            left = given.ends_at - now if given.ends_at is not None else float("inf")
            self._next_credential_at = now + share * max(left, 0.0)
        if given.certificate:
            material = replace(material, certificate=given.certificate, key=given.key or b"")
        return bearer(given.token) if given.token else "", material, given.ends_at
