"""Callers that a client certificate stands for. TLS has verified it by then."""

from collections.abc import Mapping
from typing import Any

from controlplane.access.refusals import Unauthenticated
from controlplane.domain.access import Caller


def of_subject(names: Mapping[str, list[str]]) -> Caller:
    """Return the user of a subject, as Kubernetes has it: common name and organizations; raises Unauthenticated.

    names has the values of each attribute, such as commonName and organizationName.
    """
    user = next(reversed(names.get("commonName", [])), "")
    if not user:
        raise Unauthenticated("certificate", "the client certificate has no common name")
    return Caller(user, (*names.get("organizationName", []), "system:authenticated"))


def of_certificate(certificate: Mapping[str, Any]) -> Caller:
    """Return the user of a certificate as ssl.SSLSocket.getpeercert has it; raises Unauthenticated."""
    names: dict[str, list[str]] = {}
    for part in certificate.get("subject") or ():
        for key, value in part:
            names.setdefault(str(key), []).append(str(value))
    return of_subject(names)


def of_pem(certificate: bytes) -> Caller:
    """Return the user of a certificate in PEM; raises Unauthenticated."""
    from cryptography import x509  # 8 MB, and few installations take client certificates
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_pem_x509_certificate(certificate).subject
    except Exception:
        # The library has no end of errors for what is broken: ValueError, TypeError, InvalidVersion.
        raise Unauthenticated("certificate", "the client certificate cannot be read") from None
    names = {"commonName": NameOID.COMMON_NAME, "organizationName": NameOID.ORGANIZATION_NAME}
    found = {key: [str(part.value) for part in subject.get_attributes_for_oid(oid)] for key, oid in names.items()}
    return of_subject(found)
