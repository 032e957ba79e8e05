"""Waiting for changes, and names of what changed: however much changes, only names wait for readers."""

import asyncio
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from controlplane.app.ports import Informer

T = TypeVar("T")

SYNC_LOOK = 0.05
"""Seconds between looks at whether informers have their first lists: they have no event for it."""


async def synced(*informers: Informer[object]) -> None:
    """Return when all informers have their first lists."""
    while not all(informer.synced for informer in informers):  # noqa: ASYNC110 - informers have no event for it
        await asyncio.sleep(SYNC_LOOK)


async def wait_at_most(seconds: float | None, event: asyncio.Event) -> None:
    """Return when an event is set, or after so many seconds; None: however long it takes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Subscription(Generic[T]):
    """The names that changed since they were last taken."""

    def __init__(self) -> None:
        self._names: dict[T, None] = {}
        self._some = asyncio.Event()

    def note(self, name: T) -> None:
        """Note that something of that name changed."""
        self._names[name] = None
        self._some.set()

    def nudge(self) -> None:
        """End a wait, although nothing changed by name."""
        self._some.set()

    def take(self) -> AbstractSet[T]:
        """Return the names, as they came, and start again."""
        self._some.clear()
        names, self._names = self._names, {}
        return names.keys()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when there are names, or after so many seconds."""
        await wait_at_most(seconds, self._some)


class Changes(Generic[T]):
    """Notifies all subscriptions."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription[T]] = set()

    def note(self, name: T) -> None:
        """Note that something of that name changed."""
        for subscription in self._subscriptions:
            subscription.note(name)

    def nudge(self) -> None:
        """End all waits, although nothing changed by name."""
        for subscription in self._subscriptions:
            subscription.nudge()

    def subscribe(self) -> Subscription[T]:
        """Return a new subscription."""
        subscription: Subscription[T] = Subscription()
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[T]) -> None:
        """End a subscription."""
        self._subscriptions.discard(subscription)

    @contextmanager
    def subscribed(self) -> Iterator[Subscription[T]]:
        """Subscribe for as long as the context lasts."""
        subscription = self.subscribe()
        try:
            yield subscription
        finally:
            self.unsubscribe(subscription)
