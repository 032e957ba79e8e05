"""Certificates for tests: a CA, a server's certificate and key as files in a folder."""

from collections.abc import Sequence
from pathlib import Path

import trustme

from service.tls import Files, PemFile


def issued(
    folder: Path,
    ca: trustme.CA | None = None,
    *,
    client_ca: bool = True,
    prefix: str = "",
    names: Sequence[str] = ("127.0.0.1",),
) -> Files:
    """Write ca.crt, tls.crt and tls.key for names and return them under PREFIXCRT, PREFIXKEY and PREFIXCA."""
    authority = ca or trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    leaf = authority.issue_cert(*names)
    leaf.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    leaf.private_key_pem.write_to_path(str(folder / "tls.key"))
    return Files(
        crt=PemFile(f"{prefix}CRT", str(folder / "tls.crt")),
        key=PemFile(f"{prefix}KEY", str(folder / "tls.key")),
        client_ca=PemFile(f"{prefix}CA", str(folder / "ca.crt")) if client_ca else None,
        otherwise="do without",
    )
