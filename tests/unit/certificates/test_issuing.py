"""What is made here is taken by TLS, for what it is made for and for nothing else."""

import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.certificates import issuing
from controlplane.certificates.reading import Certificates, Unusable, read_key, read_leaf
from controlplane.domain.certificates import AUTHORITY_LIFE, DAY, SERVER_NAME

NOW = time.time()
AUTHORITY, OTHER = issuing.make_authority(NOW), issuing.make_authority(NOW)
PAIR = issuing.sign(AUTHORITY, ["controlplane.koupleless-system.svc"], NOW)


def handshake(folder: Path, name: str, ca: bytes) -> None:
    """Do a TLS handshake in memory, both sides with certificates; raises SSLError."""
    for file, content in (("crt", PAIR.crt + PAIR.key), ("ca", ca)):
        (folder / file).write_bytes(content)
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for side in (server_side, client_side):
        side.load_cert_chain(folder / "crt")
        side.load_verify_locations(folder / "ca")
        side.verify_flags |= ssl.VERIFY_X509_STRICT
        side.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for each in (client, server):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.getpeercert()
    assert server.getpeercert()


@pytest.mark.parametrize("name", [SERVER_NAME, "controlplane.koupleless-system.svc"])
@pytest.mark.parametrize("bundle", [AUTHORITY.crt, AUTHORITY.crt + OTHER.crt, OTHER.crt + AUTHORITY.crt])
def test_both_sides_trust_it_during_a_rotation_too(tmp_path: Path, name: str, bundle: bytes) -> None:
    handshake(tmp_path, name, bundle)


@pytest.mark.parametrize(("name", "bundle"), [("another.name", AUTHORITY.crt), (SERVER_NAME, OTHER.crt)])
def test_another_name_or_ca_is_refused(tmp_path: Path, name: str, bundle: bytes) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, name, bundle)


def test_a_certificate_does_not_outlive_its_ca() -> None:
    late = issuing.sign(AUTHORITY, (), NOW + AUTHORITY_LIFE - DAY)
    leaf = read_leaf(Certificates.read(late.crt), late.key, Certificates.read(AUTHORITY.crt))
    assert leaf.not_after == Certificates.read(AUTHORITY.crt).authorities()[0].not_after


def test_a_key_that_is_not_a_ca_s_signs_nothing() -> None:
    assert Certificates.read(AUTHORITY.crt).signer(AUTHORITY.key)
    assert not Certificates.read(PAIR.crt).signer(PAIR.key)
    assert not Certificates.read(AUTHORITY.crt).signer(OTHER.key)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(AUTHORITY.crt) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(PAIR.key)))
def test_broken_bytes_are_read_or_refused(at: int, byte: int, cut: int) -> None:
    broken = AUTHORITY.crt[:at] + bytes([byte]) + AUTHORITY.crt[at + 1 :]
    try:
        found = Certificates.read(broken)
    except Unusable:
        found = Certificates()
    assert found.signer(AUTHORITY.key[:cut]) in {"", *(each.id for each in found.authorities())}
    try:
        assert read_leaf(Certificates.read(PAIR.crt), PAIR.key, found).names
    except Unusable as error:
        raise AssertionError from error


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=500))
def test_arbitrary_bytes_are_no_key(content: bytes) -> None:
    with pytest.raises(Unusable):
        read_key(content)


@pytest.mark.parametrize("address", ["10.96.0.7", "fd00::7"])
def test_an_address_is_an_address_in_the_certificate(address: str) -> None:
    """Clients that connect to an address look for it among addresses, not among names."""
    pair = issuing.sign(AUTHORITY, [address], NOW)
    alternatives = x509.load_pem_x509_certificate(pair.crt).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(each) for each in alternatives.value.get_values_for_type(x509.IPAddress)] == [address]
    leaf = read_leaf(Certificates.read(pair.crt), pair.key, Certificates.read(AUTHORITY.crt))
    assert leaf.names == {SERVER_NAME, address}
