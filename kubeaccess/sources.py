"""Where access comes from: kubeconfig files, or the service account of the Pod that we run in.

Where requests go is decided at the start and stays for the life of the process: somebody who edits a kubeconfig, or
chooses another context in it, moves no running control plane to another cluster. Credentials are read again and again.
"""

import os
from dataclasses import replace
from typing import Protocol

from kubeaccess import tls
from kubeaccess.access import Access, choose_proxy
from kubeaccess.authorization import CannotConnect, bearer, token_ends_at
from kubeaccess.tls import READ_WITHIN, Material, read
from kubeaccess.users import Clock, KubeconfigUser
from service.worker import Worker


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
        self._user = KubeconfigUser(paths, clock)
        self._worker = Worker("tls")

    async def fetch(self, *, renew: bool) -> Access:
        """Return access as files, plugin and provider give it now."""
        identity = await self._user.identity(renew=renew)
        cluster, user = identity.context.cluster, identity.context.user
        access = Access(
            host=cluster.server,
            impersonation=user.impersonation,
            proxy=choose_proxy(cluster.server, cluster.proxy_url, os.environ),
            compressed=not cluster.disable_compression,
        )
        if not cluster.uses_tls:
            return access
        return replace(
            access,
            authorization=identity.authorization,
            tls=await self._worker.call(lambda: tls.context(identity.tls), within=READ_WITHIN),
            server_name=cluster.tls_server_name or None,
            ends_at=identity.ends_at,
        )
