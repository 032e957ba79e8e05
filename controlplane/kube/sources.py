"""Where access comes from: kubeconfig files, or the service account of the Pod that we run in.

What was said at the start about where requests go stays for the life of the process:
somebody who edits a kubeconfig, or chooses another context in it, moves no running
control plane to another cluster. Credentials are read again and again.
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import SystemRandom
from typing import Protocol

import structlog

from controlplane.app.ports import Clock
from controlplane.kube import execplugin, kubeconfig, proxies, serviceaccount
from controlplane.kube.access import Access, CannotConnect, basic, bearer, token_ends_at
from controlplane.kube.blocking import Blocking
from controlplane.kube.execplugin import Credential
from controlplane.kube.kubeconfig import Context, User
from controlplane.kube.kubeconfigfields import Unusable
from controlplane.kube.oidc import OidcProvider
from controlplane.kube.tls import Contexts, Material, read

log = structlog.get_logger(__name__)

RENEWED_AFTER = (0.45, 0.55)
"""Shares of the time of a plugin's credential between which the next one is due, drawn at random."""


class Source(Protocol):
    """Gives access to the API server."""

    name: str

    async def fetch(self, *, anew: bool) -> Access:
        """Return access with the credentials as they are now; raises CannotConnect.

        anew: those of the last time are not accepted any more.
        """

    def close(self) -> None:
        """End what runs for it."""


class PodSource:
    """The service account of this Pod."""

    name = "service account of this Pod"

    def __init__(self) -> None:
        self._blocking = Blocking()
        self._contexts = Contexts()

    async def fetch(self, *, anew: bool) -> Access:
        """Return access with the token as it is in its file now; raises CannotConnect."""
        return await self._blocking.do(self._read)

    def close(self) -> None:
        """End the thread."""
        self._blocking.close()

    def _read(self) -> Access:
        account = serviceaccount.load()
        return Access(
            host=account.host,
            authorization=bearer(account.token),
            tls=self._contexts.context(Material(ca=account.ca)),
            proxy=proxies.choose(account.host, "", os.environ),
            ends_at=token_ends_at(account.token),
        )


class KubeconfigSource:
    """kubeconfig files, a list as KUBECONFIG has it."""

    def __init__(self, paths: str, clock: Clock) -> None:
        self.name = f"KUBECONFIG={paths}"
        self._paths = paths
        self._clock = clock
        self._blocking = Blocking()
        self._contexts = Contexts()
        self._random = SystemRandom()
        self._context: Context | None = None
        self._token = ""
        self._oidc: OidcProvider | None = None
        self._credential: Credential | None = None
        self._next_credential_at = 0.0

    async def fetch(self, *, anew: bool) -> Access:
        """Return access; raises CannotConnect."""
        if self._context is None or anew:
            self._take(await self._blocking.do(self._load))
        context = self._context
        if context is None:
            raise CannotConnect("no context")
        if not context.cluster.server.startswith("https://"):
            return await self._blocking.do(lambda: self._plain(context))
        material = await self._blocking.do(lambda: self._material(context))
        authorization, material, ends_at = await self._identity(context, material, anew=anew)
        tls = await self._blocking.do(lambda: self._contexts.context(material))
        return replace(
            self._plain(context),
            authorization=authorization,
            tls=tls,
            server_name=context.cluster.tls_server_name or None,
            ends_at=ends_at,
        )

    def close(self) -> None:
        """End the thread."""
        self._blocking.close()

    def _load(self) -> Context:
        try:
            return kubeconfig.load(self._paths, self._context.name if self._context is not None else "")
        except Unusable as error:
            raise CannotConnect(str(error)) from error

    def _take(self, context: Context) -> None:
        before = self._context
        if before is not None and before.cluster != context.cluster:
            raise CannotConnect(f'context "{context.name}" is about another cluster now: start anew to go there')
        if before is None or before.user != context.user:
            self._oidc = OidcProvider(context.user.oidc, self._blocking) if context.user.oidc is not None else None
            self._credential, self._token = None, ""
            if context.user != User() and not context.cluster.server.startswith("https://"):
                log.warning("credentials are not sent without TLS, as with kubectl", server=context.cluster.server)
        self._context = context

    def _plain(self, context: Context) -> Access:
        cluster = context.cluster
        return Access(
            host=cluster.server,
            impersonation=context.user.impersonation,
            proxy=proxies.choose(cluster.server, cluster.proxy_url, os.environ),
            compressed=cluster.compressed,
        )

    def _material(self, context: Context) -> Material:
        cluster, user = context.cluster, context.user
        if user.token_file:
            self._read_token(user)
        certificate, key = user.certificate_data, user.key_data
        return Material(
            ca=read(cluster.ca_file, "certificate-authority") if cluster.ca_file else cluster.ca_data,
            certificate=read(user.certificate_file, "client-certificate") if user.certificate_file else certificate,
            key=read(user.key_file, "client-key") if user.key_file else key,
            insecure=cluster.insecure,
        )

    def _read_token(self, user: User) -> None:
        """Read the token file, which goes before a token; what was read last serves while it cannot be read."""
        try:
            token = read(user.token_file, "tokenFile").decode(errors="replace").strip()
            if not token:
                raise CannotConnect(f"tokenFile {user.token_file}: is empty")
        except CannotConnect as error:
            self._token = self._token or user.token
            if not self._token:
                raise
            log.warning("the token that was read last is used", error=str(error))
        else:
            self._token = token

    async def _identity(
        self, context: Context, material: Material, *, anew: bool
    ) -> tuple[str, Material, float | None]:
        """Return the Authorization header, the TLS material and the end of what the user of a context has.

        A token, a user name or a certificate goes before a plugin, as with kubectl.
        """
        user = context.user
        if token := self._token or user.token:
            return bearer(token), material, token_ends_at(token)
        if user.username or user.password:
            return basic(user.username, user.password), material, None
        if self._oidc is not None:
            token = await self._oidc.token(self._clock.wall(), anew=anew)
            return bearer(token), material, token_ends_at(token)
        if user.plugin is None or material.certificate:
            return "", material, None
        credential = await self._from_plugin(context, material, anew=anew)
        if credential.certificate:
            material = replace(material, certificate=credential.certificate, key=credential.key)
        authorization = bearer(credential.token) if credential.token else ""
        return authorization, material, credential.ends_at

    async def _from_plugin(self, context: Context, material: Material, *, anew: bool) -> Credential:
        plugin, now = context.user.plugin, self._clock.wall()
        if plugin is None:
            raise CannotConnect("no exec plugin")
        if self._credential is None or anew or now >= self._next_credential_at:
            self._credential = await execplugin.run(plugin, context.cluster, material.ca)
            self._next_credential_at = float("inf")
            if self._credential.ends_at is not None:
                now = self._clock.wall()
                share = self._random.uniform(*RENEWED_AFTER)
                self._next_credential_at = now + share * max(self._credential.ends_at - now, 0.0)
        return self._credential
