"""Certificate files: errors name variable, value, cause and fix; changes are taken while a server runs."""

import asyncio
import contextlib
import os
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from prometheus_client import REGISTRY

from service import tls
from service.tls import Certificates, Contents, Files, PemFile, WrongCertificates, context_of
from tests.certificates import issued


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return issued(tmp_path)


def problem(files: Files) -> str:
    with pytest.raises(WrongCertificates) as error:
        files.load()
    return str(error.value)


def spoil(files: Files) -> None:
    Path(files.crt.path).write_text("rubbish")


def reloads(outcome: str) -> float:
    return REGISTRY.get_sample_value("koupleless_file_reloads_total", {"files": "test", "outcome": outcome}) or 0.0


def test_good_files_make_a_context_that_asks_for_client_certificates(files: Files, tmp_path: Path) -> None:
    loaded = files.load()
    contents, context = loaded.contents, loaded.context
    assert context.verify_mode is ssl.CERT_OPTIONAL
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert contents == Contents(*((tmp_path / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")))


def test_without_a_client_ca_no_certificate_is_asked_for(files: Files) -> None:
    loaded = replace(files, client_ca=None).load()
    contents, context = loaded.contents, loaded.context
    assert context.verify_mode is ssl.CERT_NONE
    assert contents.client_ca == b""


def test_the_key_is_not_shown(files: Files) -> None:
    assert "PRIVATE KEY" not in repr(files.load())


@pytest.mark.parametrize(("name", "variable"), [("tls.crt", "CRT"), ("tls.key", "KEY"), ("ca.crt", "CA")])
def test_a_missing_file_is_named(files: Files, tmp_path: Path, name: str, variable: str) -> None:
    (tmp_path / name).unlink()
    assert problem(files) == (
        f"{variable}={tmp_path / name}: cannot be read (No such file or directory); mount a certificate there, "
        f"name another file with {variable}, or do without"
    )


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("content", [b"", b"no PEM at all", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\xff" * 100])
def test_a_file_without_pem_is_named(files: Files, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"={tmp_path / name}" in problem(files)


def test_a_key_of_another_certificate_is_reported(files: Files) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(files.key.path)
    assert "not a certificate and its key" in problem(files)


def test_a_key_with_a_password_is_reported_without_asking_for_it(files: Files) -> None:
    locked = f"{files.key.path}.locked"
    command = ["openssl", "pkey", "-in", files.key.path, "-aes256", "-passout", "pass:x", "-out", locked]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert "the key has a password" in problem(replace(files, key=PemFile("KEY", locked)))


def test_contents_and_context_are_of_one_version(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal between the two reads is noticed, and read again."""
    make = tls.empty_context
    renewals = iter([True])

    def renew(alpn: tuple[str, ...], *, client_certificates: bool) -> ssl.SSLContext:
        if next(renewals, False):
            issued(tmp_path)
        return make(alpn, client_certificates=client_certificates)

    monkeypatch.setattr(tls, "empty_context", renew)
    contents = files.load().contents
    assert contents.crt == Path(files.crt.path).read_bytes()


def test_files_that_never_stand_still_are_refused(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tls.empty_context

    def renew(alpn: tuple[str, ...], *, client_certificates: bool) -> ssl.SSLContext:
        issued(tmp_path)
        return make(alpn, client_certificates=client_certificates)

    monkeypatch.setattr(tls, "empty_context", renew)
    assert "change while they are read" in problem(files)


class TestCertificates:
    async def follow(self, certificates: Certificates, until: str, times: float) -> None:
        """Follow the files until an outcome was counted so often."""
        following = asyncio.create_task(certificates.follow())
        async with asyncio.timeout(10):
            while reloads(until) < times:  # noqa: ASYNC110 - counters have no event
                await asyncio.sleep(0)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    async def test_changed_files_are_taken(self, files: Files, tmp_path: Path) -> None:
        certificates = Certificates(files, "test", look_every=0)
        await certificates.load()
        before = certificates.contents, certificates.context
        issued(tmp_path)
        await self.follow(certificates, "taken", reloads("taken") + 1)
        assert certificates.changed.is_set()
        assert certificates.contents.crt == files.crt.read("") != before[0].crt
        assert certificates.context is not before[1]

    async def test_files_that_cannot_be_used_change_nothing(self, files: Files) -> None:
        certificates = Certificates(files, "test", look_every=0)
        await certificates.load()
        before = certificates.contents, certificates.context
        spoil(files)
        await self.follow(certificates, "unusable", reloads("unusable") + 1)
        assert (certificates.contents, certificates.context) == before

    async def test_files_that_cannot_be_used_stop_the_start(self, files: Files) -> None:
        spoil(files)
        with pytest.raises(WrongCertificates):
            await Certificates(files, "test").load()

    async def test_a_client_ca_needs_the_present_context(self, files: Files) -> None:
        with pytest.raises(ValueError, match="client CA"):
            Certificates(files, "test").following_context()


@pytest.mark.parametrize("memfd", [True, False])
class TestContentsInMemory:
    @pytest.fixture(autouse=True)
    def _memfd(self, monkeypatch: pytest.MonkeyPatch, memfd: bool) -> None:
        if not memfd:
            monkeypatch.delattr(os, "memfd_create", raising=False)

    def test_they_make_a_context_and_leave_nothing_open(self, files: Files) -> None:
        contents = files.load().contents
        before = len(os.listdir("/proc/self/fd"))
        context = context_of(contents)
        assert len(os.listdir("/proc/self/fd")) == before
        assert context.verify_mode is ssl.CERT_OPTIONAL
        assert len(context.get_ca_certs()) == 1
        assert context_of(replace(contents, client_ca=b"")).verify_mode is ssl.CERT_NONE

    @pytest.mark.parametrize("part", ["crt", "key", "client_ca"])
    def test_what_is_no_pem_is_refused(self, files: Files, part: str) -> None:
        broken = replace(files.load().contents, **{part: b"rubbish"})
        with pytest.raises((ssl.SSLError, ValueError)):
            context_of(broken)
