"""How to talk to the API server: where it is, who we are to it, through which proxy.

The proxy is that of the kubeconfig, whatever the environment says, else that of the environment, whose variables mean
what they mean to Go programs, kubectl among them. Python's own reading of them (urllib) knows no networks in NO_PROXY
and takes ``.example.com`` for ``example.com``.

Source: golang.org/x/net/http/httpproxy; client-go, tools/clientcmd/helpers.go.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from kubeaccess.authorization import CannotConnect
from service.listening import host_port
from service.secrets import register

_PORTS = {"http": 80, "https": 443, "socks5": 1080}


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """A proxy between us and the API server; scheme is http, https or socks5. It is not printed, for its secrets."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        """Its URL, without user and password, so that no error of a library has them."""
        return f"{self.scheme}://{host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """How to talk to the API server now.

    authorization is a header's value or empty; impersonation is headers that say as whom we act; tls is None for plain
    http; ends_at is when the credential ends (seconds since the epoch), None if it does not or nobody says.
    It is not printed, for its secrets.
    """

    host: str
    authorization: str = ""
    impersonation: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: Proxy | None = None
    compressed: bool = True
    ends_at: float | None = None


def choose_proxy(server: str, proxy_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy to a server, None when it is reached directly; raises CannotConnect."""
    if proxy_url:
        return _proxy(proxy_url, "proxy-url")
    scheme = urlsplit(server).scheme
    for variable in (f"{scheme.upper()}_PROXY", f"{scheme}_proxy"):
        if url := environ.get(variable):
            excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
            if not is_proxied(server, excepted):
                return None
            known = url.partition("://")[0].lower() in (*_PORTS, "socks5h")
            return _proxy(url if known else f"http://{url}", variable)
    return None


def is_proxied(server: str, excepted: str) -> bool:
    """Return whether a server is not one of those that NO_PROXY excepts, nor on this machine."""
    parts = urlsplit(server)
    host = (parts.hostname or "").rstrip(".")
    port = str(parts.port or _PORTS[parts.scheme])
    network = _network(host)
    if host == "localhost" or (network is not None and network.is_loopback):
        return False
    rules = [rule for part in excepted.split(",") if (rule := part.strip().lower())]
    return not any(_excepts(rule, host, port) for rule in rules)


def _excepts(rule: str, host: str, port: str) -> bool:
    if rule == "*":
        return True
    name, of_port = rule, ""
    if ":" in rule and _network(rule) is None:
        name, _, of_port = rule.rpartition(":")
    network, of_host = _network(name), _network(host)
    if not name or of_port not in ("", port):
        return False
    if network is not None:
        return of_host is not None and of_host.network_address in network
    # example.com is meant with its subdomains, .example.com and *.example.com are the subdomains alone.
    suffix = name.removeprefix("*")
    return host.endswith(suffix) if suffix.startswith(".") else host == suffix or host.endswith(f".{suffix}")


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return a network, or an address as one; None for what is neither."""
    try:
        return ipaddress.ip_network(text.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return None


def _proxy(url: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Not its own text, which may have the password in it.
        raise CannotConnect(f"{variable}: is not a URL") from None
    scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
    shown = f"{variable}={parts.scheme}://{parts.hostname or ''}"
    if scheme not in _PORTS or not parts.hostname:
        raise CannotConnect(f"{shown}: must be http://, https:// or socks5:// and a host")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme == "socks5" and not (user + password).isascii():
        raise CannotConnect(f"{shown}: user and password of a SOCKS proxy must be ASCII")
    register("proxy: password", password)
    return Proxy(scheme, parts.hostname, port or _PORTS[scheme], user, password)
