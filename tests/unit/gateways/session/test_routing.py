from __future__ import annotations

from gateways.arklet.facts import Reply, ReplyCode
from gateways.session.ledger import Done, Full, Ledger, New, UnderWay
from gateways.session.messages import Address, OrderResult, Watch
from gateways.session.routing import Claims, Fences, Watches


def watch(base: str) -> Watch:
    return Watch(base, 1, Address("10.0.0.1", 1238), 1, 15, 30, 10)


class TestFences:
    def test_a_lower_fence_is_refused(self) -> None:
        fences = Fences()
        assert fences.admit("a", 3)
        assert fences.admit("a", 3)
        assert not fences.admit("a", 2)
        assert fences.admit("b", 1)
        assert fences.admit("a", 4)
        assert not fences.admit("a", 3)

    def test_the_base_not_spoken_of_for_longest_is_forgotten(self) -> None:
        fences = Fences(max_bases=2)
        for base in ("a", "b", "a", "c"):
            fences.admit(base, 5)
        assert not fences.admit("a", 1)
        assert fences.admit("b", 1)


class TestClaims:
    def test_the_last_claim_holds(self) -> None:
        claims = Claims()
        claims.claim("a", "r1")
        claims.claim("a", "r2")
        claims.release("a", "r1")
        assert claims.owner("a") == "r2"
        claims.release("a", "r2")
        assert claims.owner("a") is None

    def test_a_lost_replica_owns_nothing(self) -> None:
        claims = Claims()
        claims.claim("a", "r1")
        claims.claim("b", "r2")
        claims.lost("r1")
        assert (claims.owner("a"), claims.owner("b")) == (None, "r2")


class TestWatches:
    def test_a_watch_outlives_its_stream_for_the_grace(self) -> None:
        watches = Watches(grace=60, renewal=10)
        watches.welcomed("r", 0)
        watches.put("r", watch("a"))
        assert watches.expire(100) == []
        watches.lost("r", 100)
        assert watches.expire(159) == []
        assert watches.expire(160) == ["a"]
        assert len(watches) == 0

    def test_what_is_not_renewed_after_welcome_goes(self) -> None:
        watches = Watches(grace=60, renewal=10)
        watches.welcomed("r", 0)
        for base in ("a", "b"):
            watches.put("r", watch(base))
        watches.put("other", watch("c"))
        watches.lost("r", 100)
        watches.welcomed("r", 101)
        watches.put("r", watch("a"))
        assert watches.expire(110) == []
        assert watches.expire(111) == ["b"]
        assert watches.replica("a") == "r"
        assert watches.expire(1_000) == []

    def test_only_its_replica_ends_a_watch(self) -> None:
        watches = Watches()
        watches.put("r1", watch("a"))
        watches.put("r2", watch("a"))
        assert not watches.remove("a", "r1")
        assert watches.remove("a", "r2")
        assert watches.replica("a") is None


class TestLedger:
    def result(self, order_id: str) -> OrderResult:
        return OrderResult(order_id, "a", Reply(ReplyCode.SUCCESS))

    def test_the_same_id_is_carried_out_once(self) -> None:
        ledger = Ledger()
        assert ledger.admit("o", "r1") == New()
        assert ledger.admit("o", "r2") == UnderWay()
        assert ledger.finish(self.result("o")) == "r2"
        assert ledger.admit("o", "r1") == Done(self.result("o"))

    def test_it_is_bounded(self) -> None:
        ledger = Ledger(max_open=2, max_done=2)
        assert [ledger.admit(o, "r") for o in "abc"] == [New(), New(), Full()]
        for order_id in "ab":
            ledger.finish(self.result(order_id))
        assert ledger.admit("c", "r") == New()
        ledger.finish(self.result("c"))
        assert ledger.admit("a", "r") == New()
        assert ledger.admit("b", "r") == Done(self.result("b"))
