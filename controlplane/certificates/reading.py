"""Reads certificates and keys that anybody may have written: total, and cheap for any input."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from controlplane.certificates.issuing import ORGANIZATION
from controlplane.domain.certificates import Authority, Leaf

MOST_BYTES = 256 * 1024
"""Of one PEM text; a bundle of all public CAs has 200 KB."""
LONGEST_KEY = 16 * 1024
LONGEST_CHAIN = 8
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LEAST_RSA = 2048


class Unusable(Exception):
    """What is there is not what it should be; the message says why, without its content."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates of a PEM text, in its order; id of one is its SHA-256 fingerprint in hex."""

    parsed: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(cls, pem: bytes) -> "Certificates":
        """Return the certificates; raises Unusable if there are none, or if one is broken."""
        if len(pem) > MOST_BYTES:
            raise Unusable(f"it is longer than {MOST_BYTES} bytes")
        try:
            found = tuple(x509.load_pem_x509_certificates(pem))
            for each in found:
                _touch(each)
        except Exception as error:
            raise Unusable("there are no PEM certificates in it, or broken ones") from error
        return cls(tuple(dict.fromkeys(found)))

    @property
    def ours(self) -> bool:
        """Whether all are of our CAs."""
        return all(_organization(each.issuer) == ORGANIZATION for each in self.parsed)

    def authorities(self) -> tuple[Authority, ...]:
        """Return them as CAs."""
        return tuple(Authority(fingerprint(each), *_validity(each)) for each in self.parsed)

    def pem(self, ids: Iterable[str]) -> bytes:
        """Return those of some ids as PEM, in that order."""
        by_id = {fingerprint(each): each for each in self.parsed}
        return b"".join(by_id[each].public_bytes(serialization.Encoding.PEM) for each in ids if each in by_id)

    def signer(self, key_pem: bytes) -> str:
        """Return the id of the CA that a key signs for, empty if there is none. Ours have ECDSA keys."""
        try:
            key = read_key(key_pem)
        except Unusable:
            return ""
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return ""
        found = (each for each in self.parsed if each.public_key() == key.public_key() and _is_authority(each))
        return next(map(fingerprint, found), "")


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def read_key(pem: bytes) -> PrivateKeyTypes:
    """Return a private key; raises Unusable."""
    if len(pem) > LONGEST_KEY:
        raise Unusable(f"it is longer than {LONGEST_KEY} bytes")
    try:
        # The check takes seconds for a long RSA key. That it fits the certificate is looked at, and TLS does the rest.
        return serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except Exception as error:
        raise Unusable("it is not a PEM private key without a password") from error


def read_leaf(chain: Certificates, key_pem: bytes, authorities: Certificates) -> Leaf:
    """Return the first certificate of a chain; raises Unusable if the key does not fit or TLS does not take it."""
    certificate, key = chain.parsed[0], read_key(key_pem)
    if certificate.public_key() != key.public_key():
        raise Unusable("tls.key does not fit tls.crt")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _LEAST_RSA:
        raise Unusable(f"the RSA key of tls.crt is shorter than {_LEAST_RSA} bits")
    curve = key.curve if isinstance(key, ec.EllipticCurvePrivateKey) else None
    if not isinstance(key, rsa.RSAPrivateKey) and not isinstance(curve, _CURVES):
        raise Unusable("the key of tls.crt is neither RSA nor ECDSA on P-256, P-384 or P-521")
    return Leaf(
        fingerprint(certificate),
        *_validity(certificate),
        authority=_anchor(chain.parsed, authorities.parsed),
        names=frozenset(alternative_names(certificate.extensions)),
    )


def _anchor(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> str:
    """Return the id of the CA that a chain leads to, empty if it leads to none."""
    current, between = chain[0], chain[1:]
    for _ in range(LONGEST_CHAIN):
        for each in authorities:
            if each == current or _issued(current, each):
                return fingerprint(each)
        above = next((each for each in between if each != current and _issued(current, each)), None)
        if above is None:
            break
        current = above
    return ""


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        # Another name, another key, or an algorithm that is not known.
        return False
    return True


def _touch(certificate: x509.Certificate) -> None:
    """Read all that is needed later, so that what is broken shows here."""
    _validity(certificate)
    alternative_names(certificate.extensions)
    _organization(certificate.issuer)
    certificate.public_key()


def _validity(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def alternative_names(extensions: x509.Extensions) -> list[str]:
    """Return the DNS names and IP addresses of a certificate, or of a request for one."""
    try:
        alternatives = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    names, addresses = (alternatives.value.get_values_for_type(kind) for kind in (x509.DNSName, x509.IPAddress))
    return [*names, *map(str, addresses)]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _organization(name: x509.Name) -> str:
    attributes = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(attributes[0].value) if attributes else ""
