"""Replicas ask the cluster's signer for a certificate: whatever it answers, whoever restarts, in whatever order."""

import asyncio
import base64
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from controlplane.app.ports import ClusterError, NotFound, Rejected, Transient, Unknown
from controlplane.certificates.reading import Certificates, read_leaf
from controlplane.certificates.requesting import CertificateRequester
from controlplane.certificates.requests import SIGNER
from controlplane.cluster.api import CERTIFICATE_REQUESTS, SECRETS, Json
from controlplane.domain import contract
from controlplane.domain.certificaterequests import ASK_AGAIN, Step
from controlplane.domain.certificates import DAY, Leaf
from controlplane.domain.times import parse_time
from tests.fakes.apiserver import FakeApiServer
from tests.unit.certificates.cluster import TurnedClock

NAMESPACE, SECRET = "koupleless-system", "signed"
ADDRESS, OTHER = "10.96.0.7", "10.96.0.8"
LIFE = 30 * DAY
AUTHORITY = trustme.CA()


@dataclass
class World:
    """The cluster, its signer, and the address of the Service."""

    api: FakeApiServer = field(default_factory=FakeApiServer)
    clock: TurnedClock = field(default_factory=TurnedClock)
    addresses: frozenset[str] = frozenset({ADDRESS})

    def __post_init__(self) -> None:
        self.api.put(SECRETS, {"metadata": {"name": SECRET, "namespace": NAMESPACE}})

    def requester(self, seed: int = 1) -> CertificateRequester:
        return CertificateRequester(self.api, NAMESPACE, SECRET, lambda: self.addresses, self.clock, Random(seed))

    def requests(self) -> list[Json]:
        """Return the requests that nobody answered."""
        found = (self.api.object(CERTIFICATE_REQUESTS, name) for name in self.names())
        return [obj for obj in found if "status" not in obj]

    def names(self) -> list[str]:
        created = [call.body["metadata"]["name"] for call in self.api.made("create") if call.body is not None]
        return [name for name in dict.fromkeys(created) if self._exists(name)]

    def answer(self, obj: Json, status: Json) -> None:
        self.api.put(CERTIFICATE_REQUESTS, {**obj, "status": status})

    def sign(self, obj: Json, *, names: frozenset[str] | None = None) -> None:
        self.answer(obj, {"certificate": base64.b64encode(self._signed(obj, names)).decode()})

    @property
    def refused_at(self) -> float:
        """When the last request was refused, long ago if none was."""
        meta = self.api.object(SECRETS, SECRET, NAMESPACE)["metadata"]
        return parse_time(meta.get("annotations", {}).get(contract.ANNOTATION_REFUSED_AT, "")) or 0.0

    def data(self) -> Json:
        found: Json = self.api.object(SECRETS, SECRET, NAMESPACE).get("data", {})
        return found

    def _exists(self, name: str) -> bool:
        try:
            self.api.object(CERTIFICATE_REQUESTS, name)
        except NotFound:
            return False
        return True

    def _signed(self, obj: Json, names: frozenset[str] | None) -> bytes:
        request = x509.load_pem_x509_csr(base64.b64decode(obj["spec"]["request"]))
        issuer = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
        key = serialization.load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
        alternatives = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if names is not None:
            alternatives = x509.SubjectAlternativeName(map(x509.DNSName, names))
        now = self.clock.wall()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(issuer.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(now - 300, UTC))
            .not_valid_after(datetime.fromtimestamp(now + LIFE, UTC))
            .add_extension(alternatives, critical=False)
            .sign(key, hashes.SHA256())  # type: ignore[arg-type]
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


DENIED: Json = {"conditions": [{"type": "Denied", "status": "True"}]}
FAILED: Json = {"conditions": [{"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True"}]}


def leaf(requester: CertificateRequester) -> Leaf:
    assert requester.current is not None
    chain = Certificates.read(requester.current.crt_pem)
    return read_leaf(chain, requester.current.key_pem, Certificates())


async def settle(*requesters: CertificateRequester) -> None:
    for _ in range(20):
        if not any([await requester.look() for requester in requesters]):
            return
    raise AssertionError("they never stop writing")


@pytest.fixture
def world() -> World:
    return World()


async def test_what_is_asked_for_and_served_once_it_is_signed(world: World) -> None:
    requester = world.requester()
    assert [await requester.look() for _ in range(3)] == [Step.ASK, Step.CREATE, None]
    (obj,) = world.requests()
    name, spec = obj["metadata"]["name"], obj["spec"]
    assert (spec["signerName"], spec["usages"]) == (SIGNER, ["digital signature", "server auth"])
    request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert request.subject.rfc4514_string() == "CN=system:node:module-controller,O=system:nodes"
    (line,) = requester.notes()
    assert line.endswith(f"request {name} waits: kubectl certificate approve {name}")
    assert requester.current is None
    world.sign(obj)
    assert [await requester.look() for _ in range(2)] == [Step.TAKE, None]
    assert leaf(requester).names == {"module-controller", ADDRESS}
    assert world.data().keys() == {"tls.crt", "tls.key"}
    assert "holds until" in requester.notes()[0]


async def test_replicas_share_one_request_and_its_certificate(world: World) -> None:
    replicas = [world.requester(seed) for seed in range(3)]
    await settle(*replicas)
    (obj,) = world.requests()
    world.sign(obj)
    await settle(*replicas)
    assert len({leaf(replica).id for replica in replicas}) == 1


async def test_it_is_renewed_in_time_and_served_until_then(world: World) -> None:
    requester = world.requester()
    await settle(requester)
    world.sign(*world.requests())
    await settle(requester)
    first = leaf(requester)
    world.clock.passed += LIFE * 0.6
    assert await requester.look() is None
    world.clock.passed += LIFE * 0.15
    await settle(requester)
    (renewal,) = world.requests()
    assert leaf(requester) == first
    world.sign(renewal)
    await settle(requester)
    assert leaf(requester).not_after > first.not_after


@pytest.mark.parametrize("status", [DENIED, FAILED, {"certificate": base64.b64encode(b"no PEM").decode()}])
async def test_after_a_refusal_a_day_passes_until_the_next_request(world: World, status: Json) -> None:
    requester = world.requester()
    await settle(requester)
    world.answer(world.requests()[0], status)
    await settle(requester)
    assert "refused at" in requester.notes()[0]
    world.clock.passed += ASK_AGAIN - 5.0
    assert await requester.look() is None
    world.clock.passed += 10.0
    await settle(requester)
    assert len(world.requests()) == 1
    assert "waits" in requester.notes()[0]


async def test_a_certificate_for_other_names_is_a_refusal(world: World) -> None:
    requester = world.requester()
    await settle(requester)
    world.sign(world.requests()[0], names=frozenset({"module-controller"}))
    await settle(requester)
    assert (requester.current, world.requests()) == (None, [])
    assert "refused at" in requester.notes()[0]


async def test_a_request_that_the_cluster_removed_is_created_again(world: World) -> None:
    requester = world.requester()
    await settle(requester)
    (obj,) = world.requests()
    world.api.remove(CERTIFICATE_REQUESTS, obj["metadata"]["name"])
    assert await requester.look() is Step.CREATE
    assert [again["metadata"]["name"] for again in world.requests()] == [obj["metadata"]["name"]]


async def test_without_an_address_nothing_is_asked_for(world: World) -> None:
    world.addresses = frozenset()
    requester = world.requester()
    assert await requester.look() is None
    assert "no address" in requester.notes()[0]


@pytest.mark.parametrize("data", [{"request.csr": "?", "request.key": "?"}, {"tls.crt": "eA==", "tls.key": "eA=="}])
async def test_what_somebody_else_wrote_is_replaced(world: World, data: Json) -> None:
    world.api.put(SECRETS, {"metadata": {"name": SECRET, "namespace": NAMESPACE}, "data": data})
    requester = world.requester()
    await settle(requester)
    world.sign(*world.requests())
    await settle(requester)
    assert ADDRESS in leaf(requester).names


@pytest.mark.parametrize(
    ("errors", "said"),
    [([NotFound("none")], []), ([Rejected("may not read")], [])],
    ids=["no Secret", "no right to it"],
)
@pytest.mark.looptime
async def test_nobody_who_did_not_apply_it_hears_of_it(
    world: World, errors: list[ClusterError], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    requester = world.requester()
    world.api.fail("get", *errors * 1000)
    running = asyncio.create_task(requester.run())
    await asyncio.sleep(7200.0)
    running.cancel()
    assert list(requester.notes()) == said
    assert len(world.api.calls) <= 18
    assert capsys.readouterr() == ("", "")


@pytest.mark.looptime
async def test_a_missing_right_to_ask_is_said(world: World) -> None:
    requester = world.requester()
    world.api.fail("create", *[Rejected("may not create")] * 1000)
    running = asyncio.create_task(requester.run())
    await asyncio.sleep(7200.0)
    running.cancel()
    (line,) = requester.notes()
    assert "a right is missing: may not create; deploy/kubelet/signed.yaml has the Roles" in line
    assert len(world.api.made("create")) <= 18


def run(step: Coroutine[Any, Any, object]) -> object:
    """Run to its end what never waits, and return what it returns."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


class Requests(RuleBasedStateMachine):
    """Two replicas that look in any order, restart, and get no answer; a signer, a cleaner, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.replicas = [self.world.requester(seed) for seed in (1, 2)]

    @initialize(signed=st.booleans())
    def begin(self, signed: bool) -> None:
        run(settle(*self.replicas))
        if signed:
            self.sign()
            run(settle(*self.replicas))

    @rule(numbers=st.lists(st.integers(0, 1), min_size=1, max_size=6))
    def looks(self, numbers: list[int]) -> None:
        for number in numbers:
            self.look(number)

    def look(self, number: int) -> None:
        replica, refused_at = self.replicas[number], self.world.refused_at
        try:
            step = run(replica.look())
        except ClusterError:
            return
        if step is Step.ASK:
            assert self.world.clock.wall() - refused_at >= ASK_AGAIN - 1.0
        if replica.current is not None:
            held = leaf(replica)
            assert self.world.addresses <= held.names
            assert self.world.clock.wall() < held.not_after

    @rule(number=st.integers(0, 1))
    def restart(self, number: int) -> None:
        self.replicas[number] = self.world.requester(number + 3)

    @rule(verb=st.sampled_from(["get", "create", "patch"]), error=st.sampled_from([Transient("busy"), Unknown("?")]))
    def fail(self, verb: str, error: ClusterError) -> None:
        self.world.api.fail(verb, error)

    @rule(days=st.sampled_from([0.01, 0.5, 1.1, 12.0, 40.0]))
    def wait(self, days: float) -> None:
        self.world.clock.passed += days * DAY

    @precondition(lambda self: self.world.requests())
    @rule()
    def sign(self) -> None:
        self.world.sign(self.world.requests()[0])

    @precondition(lambda self: self.world.requests())
    @rule()
    def deny(self) -> None:
        self.world.answer(self.world.requests()[0], DENIED)

    @precondition(lambda self: self.world.names())
    @rule()
    def clean(self) -> None:
        self.world.api.remove(CERTIFICATE_REQUESTS, self.world.names()[0])

    @rule()
    def move(self) -> None:
        self.world.addresses = frozenset({ADDRESS, OTHER}) - self.world.addresses

    def teardown(self) -> None:
        """Where all is approved, both serve one certificate at last."""
        self.world.api.forgive()
        self.world.clock.passed += ASK_AGAIN + 60.0
        for _ in range(6):
            for replica in self.replicas:
                run(settle(replica))
            for obj in self.world.requests():
                self.world.sign(obj)
            self.world.clock.passed += ASK_AGAIN + 60.0
        assert leaf(self.replicas[0]) == leaf(self.replicas[1])
        assert self.world.addresses <= leaf(self.replicas[0]).names


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
