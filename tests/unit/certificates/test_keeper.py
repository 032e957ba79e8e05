"""One or more replicas on one Secret and ConfigMap, with a clock that is turned."""

import asyncio
from random import Random
from typing import NoReturn

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from prometheus_client import REGISTRY

from controlplane.app.ports import ClusterError, Conflict, Rejected, Transient, Unknown
from controlplane.certificates import keeper as module
from controlplane.certificates.keeper import CertificateKeeper
from controlplane.certificates.reading import Certificates
from controlplane.cluster.api import CONFIG_MAPS, SECRETS, Json
from controlplane.domain.certificates import DAY, GRACE, HOUR, RETIRE, SERVER_LIFE, SERVER_NAME, Origin, Step
from tests.unit.certificates.cluster import PLACE, World, foreign, settle


@pytest.fixture
def world() -> World:
    return World()


async def started(world: World, seed: int = 1) -> CertificateKeeper:
    keeper = world.keeper(seed)
    await settle(keeper)
    return keeper


def crt(keeper: CertificateKeeper) -> bytes:
    assert keeper.current is not None
    return keeper.current.crt_pem


def cas(keeper: CertificateKeeper) -> int:
    assert keeper.current is not None
    return len(Certificates.read(keeper.current.ca_pem).parsed)


async def test_a_new_installation_is_served_after_two_writes(world: World) -> None:
    keeper = world.keeper()
    assert "has not been read" in str(keeper.trouble())
    assert await keeper.look() is Step.CREATE
    assert (keeper.current, keeper.trouble()) == (None, "gRPC certificate: it is being made")
    assert await keeper.look() is Step.PUBLISH
    assert keeper.current is None, "nobody could have read the CA"
    assert await keeper.look() is None
    assert keeper.changed.is_set()
    assert keeper.trouble() is None


async def test_what_is_made(world: World) -> None:
    keeper = await started(world)
    (leaf,), (authority,) = Certificates.read(crt(keeper)).parsed, world.bundle.authorities.parsed
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    now = world.clock.wall()
    assert world.leaf.not_before == now - HOUR
    assert world.leaf.not_after == now + 90 * DAY
    (stored,) = world.secret.stored.bundle
    assert (stored.not_before, stored.not_after) == (now - HOUR, now + 3650 * DAY)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert "PRIVATE" not in repr(keeper.current) + repr(world.secret)


async def test_replicas_that_start_at_once_serve_the_same(world: World) -> None:
    replicas = [world.keeper(seed) for seed in range(3)]

    async def start(keeper: CertificateKeeper) -> None:
        while keeper.current is None:
            try:
                await keeper.look()
            except Conflict:
                await asyncio.sleep(0)

    world.api.delay["patch"] = 0.001
    await asyncio.gather(*map(start, replicas))
    assert len({keeper.current for keeper in replicas}) == 1


async def test_a_renewal_keeps_the_ca_and_is_served_at_once(world: World) -> None:
    one, other = await started(world), await started(world, 2)
    before, published = crt(one), world.bundle.published
    world.clock.passed += SERVER_LIFE * 0.6
    await settle(one, other)
    assert crt(one) == before
    world.clock.passed += SERVER_LIFE * 0.15
    await settle(one, other)
    assert crt(one) == crt(other) != before
    assert world.bundle.published == published


async def test_a_new_ca_is_published_long_before_it_signs(world: World) -> None:
    keeper = await started(world)
    before, (old,) = crt(keeper), world.bundle.published.ids()
    while (step := await keeper.look()) is not Step.PREPARE:
        assert step in (None, Step.SIGN)
        world.clock.passed += 60 * DAY
    assert world.clock.passed == pytest.approx(0.8 * 3650 * DAY, rel=0.06)
    signed = world.leaf.id
    await settle(keeper)
    assert len(world.bundle.published.ids()) == cas(keeper) == 2
    world.clock.passed += GRACE - 60
    await settle(keeper)
    assert world.leaf.id == signed, "a gateway may not have read the new CA"
    world.clock.passed += 60
    await settle(keeper)
    assert crt(keeper) != before
    assert world.leaf.authority != old
    assert old in world.bundle.published.ids(), "another replica may not have looked yet"
    world.clock.passed += RETIRE
    await settle(keeper)
    assert world.bundle.published.ids() == {world.leaf.authority}
    writes = [call.body or {} for call in world.api.made("patch")]
    assert len(writes) > 6
    assert all(write["metadata"]["resourceVersion"] for write in writes), "a write over what was not read"


async def test_two_settings_of_names_do_not_undo_each_other(world: World) -> None:
    one = await started(world)
    place = module.Place(PLACE.namespace, PLACE.secret, PLACE.config_map, frozenset({"other.test"}))
    other = CertificateKeeper(world.api, place, world.clock, Random(2))
    await settle(one, other)
    assert world.leaf.names == {SERVER_NAME, *PLACE.names, "other.test"}


class TestDamage:
    @pytest.mark.parametrize(
        "content", [b"", b"garbage", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"x" * 2**19]
    )
    @pytest.mark.parametrize("part", ["tls_crt", "tls_key", "ca_crt", "ca_key"])
    async def test_of_what_is_ours_is_repaired(self, world: World, part: str, content: bytes) -> None:
        keeper = await started(world)
        world.change_secret(**{part: content})
        restarted = await started(world, 2)
        for _ in range(6):
            world.clock.passed += GRACE
            await settle(keeper, restarted)
        assert crt(keeper) == crt(restarted) == world.secret.crt
        assert world.bundle.published.ids() == {world.leaf.authority}
        assert world.secret.stored.signer == world.leaf.authority

    @pytest.mark.parametrize("part", ["tls_crt", "tls_key"])
    async def test_of_the_certificate_costs_no_new_ca(self, world: World, part: str) -> None:
        keeper = await started(world)
        before = world.bundle.published
        world.change_secret(**{part: b"garbage"})
        await settle(keeper)
        assert world.bundle.published == before
        assert any("garbage" not in note and "holds until" in note for note in keeper.notes())

    async def test_a_lost_ca_key_is_replaced_as_in_a_rotation(self, world: World) -> None:
        keeper = await started(world)
        before = crt(keeper)
        world.change_secret(ca_key=b"garbage")
        await settle(keeper)
        assert (crt(keeper), cas(keeper)) == (before, 2)
        world.clock.passed += GRACE
        await settle(keeper)
        assert crt(keeper) != before

    async def test_an_emptied_secret_is_made_again_and_running_replicas_wait(self, world: World) -> None:
        keeper = await started(world)
        before = crt(keeper)
        world.put_secret({}, marked=False)
        await settle(keeper)
        assert (crt(keeper), cas(keeper)) == (before, 2)
        world.clock.passed += GRACE
        await settle(keeper)
        assert crt(keeper) == world.secret.crt != before

    async def test_all_expired_is_made_again_at_once(self, world: World) -> None:
        keeper = await started(world)
        world.clock.passed += 20 * 365 * DAY
        await settle(keeper)
        assert crt(keeper) == world.secret.crt
        assert cas(keeper) == 1

    @pytest.mark.parametrize("published_at", ["", "garbage", "2099-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
    async def test_of_the_config_map_is_repaired(self, world: World, published_at: str) -> None:
        keeper = await started(world)
        before = world.bundle.published
        world.put_config_map({"ca.crt": "garbage" if published_at else ""}, published_at)
        await settle(keeper)
        assert world.bundle.published == before


class TestOthers:
    async def test_theirs_are_served_published_and_never_written(self, world: World) -> None:
        world.put_secret(foreign(trustme.CA()), marked=False)
        before = world.secret
        keeper = await started(world)
        assert crt(keeper) == before.crt
        assert world.bundle.published.ids() == {world.leaf.authority}
        world.clock.passed += 400 * DAY
        await settle(keeper)
        assert world.secret == before

    async def test_another_ca_of_theirs_is_served_once_gateways_have_read_it(self, world: World) -> None:
        world.put_secret(foreign(trustme.CA()), marked=False)
        keeper = await started(world)
        before = crt(keeper)
        world.put_secret(foreign(trustme.CA()), marked=False)
        await settle(keeper)
        assert (crt(keeper), cas(keeper)) == (before, 2)
        world.clock.passed += GRACE
        await settle(keeper)
        assert crt(keeper) == world.secret.crt != before

    async def test_one_with_certificates_between_is_understood(self, world: World) -> None:
        root = trustme.CA()
        between = root.create_child_ca()
        world.put_secret({**foreign(between), "ca.crt": root.cert_pem.bytes()}, marked=False)
        keeper = await started(world)
        assert len(Certificates.read(crt(keeper)).parsed) == 2
        assert world.leaf.authority in world.bundle.published.ids()

    async def test_theirs_put_over_ours_is_left_alone_with_a_word(self, world: World) -> None:
        keeper = await started(world)
        theirs = foreign(trustme.CA())
        world.change_secret(tls_crt=theirs["tls.crt"], tls_key=theirs["tls.key"], ca_crt=theirs["ca.crt"])
        await settle(keeper)
        assert world.secret.crt == theirs["tls.crt"]
        assert world.secret.stored.origin is Origin.FOREIGN
        assert any("certificates of somebody else" in note for note in keeper.notes())

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"tls.crt": b"garbage"}, "tls.crt: there are no PEM certificates in it"),
            ({"tls.key": b"garbage"}, "it is not a PEM private key"),
            ({"tls.key": trustme.CA().issue_cert("x.test").private_key_pem.bytes()}, "tls.key does not fit tls.crt"),
            ({"ca.crt": trustme.CA().cert_pem.bytes()}, "the certificate is not of a CA in ca.crt"),
            ({"tls.crt": b"", "tls.key": b""}, "tls.crt and tls.key are not both there"),
        ],
    )
    async def test_what_cannot_be_used_is_named_and_left(
        self, world: World, changed: dict[str, bytes], words: str
    ) -> None:
        world.put_secret({**foreign(trustme.CA()), **changed}, marked=False)
        before = world.secret
        keeper = await started(world)
        assert keeper.current is None
        assert words in str(keeper.trouble())
        assert world.secret == before

    async def test_what_can_be_used_with_a_flaw_is_served_with_a_word(self, world: World) -> None:
        parts = foreign(trustme.CA(), "other.test")
        del parts["ca.crt"]
        world.put_secret(parts, marked=False)
        keeper = await started(world)
        assert crt(keeper) == parts["tls.crt"]
        text = " ".join(keeper.notes())
        assert "lacks the name module-controller" in text
        assert "there is no ca.crt" in text

    async def test_a_config_map_of_theirs_is_left_alone(self, world: World) -> None:
        theirs = {"ca.crt": trustme.CA().cert_pem.bytes().decode()}
        world.put_config_map(theirs)
        keeper = await started(world)
        assert crt(keeper)
        assert any("ConfigMap is somebody else's" in note for note in keeper.notes())
        assert world.api.object(CONFIG_MAPS, PLACE.config_map, PLACE.namespace)["data"] == theirs


@pytest.mark.looptime
class TestRun:
    @pytest.fixture
    def keeper(self, world: World) -> CertificateKeeper:
        return world.keeper()

    async def running(self, keeper: CertificateKeeper, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await keeper.run()

    async def test_it_serves_within_seconds_and_then_looks_once_a_minute(
        self, world: World, keeper: CertificateKeeper
    ) -> None:
        await self.running(keeper, 5)
        assert keeper.current is not None
        reads = len(world.api.made("get"))
        await self.running(keeper, 600)
        assert 2 * 7 <= len(world.api.made("get")) - reads <= 2 * 15

    @pytest.mark.parametrize(
        ("error", "reason", "words"),
        [
            (Rejected("secrets is forbidden"), "rejected", "cannot be read: secrets is forbidden"),
            (Transient("overloaded", retry_after=7), "transient", "overloaded"),
            (Unknown("no reply"), "unknown", "no reply"),
        ],
    )
    async def test_failures_are_said_counted_and_tried_again(
        self, world: World, keeper: CertificateKeeper, error: ClusterError, reason: str, words: str
    ) -> None:
        before = sample("koupleless_grpc_certificate_failures_total", reason=reason)
        world.api.fail("get", error)
        await self.running(keeper, 0.1)
        assert sample("koupleless_grpc_certificate_failures_total", reason=reason) == before + 1
        assert words in str(keeper.trouble())
        await self.running(keeper, 20)
        assert keeper.trouble() is None

    async def test_a_defect_ends_neither_the_replica_nor_what_it_serves(
        self, keeper: CertificateKeeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.running(keeper, 5)
        before = crt(keeper)

        def defect(_obj: Json) -> NoReturn:
            raise KeyError("defect")

        monkeypatch.setattr("controlplane.certificates.keeper.Secret.read", defect)
        await self.running(keeper, 200)
        assert crt(keeper) == before
        assert any("defect" in note for note in keeper.notes())

    async def test_a_missing_secret_is_named_with_what_has_it(self, world: World, keeper: CertificateKeeper) -> None:
        world.api.remove(SECRETS, PLACE.secret, PLACE.namespace)
        await self.running(keeper, 300)
        assert "there is no Secret koupleless-system/tls: apply deploy/sharded/" in str(keeper.trouble())
        assert not world.api.made("create")
        assert len(world.api.made("get")) < 40, "it must not ask without a pause"
        world.put_secret({}, marked=False)
        await self.running(keeper, 130)
        assert keeper.trouble() is None

    async def test_writes_that_somebody_undoes_do_not_become_a_flood(
        self, world: World, keeper: CertificateKeeper
    ) -> None:
        await self.running(keeper, 5)
        patch = world.api.patch

        async def undone(*arguments: object, **named: object) -> object:
            done = await patch(*arguments, **named)  # type: ignore[arg-type]
            world.put_secret({}, marked=False)
            return done

        world.put_secret({}, marked=False)
        world.api.patch = undone  # type: ignore[assignment, method-assign]
        before = len(world.api.made("patch"))
        await self.running(keeper, 600)
        assert len(world.api.made("patch")) - before < 14 * module.MOST_STEPS

    async def test_seconds_left_are_measured(self, world: World, keeper: CertificateKeeper) -> None:
        await self.running(keeper, 5)
        world.clock.passed += 10 * DAY
        await self.running(keeper, 5)
        assert sample("koupleless_grpc_certificate_seconds_left", part="server") == 80 * DAY
        assert sample("koupleless_grpc_certificate_seconds_left", part="ca") == 3640 * DAY


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0
