"""Keeps the access to the API server current, without anybody having to wait for it.

Files are looked at every minute, plugins are run long before what they gave ends, and at once after the server refused
an access (401). All that is done beside: the access that is there serves until it ends, while the next one is fetched,
by one task at a time. The official client does all of it while a request waits.
"""

import asyncio
from random import SystemRandom

import structlog
from prometheus_client import Counter

from controlplane.app.clock import SystemClock
from controlplane.app.ports import Clock
from controlplane.domain.backoff import Backoff
from kubeaccess.access import Access
from kubeaccess.authorization import CannotConnect
from kubeaccess.sources import CredentialSource, KubeconfigSource, PodSource

log = structlog.get_logger(__name__)

REFRESH_AFTER = 60.0
"""Seconds after which files are looked at again, less up to a fifth by chance."""
SOONEST = 5.0
"""Seconds between two fetches at least, but for a 401."""
FETCH_WITHIN = 60.0
"""Seconds for one fetch; it may run a program or ask an identity provider."""
RELOAD_AFTER = 10.0
"""Seconds that must lie between two fetches after a 401."""
AGAIN = Backoff(first=5.0, longest=60.0)
"""Between fetches that fail while the access that is there serves."""
AGAIN_WITHOUT = Backoff(first=5.0, longest=10.0)
"""Between fetches that fail while there is no access."""
RENEWED_AT = 0.55
"""Share of an access's remaining time after which the next one is fetched; plugins are due by then.

Nobody waits for a plugin that takes less than the rest.
"""

FETCHES = Counter(
    "koupleless_api_credential_fetches_total",
    "Times that credentials for the Kubernetes API were looked for; result is fetched or failed.",
    ("result",),
)


class Credentials:
    """Access from a source: kubeconfig files, or the Pod that we run in if kubeconfig is empty. To be closed."""

    def __init__(
        self, kubeconfig: str = "", *, clock: Clock | None = None, source: CredentialSource | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._source = source or (KubeconfigSource(kubeconfig, self._clock) if kubeconfig else PodSource())
        self._random = SystemRandom()
        self._access: Access | None = None
        self._fetch: asyncio.Task[None] | None = None
        self._again_at = self._without_again_at = 0.0
        self._rejected_at = float("-inf")
        self._failures = 0
        self._problem = ""

    async def access(self) -> Access:
        """Return the current access; raises CannotConnect when there is none, or it has ended.

        Waits for a fetch only in these two cases. After one that failed, requests fail at once until the next is due.
        """
        ended = self._ended()
        if self._clock.monotonic() >= (self._without_again_at if ended else self._again_at):
            self._begin(renew=False)
        if ended and self._fetch is not None:
            await asyncio.shield(self._fetch)
        if self._access is None or (self._problem and self._ended()):
            raise self._cannot_connect()
        return self._access

    async def rejected(self, access: Access) -> None:
        """Fetch another access than this one, at most every ten seconds; raises CannotConnect."""
        if self._fetch is not None and not self._fetch.done():
            await asyncio.shield(self._fetch)
        now = self._clock.monotonic()
        if access != self._access or now - self._rejected_at < RELOAD_AFTER:
            return
        self._rejected_at = now
        await asyncio.shield(self._begin(renew=True))
        if self._problem:
            raise self._cannot_connect()

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait({self._fetch})

    def _cannot_connect(self) -> CannotConnect:
        return CannotConnect(f"{self._source.name}: {self._problem}")

    def _ended(self) -> bool:
        access = self._access
        return access is None or (access.ends_at is not None and self._clock.wall() >= access.ends_at)

    def _begin(self, *, renew: bool) -> asyncio.Task[None]:
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.create_task(self._renew(renew=renew), name="credentials")
        return self._fetch

    async def _renew(self, *, renew: bool) -> None:
        try:
            async with asyncio.timeout(FETCH_WITHIN):
                access = await self._source.fetch(renew=renew)
        except (CannotConnect, TimeoutError) as error:
            self._failed(str(error) or f"no credentials within {FETCH_WITHIN:g} s")
            return
        except Exception as error:  # supervisor: who waits for credentials gets an answer whatever happens
            log.exception("defect while credentials were fetched", source=self._source.name)
            self._failed(f"the fetch itself failed: {type(error).__name__}")
            return
        FETCHES.labels("fetched").inc()
        if self._problem:
            log.info("credentials are there again", source=self._source.name)
        self._access, self._failures, self._problem = access, 0, ""
        seconds = REFRESH_AFTER * self._random.uniform(0.8, 1.0)
        if access.ends_at is not None:
            seconds = min(seconds, RENEWED_AT * (access.ends_at - self._clock.wall()))
        self._again_at = self._without_again_at = self._clock.monotonic() + max(seconds, SOONEST)

    def _failed(self, problem: str) -> None:
        FETCHES.labels("failed").inc()
        if problem != self._problem and self._access is not None:
            log.warning("credentials could not be fetched; those that are there serve", error=problem)
        self._failures += 1
        self._problem = problem
        now, chance = self._clock.monotonic(), self._random.random()
        self._again_at = now + AGAIN.delay(self._failures, chance)
        self._without_again_at = now + AGAIN_WITHOUT.delay(self._failures, chance)
