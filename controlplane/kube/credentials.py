"""Where the API server is and who we are to it: kubeconfig file, or the Pod's service account.

The work is done by ``kubernetes.aio.config``: exec plugins, OIDC, token files,
service account tokens. What expires or is rotated (tokens, client certificates,
the CA) is looked at again every minute, and at once after a 401.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import structlog
import yaml

log = structlog.get_logger(__name__)

REFRESH_AFTER = 60.0
"""Seconds after which files and plugins are asked again."""
RELOAD_AFTER = 10.0
"""Seconds that must lie between two complete loadings after a 401."""

# What kubernetes.aio.config lets through of a file that is not as it should be, OSError for its TLS parts included.
_MALFORMED = (OSError, ValueError, TypeError, KeyError, AttributeError)


class CannotConnect(Exception):
    """The configuration of the connection cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to talk to the API server now. tls is None for plain http; authorization is a header's value or empty."""

    host: str
    authorization: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None


class Credentials(Protocol):
    """Gives the access to use for a request."""

    async def access(self) -> Access:
        """Return the current access; raises CannotConnect."""

    async def rejected(self) -> None:
        """Say that the server did not accept the access (401): load it anew."""


class FixedCredentials:
    """Access that never changes."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def access(self) -> Access:
        """Return the access."""
        return self._access

    async def rejected(self) -> None:
        """Keep the access, there is no other."""


class ConfiguredCredentials:
    """Access from a kubeconfig file, or from the Pod that we run in if kubeconfig is empty."""

    def __init__(self, kubeconfig: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._configuration: Any = None
        self._loader: Any = None
        self._loaded_at = 0.0
        self._refreshed_at = 0.0
        self._tls: ssl.SSLContext | None = None
        self._tls_files: tuple[tuple[str, int], ...] = ()
        self._access: Access | None = None

    async def access(self) -> Access:
        """Return the access, refreshed when it is older than a minute; raises CannotConnect."""
        now = time.monotonic()
        if self._access is None:
            await self.load()
        elif now - self._refreshed_at >= REFRESH_AFTER:
            # Said before the work is done, so that requests meanwhile use what is there.
            self._refreshed_at = now
            try:
                await self._refresh()
            except CannotConnect as error:
                log.warning("credentials not refreshed", error=str(error))
        if self._access is None:
            raise CannotConnect("credentials could not be loaded")
        return self._access

    async def rejected(self) -> None:
        """Load everything anew, at most every ten seconds; raises CannotConnect."""
        if time.monotonic() - self._loaded_at >= RELOAD_AFTER:
            await self.load()

    async def load(self) -> None:
        """Load everything; raises CannotConnect."""
        # Imported here: the embedded cluster does without these 25 MB and 0.5 s.
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import load_incluster_config, load_kube_config

        self._loaded_at = self._refreshed_at = time.monotonic()
        configuration = Configuration()
        with self._explained():
            if self._kubeconfig:
                self._must_exist()
                self._loader = await load_kube_config(
                    config_file=self._kubeconfig, client_configuration=configuration, persist_config=False
                )
            else:
                load_incluster_config(client_configuration=configuration)
            self._configuration = configuration
            self._access = await self._current()

    def _must_exist(self) -> None:
        if not any(Path(path).expanduser().exists() for path in self._kubeconfig.split(os.pathsep)):
            raise CannotConnect("no such file")

    async def _refresh(self) -> None:
        with self._explained():
            if self._loader is not None:
                await self._loader.load_and_set(self._configuration)
            self._access = await self._current()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from kubernetes.aio.config import ConfigException

        try:
            yield
        except (ConfigException, CannotConnect, aiohttp.ClientError, yaml.YAMLError, *_MALFORMED) as error:
            where = f"kubeconfig {self._kubeconfig}" if self._kubeconfig else "service account of this Pod"
            raise CannotConnect(f"{where}: {error}") from error

    async def _current(self) -> Access:
        configuration = self._configuration
        authorization = await configuration.get_api_key_with_prefix("BearerToken")
        host: str = configuration.host
        return Access(
            host=host.rstrip("/"),
            authorization=(authorization or "").strip(),
            tls=self._context() if host.startswith("https") else None,
            server_name=configuration.tls_server_name or None,
            proxy=configuration.proxy or None,
        )

    def _context(self) -> ssl.SSLContext:
        configuration = self._configuration
        paths = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        files = tuple((path, Path(path).stat().st_mtime_ns) for path in paths if path)
        if self._tls is None or files != self._tls_files:
            self._tls, self._tls_files = _context(configuration), files
        return self._tls


def _context(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    # As Go clients do: clusters have CAs without the extensions that strict mode demands.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
