"""The inbox of one base: fills from outside, and wakes the base's actor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from controlplane.domain.base.news import News, Source
from controlplane.domain.facts import Fact, OrderResult
from controlplane.domain.identity import ModuleKey


class Inbox:
    """Collects news until the actor takes them."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.news = News()

    def take(self) -> News:
        """Return the news and begin anew."""
        self.wake.clear()
        news, self.news = self.news, News()
        return news

    def put(self, fact: Fact | OrderResult, source: Source, now: float) -> None:
        """Add a report."""
        self.news.add(fact, source, now)
        self.wake.set()

    def give(self, modules: Iterable[ModuleKey]) -> None:
        """Add modules of a baseline that the base was given."""
        self.news.given += tuple(modules)
        self.wake.set()

    def touch(self, now: float) -> None:
        """Note that something else changed that concerns the base."""
        if self.news.touched_at is None:
            self.news.touched_at = now
        self.wake.set()
