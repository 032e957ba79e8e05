"""Replicas that look and write in any order, end after any request, and get no answer to any write.

Their clocks differ by as much as is allowed.
"""

from collections.abc import Coroutine, Generator
from functools import lru_cache
from typing import Any

import trustme
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.app.ports import ClusterError, Transient, Unknown
from controlplane.certificates.keeper import CertificateKeeper
from controlplane.certificates.reading import Certificates, Unusable, read_leaf
from controlplane.certificates.stored import Bundle, Secret
from controlplane.cluster.api import SECRETS, Json, PatchType, Resource
from controlplane.domain.certificates import DAY, GRACE, HOUR, SKEW, Origin, Step
from tests.fakes.apiserver import FakeApiServer
from tests.unit.certificates.cluster import World, foreign

REPLICAS = 3
CADENCE = 900.0
"""Seconds within which a live replica looks."""
LAG = 1800.0
"""Seconds within which a gateway has read what was published."""
AUTHORITY = trustme.CA()


class Pause:
    """Awaited between requests: the machine decides who goes on."""

    def __await__(self) -> Generator[None]:
        yield


class Paused(FakeApiServer):
    """Stops before each request; a reply can be lost. Notes what is written over although somebody else wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.lose_reply = False
        self.wrote_over: list[Json] = []

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        await Pause()
        return await super().get(resource, name, namespace)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Json,
        *,
        namespace: str = "",
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
        urgent: bool = False,
    ) -> Json:
        await Pause()
        before = self.object(resource, name, namespace)
        patched = await super().patch(resource, name, patch, namespace=namespace)
        origin = Secret.read(before).stored.origin if resource == SECRETS else Bundle.read(before).published.origin
        if origin is Origin.FOREIGN:
            self.wrote_over.append(before)
        if self.lose_reply:
            self.lose_reply = False
            raise Unknown("no reply")
        return patched


class Replica:
    """One process: what it knows goes with it."""

    def __init__(self, world: World, seed: int) -> None:
        self.keeper: CertificateKeeper = world.keeper(seed, ahead=SKEW * seed / (REPLICAS - 1))
        self.looked_at = self._began = float("-inf")
        """When the last look began that ended well."""
        self._world = world
        self._look: Coroutine[Any, Any, Step | None] | None = None

    def go_on(self) -> bool:
        """Do what is before the next request; return whether the look is over."""
        if self._look is None:
            self._look, self._began = self.keeper.look(), self._world.clock.passed
        try:
            self._look.send(None)
        except (StopIteration, ClusterError) as end:
            if isinstance(end, StopIteration):
                self.looked_at = self._began
            self._look = None
            return True
        return False

    def finish(self) -> None:
        while not self.go_on():
            pass

    def end(self) -> None:
        if self._look is not None:
            self._look.close()


class Replicas(RuleBasedStateMachine):
    """Replicas, and what gateways may have read of the ConfigMap."""

    def __init__(self) -> None:
        super().__init__()
        self.api = Paused()
        self.world = World(self.api)
        self.replicas = [Replica(self.world, seed) for seed in range(REPLICAS)]
        self.history: list[tuple[float, Certificates]] = []

    def teardown(self) -> None:
        for replica in self.replicas:
            replica.end()

    one = st.integers(0, REPLICAS - 1)

    @rule(one=one, requests=st.integers(1, 4))
    def go_on(self, one: int, requests: int) -> None:
        for _ in range(requests):
            self.replicas[one].go_on()
            self.note()

    @rule()
    def all_look(self) -> None:
        for replica in self.replicas:
            replica.finish()
            self.note()

    @rule(one=one)
    def restart(self, one: int) -> None:
        self.replicas[one].end()
        self.replicas[one] = Replica(self.world, one)

    @rule()
    def lose_a_reply(self) -> None:
        self.api.lose_reply = True

    @rule(verb=st.sampled_from(["get", "patch"]))
    def fail(self, verb: str) -> None:
        self.api.fail(verb, Transient("overloaded"))

    @rule(rounds=st.sampled_from([1, 2, 5]))
    def time_passes(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.clock.passed += CADENCE
            self.all_look()

    @rule(days=st.sampled_from([0.1, 1, 20]))
    def nobody_looks(self, days: float) -> None:
        self.world.clock.passed += days * DAY

    def check(self) -> None:
        """Raise AssertionError if something does not hold; after each step of a replica."""

    def note(self) -> None:
        """Keep what was published when."""
        now, authorities = self.world.clock.passed, self.world.bundle.authorities
        if not self.history or self.history[-1][1] != authorities:
            self.history.append((now, authorities))
        self.check()

    def could_have_read(self) -> list[Certificates]:
        """Return all that a gateway may go by now."""
        since = self.world.clock.passed - LAG
        older = [published for at, published in self.history if at <= since]
        return [*older[-1:], *(published for at, published in self.history if at > since)]


class Undisturbed(Replicas):
    """Nobody else writes."""

    @rule(years=st.sampled_from([1.1, 8.6]))
    def years_pass(self, years: float) -> None:
        """Let a CA become due, or more."""
        self.world.clock.passed += years * 365 * DAY

    def check(self) -> None:
        self.every_gateway_trusts_what_is_served()
        assert len(self.world.secret.stored.bundle) <= 2
        assert len(self.world.bundle.published.bundle) <= 3

    def every_gateway_trusts_what_is_served(self) -> None:
        """Unless there is nothing to trust any more: all replicas were away until it had expired."""
        now = self.world.clock.wall()
        for replica in self.replicas:
            current = replica.keeper.current
            if current is None or self.world.clock.passed - replica.looked_at > CADENCE:
                continue
            (expires, *_) = [each.not_after for each in Certificates.read(current.crt_pem).authorities()]
            if now >= expires - SKEW:
                continue
            for published in self.could_have_read():
                if any(each.holds(now) for each in published.authorities()):
                    assert trusts(published, current.crt_pem, current.key_pem)
            for now_trusted in (self.world.bundle.authorities, Certificates.read(current.ca_pem)):
                assert trusts(now_trusted, current.crt_pem, current.key_pem)

    def teardown(self) -> None:
        agree(self)
        super().teardown()


class Disturbed(Replicas):
    """Somebody else writes whatever comes to mind."""

    parts = st.sampled_from(["tls_crt", "tls_key", "ca_crt", "ca_key", "next_ca_key"])
    contents = st.sampled_from([b"", b"garbage", b"\xff\x00", *foreign(AUTHORITY).values()])

    @initialize()
    def install(self) -> None:
        for _ in range(3):
            self.all_look()

    @rule(part=parts, content=contents)
    def change(self, part: str, content: bytes) -> None:
        if self.world.secret.stored.origin is not Origin.EMPTY:
            self.world.change_secret(**{part: content})

    @rule()
    def empty(self) -> None:
        self.world.put_secret({}, marked=False)

    @rule(
        content=st.sampled_from(["", "garbage", AUTHORITY.cert_pem.bytes().decode()]),
        published_at=st.sampled_from(["", "garbage", "2027-01-15T08:00:00Z", "2040-01-01T00:00:00Z"]),
    )
    def publish(self, content: str, published_at: str) -> None:
        self.world.put_config_map({"ca.crt": content} if content else {}, published_at)

    @rule()
    def bring_their_own(self) -> None:
        self.world.put_secret(foreign(AUTHORITY), marked=False)

    @invariant()
    def what_is_theirs_stays(self) -> None:
        assert not self.api.wrote_over

    def teardown(self) -> None:
        self.world.put_config_map({})
        if self.world.secret.stored.origin is Origin.FOREIGN:
            self.world.put_secret(foreign(AUTHORITY), marked=False)
        agree(self)
        super().teardown()


@lru_cache(maxsize=4096)
def trusts(published: Certificates, crt: bytes, key: bytes) -> bool:
    """Return whether a client with these CAs trusts a certificate."""
    try:
        return bool(read_leaf(Certificates.read(crt), key, published).authority)
    except Unusable:
        return False


def agree(machine: Replicas) -> None:
    """After a while without faults all replicas serve one certificate, and clients have its CA alone."""
    api, world = machine.api, machine.world
    api.lose_reply = False
    api.forgive()
    for _ in range(int(4 * GRACE // HOUR)):
        for _ in range(4):
            machine.all_look()
        world.clock.passed += HOUR
    (served,) = {replica.keeper.current for replica in machine.replicas}
    assert served is not None
    assert served.crt_pem == world.secret.crt
    assert world.secret.stored.leaf is not None
    assert world.clock.wall() + SKEW < world.leaf.not_after
    assert {each.id for each in world.bundle.published.bundle} == {each.id for each in world.secret.stored.bundle}
    assert trusts(world.bundle.authorities, served.crt_pem, served.key_pem)
    assert all(replica.keeper.trouble() is None for replica in machine.replicas)


TestUndisturbed = Undisturbed.TestCase
TestDisturbed = Disturbed.TestCase
TestUndisturbed.settings = TestDisturbed.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # To shrink 25 steps takes minutes and saves few of them.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
