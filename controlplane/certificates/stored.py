"""The Secret and the ConfigMap: what is in them, and the patches that change them.

Secret: tls.crt, tls.key and ca.crt as in a Secret of the type kubernetes.io/tls; in ours also ca.key, and next-ca.key
during a rotation, whose certificates are both in ca.crt. ConfigMap: ca.crt.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.certificates import issuing
from controlplane.certificates.issuing import Pair
from controlplane.certificates.reading import Certificates, Unusable, read_leaf
from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain import contract
from controlplane.domain.certificates import Leaf, Origin, Published, Step, Stored
from controlplane.domain.times import parse_time, rfc3339

CRT, KEY, CA, CA_KEY, NEXT_CA_KEY = "tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.key"
_NOTHING = Certificates()


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret that was read. crt and key are what a server shows, as they are stored."""

    version: str
    stored: Stored
    authorities: Certificates
    crt: bytes
    key: bytes = field(repr=False)
    _ca_key: bytes = field(repr=False)
    _next_ca_key: bytes = field(repr=False)

    @classmethod
    def read(cls, obj: Json) -> "Secret":
        """Return what is in a Secret, whatever it is."""
        data = {name: decoded(text) for name, text in fields.pairs(obj, "data")}
        crt, key, ca = (data.get(name, b"") for name in (CRT, KEY, CA))
        ca_key, next_ca_key = data.get(CA_KEY, b""), data.get(NEXT_CA_KEY, b"")
        meta = fields.mapping(obj, "metadata")
        problems: list[str] = []
        chain, authorities = _certificates(CRT, crt, problems), _certificates(CA, ca, problems)
        origin = _origin(meta, data)
        if origin is Origin.OURS and not (chain.ours and authorities.ours):
            origin = Origin.FOREIGN
            problems.append("there are certificates of somebody else in what was ours: it is left as it is")
        stored = Stored(
            origin,
            authorities.authorities(),
            signer=authorities.signer(ca_key),
            upcoming=authorities.signer(next_ca_key),
            leaf=_leaf(chain, key, authorities, problems),
            problem="" if origin is Origin.EMPTY else "; ".join(problems),
        )
        return cls(fields.text(meta, "resourceVersion"), stored, authorities, crt, key, ca_key, next_ca_key)

    def patch(self, step: Step, names: Iterable[str], now: float) -> Json:
        """Return what changes a Secret of ours by one step, if it still is as it was read."""
        data = {name: None if pem is None else b64encode(pem).decode() for name, pem in self._change(step, names, now)}
        marked = {contract.ANNOTATION_CERTIFICATES: contract.CERTIFICATES_MANAGED}
        return {"metadata": {"resourceVersion": self.version, "annotations": marked}, "data": data}

    def _change(self, step: Step, names: Iterable[str], now: float) -> Iterable[tuple[str, bytes | None]]:
        stored, pem = self.stored, self.authorities.pem
        match step:
            case Step.PREPARE:
                upcoming = issuing.make_authority(now)
                present = dict.fromkeys((stored.signer, stored.leaf.authority if stored.leaf else ""))
                return {CA: pem(present) + upcoming.crt, NEXT_CA_KEY: upcoming.key}.items()
            case Step.SIGN:
                leaf = issuing.sign(Pair(pem([stored.signer]), self._ca_key), names, now)
                return {CRT: leaf.crt, KEY: leaf.key}.items()
        authority = issuing.make_authority(now)
        if step is Step.SWITCH:
            authority = Pair(pem([stored.upcoming]), self._next_ca_key)
        leaf = issuing.sign(authority, names, now)
        return {CRT: leaf.crt, KEY: leaf.key, CA: authority.crt, CA_KEY: authority.key, NEXT_CA_KEY: None}.items()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A ConfigMap that was read."""

    version: str
    published: Published
    authorities: Certificates

    @classmethod
    def read(cls, obj: Json) -> "Bundle":
        """Return what is in a ConfigMap, whatever it is."""
        meta, data = fields.mapping(obj, "metadata"), dict(fields.pairs(obj, "data"))
        authorities = _certificates(CA, data.get(CA, "").encode(), [])
        marks = dict(fields.pairs(meta, "annotations"))
        origin = Origin.OURS if contract.ANNOTATION_PUBLISHED_AT in marks else Origin.FOREIGN
        if not any(data.values()) and not fields.mapping(obj, "binaryData"):
            origin = Origin.EMPTY
        since = parse_time(marks.get(contract.ANNOTATION_PUBLISHED_AT, ""))
        published = Published(origin, authorities.authorities(), since)
        return cls(fields.text(meta, "resourceVersion"), published, authorities)

    def patch(self, pem: bytes, now: float) -> Json:
        """Return what has it publish CAs from now on, if it still is as it was read."""
        marked = {contract.ANNOTATION_PUBLISHED_AT: rfc3339(now)}
        return {"metadata": {"resourceVersion": self.version, "annotations": marked}, "data": {CA: pem.decode()}}


def _origin(meta: Json, data: Mapping[str, bytes]) -> Origin:
    if not any(data.values()):
        return Origin.EMPTY
    mark = fields.text(fields.mapping(meta, "annotations"), contract.ANNOTATION_CERTIFICATES)
    return Origin.OURS if mark == contract.CERTIFICATES_MANAGED else Origin.FOREIGN


def decoded(text: str) -> bytes:
    """Return the bytes of a Base64 text; for what is none, bytes that are no PEM."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b"?"


def _certificates(name: str, pem: bytes, problems: list[str]) -> Certificates:
    if not pem:
        return _NOTHING
    try:
        return Certificates.read(pem)
    except Unusable as error:
        problems.append(f"{name}: {error}")
        return _NOTHING


def _leaf(chain: Certificates, key: bytes, authorities: Certificates, problems: list[str]) -> Leaf | None:
    if not chain.parsed or not key:
        if not problems:
            problems.append(f"{CRT} and {KEY} are not both there")
        return None
    try:
        return read_leaf(chain, key, authorities)
    except Unusable as error:
        problems.append(str(error))
        return None
