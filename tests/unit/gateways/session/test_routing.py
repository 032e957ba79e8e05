"""Routing knows the fence, the owner and the watcher of each base."""

import pytest

from gateways.session.routing import Routing


class TestFences:
    def test_a_lower_fence_is_refused(self) -> None:
        routing = Routing()
        assert routing.admit("a", 3)
        assert routing.admit("a", 3)
        assert not routing.admit("a", 2)
        assert routing.admit("b", 1)
        assert routing.admit("a", 4)
        assert not routing.admit("a", 3)
        assert (routing.fence("a"), routing.fence("c")) == (4, 0)

    def test_the_base_unused_for_longest_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateways.session.routing.MAX_BASES", 2)
        routing = Routing()
        for base in ("a", "b", "a", "c"):
            routing.admit(base, 5)
        assert not routing.admit("a", 1)
        assert routing.admit("b", 1)


class TestOwners:
    def test_the_last_claim_holds(self) -> None:
        routing = Routing()
        routing.claim("a", "r1")
        routing.claim("a", "r2")
        routing.release("a", "r1")
        assert routing.owner("a") == "r2"
        routing.release("a", "r2")
        assert routing.owner("a") == ""

    def test_a_lost_replica_owns_nothing(self) -> None:
        routing = Routing()
        routing.claim("a", "r1")
        routing.claim("b", "r2")
        routing.lost("r1", 0)
        assert (routing.owner("a"), routing.owner("b")) == ("", "r2")


class TestWatchers:
    def test_a_watch_outlives_its_stream_for_the_grace(self) -> None:
        routing = Routing()
        routing.welcomed("r", 0)
        routing.watch("a", "r")
        assert routing.expire(100) == []
        routing.lost("r", 100)
        assert routing.expire(159) == []
        assert routing.expire(160) == ["a"]
        assert routing.watched == 0

    def test_watches_that_are_not_renewed_after_welcome_end(self) -> None:
        routing = Routing()
        routing.welcomed("r", 0)
        for base in ("a", "b"):
            routing.watch(base, "r")
        routing.watch("c", "other")
        routing.lost("r", 100)
        routing.welcomed("r", 101)
        routing.watch("a", "r")
        assert routing.expire(110) == []
        assert routing.expire(111) == ["b"]
        assert routing.watcher("a") == "r"
        assert routing.expire(1_000) == []

    def test_only_its_replica_ends_a_watch(self) -> None:
        routing = Routing()
        routing.watch("a", "r1")
        routing.watch("a", "r2")
        assert not routing.unwatch("a", "r1")
        assert routing.unwatch("a", "r2")
        assert routing.watcher("a") == ""
