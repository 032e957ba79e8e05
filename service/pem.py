"""Certificates and keys that are in no file, for OpenSSL, which reads them from files alone."""

import os
import ssl
import tempfile
from typing import IO, NoReturn


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Have a context use a certificate and its key, both PEM, without writing them to a disk. Blocks.

    Raises OSError, of which ssl.SSLError is one, and ValueError for a key with a password.
    """
    with _in_memory() as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=no_password)


def no_password() -> NoReturn:
    """Refuse a key with a password: one that is asked for on the terminal would hang the program."""
    raise ValueError("the key has a password")


def _in_memory() -> IO[bytes]:
    # Builds of Python for every Linux, as uv installs them, leave memfd_create out.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("certificate"), "w+b")
    return tempfile.TemporaryFile(dir="/dev/shm")
