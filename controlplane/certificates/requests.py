"""A certificate request, and the Secret in which it and what was signed are kept.

Secret: tls.crt and tls.key are the signed certificate; request.csr and request.key those of the request under way. An
annotation has the time of the last refusal.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane.certificates.issuing import alternative
from controlplane.certificates.reading import Certificates, Unusable, alternative_names, read_key, read_leaf
from controlplane.certificates.stored import decoded
from controlplane.cluster import fields
from controlplane.cluster.api import CERTIFICATE_REQUESTS, Json
from controlplane.domain import contract
from controlplane.domain.certificaterequests import Answer, Asked, Step
from controlplane.domain.certificates import SERVER_NAME, Leaf
from controlplane.domain.times import parse_time, rfc3339

SIGNER = "kubernetes.io/kubelet-serving"
CRT, KEY, REQUEST, REQUEST_KEY = "tls.crt", "tls.key", "request.csr", "request.key"
_SUBJECT = ((NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, f"system:node:{SERVER_NAME}"))
"""What that signer wants. The certificate is a server's only: nobody can be that node with it."""
_NOTHING = Certificates()


@dataclass(frozen=True, slots=True)
class Stored:
    """The Secret, as it was read. request and request_key are PEM, empty where no request is under way."""

    version: str
    leaf: Leaf | None
    asked: Asked | None
    refused_at: float | None
    crt: bytes
    key: bytes = field(repr=False)
    request: bytes
    request_key: bytes = field(repr=False)

    @classmethod
    def read(cls, obj: Json) -> "Stored":
        """Return what is in a Secret, whatever it is."""
        data = {name: decoded(text) for name, text in fields.pairs(obj, "data")}
        crt, key, request, request_key = (data.get(name, b"") for name in (CRT, KEY, REQUEST, REQUEST_KEY))
        meta = fields.mapping(obj, "metadata")
        refused = fields.text(fields.mapping(meta, "annotations"), contract.ANNOTATION_REFUSED_AT)
        asked = _asked(request, request_key)
        version = fields.text(meta, "resourceVersion")
        return cls(version, _leaf(crt, key), asked, parse_time(refused), crt, key, request, request_key)

    def patch(self, step: Step, addresses: Iterable[str], crt: bytes, now: float) -> Json:
        """Return what changes the Secret by one step, if it still is as it was read; crt is what was signed."""
        changed: dict[str, bytes | None] = {REQUEST: None, REQUEST_KEY: None}
        refused = rfc3339(now) if step is Step.GIVE_UP else None
        if step is Step.ASK:
            changed = dict(zip((REQUEST, REQUEST_KEY), new_request(addresses), strict=True))
        if step is Step.TAKE:
            changed |= {CRT: crt, KEY: self.request_key}
        return {
            "metadata": {
                "resourceVersion": self.version,
                "annotations": {contract.ANNOTATION_REFUSED_AT: refused},
            },
            "data": {name: None if pem is None else b64encode(pem).decode() for name, pem in changed.items()},
        }


def new_request(addresses: Iterable[str]) -> tuple[bytes, bytes]:
    """Return a request for SERVER_NAME and IP addresses, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [alternative(name) for name in (SERVER_NAME, *sorted(addresses))]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in _SUBJECT]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return request.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def manifest(name: str, request: bytes) -> Json:
    """Return the object of a request."""
    spec = {
        "request": b64encode(request).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "server auth"],
    }
    labels = {"app.kubernetes.io/part-of": "module-controller"}
    return CERTIFICATE_REQUESTS.manifest({"name": name, "labels": labels}, spec=spec)


def read_answer(obj: Json, asked: Asked, key: bytes, now: float) -> tuple[Answer, bytes]:
    """Return what became of a request by its object, and the certificate as PEM if one was issued; key is its key.

    A certificate that cannot be served is a refusal: the next request would end in the same way.
    """
    status = fields.mapping(obj, "status")
    crt = decoded(fields.text(status, "certificate"))
    if crt:
        leaf = _leaf(crt, key)
        good = leaf is not None and asked.names <= leaf.names and now < leaf.not_after
        return (Answer.ISSUED, crt) if good else (Answer.REFUSED, b"")
    ended = {fields.text(each, "type") for each in fields.objects(status, "conditions")} & {"Denied", "Failed"}
    return (Answer.REFUSED if ended else Answer.PENDING), b""


def _asked(request: bytes, key_pem: bytes) -> Asked | None:
    if not request or not key_pem:
        return None
    try:
        read = x509.load_pem_x509_csr(request)
        names = frozenset(alternative_names(read.extensions))
        fits = read.public_key() == read_key(key_pem).public_key()
    except Exception:
        # Somebody else wrote it: a new one takes its place.
        return None
    digest = hashlib.sha256(request).hexdigest()[:10]
    return Asked(f"module-controller-kubelet-{digest}", names) if fits else None


def _leaf(crt: bytes, key: bytes) -> Leaf | None:
    if not crt or not key:
        return None
    try:
        return read_leaf(Certificates.read(crt), key, _NOTHING)
    except Unusable:
        return None
