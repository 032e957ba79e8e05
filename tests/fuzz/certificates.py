"""Targets: certificates, keys, and the objects of the cluster that have them.

Inputs are DER, which breaks in more ways than PEM does. Seeds are always the same: keys from numbers, signatures
without randomness.
"""

import warnings
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID
from hypothesis import strategies as st

from controlplane.access.certificates import of_pem
from controlplane.access.refusals import Unauthenticated
from controlplane.certificates import requests
from controlplane.certificates.issuing import ORGANIZATION
from controlplane.certificates.reading import Certificates, Unusable, read_key, read_leaf
from controlplane.certificates.stored import CA, CA_KEY, CRT, KEY, NEXT_CA_KEY, Bundle, Secret
from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain import contract
from controlplane.domain.certificaterequests import Asked
from kubeaccess import tls
from kubeaccess.authorization import CannotConnect
from mctl.commands.login import ca_lines
from mctl.errors import UsageError
from tests.fuzz import inputs
from tests.fuzz.target import Target, each

_DER = serialization.Encoding.DER
_PEM = serialization.Encoding.PEM


@cache
def _key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


def _key_pem(number: int) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return _key(number).private_bytes(_PEM, form, serialization.NoEncryption())


def _certificate(name: str, number: int, issuer: str, signer: int, *, is_ca: bool) -> x509.Certificate:
    def named(common: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, ORGANIZATION), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(_key(number).public_key())
        .serial_number(number)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName("*.a.b")]), critical=False)
    )
    return builder.sign(_key(signer), hashes.SHA256(), ecdsa_deterministic=True)


_AUTHORITY = _certificate("ca", 1, "ca", 1, is_ca=True)
_LEAF = _certificate("module-controller", 2, "ca", 1, is_ca=False)


def _armored(der: bytes) -> bytes:
    text = b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def _quietly(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Return a reader without the library's warnings of what it will refuse one day."""

    def of_bytes(data: bytes) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return read(data)

    return of_bytes


def _read(pem: bytes) -> object:
    """Read a certificate, or several, as each part of the product does."""
    authority, key = _AUTHORITY.public_bytes(_PEM), _key_pem(2)
    chain = Certificates.read(pem)
    found = each(
        pem,
        {
            "caller": of_pem,
            "leaf": lambda _: read_leaf(chain, key, Certificates.read(authority + pem)),
            "authorities": lambda _: (chain.ours, chain.authorities(), chain.signer(_key_pem(1))),
        },
        (Unauthenticated, Unusable),
    )
    return found, _secret_of(pem)


def _secret_of(pem: bytes) -> object:
    data = {CRT: pem, KEY: _key_pem(2), CA: _AUTHORITY.public_bytes(_PEM) + pem, CA_KEY: _key_pem(1)}
    encoded = {name: b64encode(value).decode() for name, value in data.items()}
    return Secret.read({"metadata": {"annotations": _OURS}, "data": encoded}).stored


def _caller(data: bytes) -> object:
    return of_pem(_armored(data))


def _ca(data: bytes) -> object:
    return ca_lines(_armored(data).decode())


def _material(data: bytes) -> object:
    """Have OpenSSL take a CA, and a client certificate with its key."""
    pem = _armored(data)
    readers = {
        "ca": lambda of: tls.context(tls.Material(ca=of)),
        "pair": lambda of: tls.context(tls.Material(certificate=of, key=_key_pem(2))),
        "key": lambda of: tls.context(tls.Material(certificate=_LEAF.public_bytes(_PEM), key=of)),
    }
    return each(pem, readers, (CannotConnect,))


def _objects(data: bytes) -> object:
    obj = fields.parsed(data) or {}
    return Secret.read(obj).stored, Bundle.read(obj).published


def _requests(data: bytes) -> object:
    """Read a Secret with a request, and what became of a request."""
    obj = fields.parsed(data) or {}
    stored, asked = requests.Stored.read(obj), Asked("r", frozenset({"module-controller"}))
    answers = [requests.read_answer(obj, asked, key, now=1.8e9) for key in (_key_pem(2), stored.request_key)]
    return stored.leaf, stored.asked, answers, requests.manifest("r", stored.request)


def _request_pem() -> bytes:
    names = [x509.DNSName("module-controller"), x509.IPAddress(ip_address("10.0.0.7"))]
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(
        x509.SubjectAlternativeName(names), critical=False
    )
    return builder.sign(_key(2), hashes.SHA256(), ecdsa_deterministic=True).public_bytes(_PEM)


def _secret(**data: bytes) -> Json:
    names = {"crt": CRT, "key": KEY, "ca": CA, "ca_key": CA_KEY, "next_ca_key": NEXT_CA_KEY}
    encoded = {names[name]: b64encode(value).decode() for name, value in data.items()}
    return {"metadata": {"resourceVersion": "7", "annotations": _OURS}, "data": encoded}


_OURS = {contract.ANNOTATION_CERTIFICATES: contract.CERTIFICATES_MANAGED}
_BOTH = [_LEAF.public_bytes(_DER), _AUTHORITY.public_bytes(_DER)]
_OBJECTS: list[Json] = [
    _secret(crt=_LEAF.public_bytes(_PEM), key=_key_pem(2), ca=_AUTHORITY.public_bytes(_PEM), ca_key=_key_pem(1)),
    _secret(ca=_AUTHORITY.public_bytes(_PEM), next_ca_key=_key_pem(1)),
    {
        "metadata": {"annotations": {contract.ANNOTATION_PUBLISHED_AT: "2026-01-01T00:00:00Z"}},
        "data": {CA: _AUTHORITY.public_bytes(_PEM).decode()},
    },
]
_REQUESTS: list[Json] = [
    {
        "metadata": {"annotations": {contract.ANNOTATION_REFUSED_AT: "2026-01-01T00:00:00Z"}},
        "data": {
            name: b64encode(content).decode()
            for name, content in (
                (requests.REQUEST, _request_pem()),
                (requests.REQUEST_KEY, _key_pem(2)),
                (CRT, _LEAF.public_bytes(_PEM)),
                (KEY, _key_pem(2)),
            )
        },
    },
    {"status": {"certificate": b64encode(_LEAF.public_bytes(_PEM)).decode()}},
    {"status": {"conditions": [{"type": "Denied", "status": "True"}]}},
]
_TAGS = [bytes([tag]) for tag in (0x02, 0x03, 0x05, 0x0C, 0x13, 0x17, 0x18, 0x30, 0x31, 0x80, 0xA0, 0xA3, 0xFF)]
_DAMAGED = inputs.texts(_BOTH, [*_TAGS, b"\x00", b"\x02\x01\x01", b"99991231235959Z", b"000101000000Z"])
_ARMOR = [b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----BEGIN X509 CRL-----\n", b"=", b"\n"]


@st.composite
def _flipped(draw: st.DrawFn) -> bytes:
    """Return a certificate with single bytes changed: lengths stay right, so that it is read to its end."""
    data = bytearray(draw(st.sampled_from(_BOTH)))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


TARGETS = (
    Target(
        "certificate",
        ("controlplane.certificates.reading", "controlplane.certificates.stored"),
        (_DAMAGED | _flipped() | _flipped()).map(_armored)
        | inputs.texts([_armored(b"".join(_BOTH)), b"".join(map(_armored, _BOTH))], _ARMOR),
        _quietly(_read),
        (Unusable,),
    ),
    Target(
        "client-certificate",
        ("controlplane.access.certificates",),
        _DAMAGED | _flipped() | _flipped(),
        _quietly(_caller),
        (Unauthenticated,),
    ),
    Target("ca-shown", ("mctl.commands.login",), _DAMAGED | _flipped() | _flipped(), _quietly(_ca), (UsageError,)),
    Target(
        "private-key",
        (),
        inputs.texts([_key_pem(1), _key_pem(2)], [b"ENCRYPTED ", b"EC ", b"RSA ", *_ARMOR]),
        lambda data: read_key(data).key_size,  # type: ignore[union-attr]
        (Unusable,),
    ),
    Target("tls-material", ("kubeaccess.tls",), _DAMAGED | _flipped(), _material),
    Target("certificate-objects", (), inputs.documents(_OBJECTS), _objects),
    Target(
        "certificate-requests",
        ("controlplane.certificates.requests",),
        inputs.documents(_REQUESTS),
        _quietly(_requests),
    ),
)
