"""The user of a kubeconfig, as files, exec plugin and identity provider say who that is now."""

from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import TYPE_CHECKING, Protocol

import structlog

from kubeaccess import execplugin, kubeconfig
from kubeaccess.authorization import CannotConnect, basic, bearer, token_ends_at
from kubeaccess.execplugin import Credential
from kubeaccess.kubeconfig import Context, User
from kubeaccess.tls import READ_WITHIN, Material, read
from service.worker import Worker

if TYPE_CHECKING:
    from kubeaccess.oidc import OidcProvider

log = structlog.get_logger(__name__)

RENEWED_AFTER = (0.45, 0.55)
"""Shares of the time of a plugin's credential between which the next one is due, drawn at random."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def wall(self) -> float:
        """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Who a user is now; it is not printed, for its secrets.

    authorization is a header's value or empty. tls has the client certificate, and how the context's own server is
    checked. ends_at is when the credential ends (seconds since the epoch), None if it does not or nobody says.
    """

    context: Context
    authorization: str = ""
    tls: Material = field(default_factory=Material)
    ends_at: float | None = None


class KubeconfigUser:
    """The user of a context of kubeconfig files, a list as KUBECONFIG has it: of the current one unless one is named.

    attended: a person is at the terminal, whom plugins may ask. Such a program shares the file with kubectl: a refresh
    token, which may serve only once, is left to that one.
    """

    def __init__(self, paths: str, clock: Clock, context: str = "", *, attended: bool = False) -> None:
        self._paths = paths
        self._clock = clock
        self._name = context
        self._attended = attended
        self._worker = Worker("credentials")
        self._random = SystemRandom()
        self._context: Context | None = None
        self._file_token = ""
        self._oidc: OidcProvider | None = None
        self._credential: Credential | None = None
        self._next_credential_at = 0.0

    async def identity(self, *, renew: bool) -> Identity:
        """Return who the user is now; raises CannotConnect, TimeoutError.

        renew: what was given the last time is not accepted any more. Nobody is anybody to a server without TLS.
        """
        context, material = await self._worker.call(lambda: self._read(renew=renew), within=READ_WITHIN)
        if not context.cluster.uses_tls:
            return Identity(context)
        authorization, material, ends_at = await self._identity(context, material, renew=renew)
        return Identity(context, authorization, material, ends_at)

    def _read(self, *, renew: bool) -> tuple[Context, Material]:
        context = self._context
        if context is None or renew:
            context = kubeconfig.load(
                self._paths, context.name if context is not None else self._name, attended=self._attended
            )
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
            self._oidc, self._credential, self._file_token = self._provider(user), None, ""
            if user != User() and not context.cluster.uses_tls:
                log.warning("credentials are not sent without TLS, as with kubectl", server=context.cluster.server)
        self._context = context

    def _provider(self, user: User) -> "OidcProvider | None":
        if user.auth_provider is None:
            return None
        # With its HTTP client it takes long to load, and few need it.
        from kubeaccess.oidc import OidcProvider

        return OidcProvider(user.auth_provider.config, self._worker, renews=not self._attended)

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
            given = self._credential = await execplugin.run(
                user.exec, context.cluster, material.ca, attended=self._attended
            )
            now, share = self._clock.wall(), self._random.uniform(*RENEWED_AFTER)
            left = given.ends_at - now if given.ends_at is not None else float("inf")
            self._next_credential_at = now + share * max(left, 0.0)
        if given.certificate:
            material = replace(material, certificate=given.certificate, key=given.key or b"")
        return bearer(given.token) if given.token else "", material, given.ends_at
