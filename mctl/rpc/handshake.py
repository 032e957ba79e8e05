"""Why TLS with a server does not work, found out by a handshake of our own: gRPC says it in words that change.

No credential is sent but the client certificate, and this only over the TLS that is looked at.
"""

import contextlib
import queue
import socket
import ssl
import threading
from functools import partial
from typing import NamedTuple

from kubeaccess.tls import Material, context

_NAME_MISMATCH = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""
_OUT_OF_TIME = {9: "is not valid yet", 10: "has expired"}
_PLAINTEXT = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


class Problem(NamedTuple):
    """What is wrong with TLS and how to put it right; not certain where a server that ends looks the same."""

    text: str
    certain: bool = True


def problem(server: str, server_name: str, tls: Material | None, within: float) -> Problem | None:
    """Return what is wrong with TLS, None when it is not that or not found out within so many seconds. Blocks."""
    found: queue.Queue[Problem | None] = queue.Queue()
    # In a thread that may be left behind: nothing bounds how long a name is looked up.
    looking = partial(_look, server, server_name, tls, within)
    threading.Thread(target=lambda: found.put(looking()), name="handshake", daemon=True).start()
    try:
        return found.get(timeout=within)
    except queue.Empty:
        return None


def _look(server: str, server_name: str, tls: Material | None, within: float) -> Problem | None:
    host, _, port = server.rpartition(":")
    address = (host.removeprefix("[").removesuffix("]"), int(port))
    name = server_name or address[0]
    try:
        if tls is None:
            return _of_plaintext(server, address, within)
        return _of_tls(server, address, name, tls, within)
    except OSError:  # nobody is there, or it does not answer: that is not about TLS
        return None


def _of_plaintext(server: str, address: tuple[str, int], within: float) -> Problem | None:
    anything = context(Material(insecure=True))
    try:
        _shake(anything, address, "", within)
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return None
    except EOFError:
        pass  # after a handshake
    return Problem(
        f"{server} speaks TLS, and was asked in plaintext: name the CA of the control plane with --ca or MCTL_CA "
        "(and its name with --server-name), or mctl login"
    )


def _of_tls(server: str, address: tuple[str, int], name: str, tls: Material, within: float) -> Problem | None:
    try:
        _shake(context(tls), address, name, within)
    except ssl.SSLCertVerificationError as error:
        return Problem(_of_certificate(server, address, name, tls, within, error))
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        if reason in _PLAINTEXT:
            return Problem(
                f"{server} does not speak TLS: check address and port, and give that control plane a certificate; "
                "plaintext is for loopback addresses only, without --ca, --cert and --server-name"
            )
        words = reason.lower().replace("_", " ")
        return Problem(_refused(server, words) if "ALERT" in reason else f"no TLS with {server}: {words}")
    except EOFError:
        return Problem(_refused(server, "connection closed"), certain=False)
    return None


def _refused(server: str, words: str) -> str:
    return f"{server} ended the TLS handshake ({words}): it wants another client certificate: --cert and --key"


def _of_certificate(
    server: str,
    address: tuple[str, int],
    name: str,
    tls: Material,
    within: float,
    error: ssl.SSLCertVerificationError,
) -> str:
    if error.verify_code in _OUT_OF_TIME:
        return (
            f"the certificate of {server} {_OUT_OF_TIME[error.verify_code]}: renew it there, or correct the clock here"
        )
    if error.verify_code in _NAME_MISMATCH:
        names = ", ".join(_names(tls, address, name, within)) or "no name"
        return (
            f"the certificate of {server} is not for {name}: it is for {names}; "
            "if one of these is the server that you mean, name it with --server-name"
        )
    trusted = "the CA that was given" if tls.ca else "any public CA"
    return (
        f"the certificate of {server} is not from {trusted} ({error.verify_message}): it is another server, or give "
        "the CA of this control plane with --ca or MCTL_CA, or mctl login"
    )


def _names(tls: Material, address: tuple[str, int], name: str, within: float) -> list[str]:
    """Return the names of a certificate that is from the right CA."""
    of_any_name = ssl.create_default_context(cadata=tls.ca.decode() if tls.ca else None)
    of_any_name.verify_flags &= ~ssl.VERIFY_X509_STRICT
    of_any_name.check_hostname = False
    try:
        found = _shake(of_any_name, address, name, within)
    except (OSError, EOFError):
        return []
    return [str(value) for kind, value in found if kind in ("DNS", "IP Address")]


def _shake(tls: ssl.SSLContext, address: tuple[str, int], name: str, within: float) -> tuple[tuple[str, str], ...]:
    """Return the names of the server's certificate, as far as it was checked, after the first byte of its answer.

    Only with that byte a server has accepted the client's certificate. Raises OSError, and EOFError where it ends the
    connection instead.
    """
    tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(address, timeout=within) as raw,
        tls.wrap_socket(raw, server_hostname=name or None) as connection,
    ):
        certificate = connection.getpeercert() or {}
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                raise EOFError
        names: tuple[tuple[str, str], ...] = tuple(certificate.get("subjectAltName", ()))  # type: ignore[arg-type]
        return names
