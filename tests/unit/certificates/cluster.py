"""A cluster with the two objects, a clock that tests turn, and certificates of others."""

import base64
from dataclasses import dataclass, field
from random import Random

import trustme

from controlplane.certificates.keeper import CertificateKeeper, Place
from controlplane.certificates.stored import Bundle, Secret
from controlplane.cluster.api import CONFIG_MAPS, SECRETS, Json
from controlplane.domain import contract
from controlplane.domain.certificates import SERVER_NAME, Leaf
from tests.fakes.apiserver import FakeApiServer

PLACE = Place("koupleless-system", "tls", "ca", frozenset({"controlplane.koupleless-system.svc"}))
STARTED = 1_800_000_000.0


@dataclass
class TurnedClock:
    """Implements ``controlplane.app.ports.Clock``; time passes only when a test says so."""

    passed: float = 0.0

    def monotonic(self) -> float:
        return self.passed

    def wall(self) -> float:
        return STARTED + self.passed


@dataclass(frozen=True)
class AheadClock:
    """Another clock that is so many seconds ahead."""

    clock: TurnedClock
    ahead: float

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def wall(self) -> float:
        return self.clock.wall() + self.ahead


@dataclass
class World:
    """What all replicas share."""

    api: FakeApiServer = field(default_factory=FakeApiServer)
    clock: TurnedClock = field(default_factory=TurnedClock)

    def __post_init__(self) -> None:
        self.put_secret({}, marked=False)
        self.put_config_map({})

    def put_secret(self, data: dict[str, bytes], *, marked: bool) -> None:
        """Write the Secret as somebody else, with the annotation of ours or without."""
        annotations = {contract.ANNOTATION_CERTIFICATES: contract.CERTIFICATES_MANAGED} if marked else {}
        encoded = {name: base64.b64encode(content).decode() for name, content in data.items()}
        self.api.put(SECRETS, {"metadata": _meta(PLACE.secret, annotations), "data": encoded})

    def put_config_map(self, data: dict[str, str], published_at: str = "") -> None:
        """Write the ConfigMap as somebody else, with a time that is or is not one, or with none."""
        annotations = {contract.ANNOTATION_PUBLISHED_AT: published_at} if published_at else {}
        self.api.put(CONFIG_MAPS, {"metadata": _meta(PLACE.config_map, annotations), "data": data})

    def change_secret(self, **changed: bytes) -> None:
        """Replace parts of the Secret; tls_crt stands for tls.crt."""
        obj = self.api.object(SECRETS, PLACE.secret, PLACE.namespace)
        for name, content in changed.items():
            key = name.replace("_", ".") if name != "next_ca_key" else "next-ca.key"
            obj["data"][key] = base64.b64encode(content).decode()
        self.api.put(SECRETS, obj)

    @property
    def secret(self) -> Secret:
        return Secret.read(self.api.object(SECRETS, PLACE.secret, PLACE.namespace))

    @property
    def leaf(self) -> Leaf:
        leaf = self.secret.stored.leaf
        assert leaf is not None
        return leaf

    @property
    def bundle(self) -> Bundle:
        return Bundle.read(self.api.object(CONFIG_MAPS, PLACE.config_map, PLACE.namespace))

    def keeper(self, seed: int = 1, *, ahead: float = 0.0) -> CertificateKeeper:
        return CertificateKeeper(self.api, PLACE, AheadClock(self.clock, ahead), Random(seed))


async def settle(*keepers: CertificateKeeper) -> None:
    """Let replicas look until nobody writes."""
    for _ in range(20):
        if not any([await keeper.look() for keeper in keepers]):
            return
    raise AssertionError("they never stop writing")


def foreign(authority: trustme.CA, *names: str) -> dict[str, bytes]:
    """Return what cert-manager would store."""
    leaf = authority.issue_cert(*(names or (SERVER_NAME,)))
    chain = b"".join(each.bytes() for each in leaf.cert_chain_pems)
    return {"tls.crt": chain, "tls.key": leaf.private_key_pem.bytes(), "ca.crt": authority.cert_pem.bytes()}


def _meta(name: str, annotations: Json) -> Json:
    return {"name": name, "namespace": PLACE.namespace, "annotations": annotations}
