"""Which proxy the API server is reached through: that of the kubeconfig, else that of the environment.

The environment's variables mean what they mean to Go programs, kubectl among them;
the proxy of a kubeconfig is used whatever they say.

Source: golang.org/x/net/http/httpproxy; client-go, tools/clientcmd/helpers.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from controlplane.kube.access import CannotConnect, Proxy

_PORTS = {"http": 80, "https": 443, "socks5": 1080}


def choose(server: str, proxy_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy to a server, None when it is reached directly; raises CannotConnect."""
    if proxy_url:
        return _proxy(proxy_url, "proxy-url")
    scheme = urlsplit(server).scheme.upper()
    for variable in (f"{scheme}_PROXY", f"{scheme}_PROXY".lower()):
        if url := environ.get(variable):
            excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
            if not proxied(server, excepted):
                return None
            known = url.partition("://")[0].lower() in (*_PORTS, "socks5h")
            return _proxy(url if known else f"http://{url}", variable)
    return None


def proxied(server: str, excepted: str) -> bool:
    """Tell whether a server is not one of those that NO_PROXY excepts, nor on this machine."""
    parts = urlsplit(server)
    host = (parts.hostname or "").rstrip(".")
    port = str(parts.port or _PORTS[parts.scheme])
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    rules = [rule for part in excepted.split(",") if (rule := part.strip().lower())]
    return not any(_excepts(rule, host, port, address) for rule in rules)


def _excepts(rule: str, host: str, port: str, address: _Address | None) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        network = _network(rule)
        return network is not None and address is not None and address in network
    of_host, of_port = _host_and_port(rule)
    if not of_host or (of_port and of_port != port):
        return False
    of_address = _address(of_host)
    if of_address is not None:
        return of_address == address
    # example.com is meant with its subdomains, .example.com and *.example.com are the subdomains alone.
    suffix = of_host.removeprefix("*")
    return host.endswith(suffix) if suffix.startswith(".") else host == suffix or host.endswith(f".{suffix}")


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _host_and_port(rule: str) -> tuple[str, str]:
    if rule.startswith("[") or rule.count(":") == 1:
        host, _, port = rule.rpartition(":") if not rule.endswith("]") else (rule, "", "")
        return host, port
    return rule, ""


def _proxy(url: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CannotConnect(f"{variable}: {error}") from None
    scheme = parts.scheme.removesuffix("h") if parts.scheme == "socks5h" else parts.scheme
    if scheme not in _PORTS or not parts.hostname:
        raise CannotConnect(f"{variable}={_shown(parts)}: must be http://, https:// or socks5:// and a host")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme == "socks5" and not (user + password).isascii():
        raise CannotConnect(f"{variable}={_shown(parts)}: user and password of a SOCKS proxy must be ASCII")
    return Proxy(scheme, parts.hostname, port or _PORTS[scheme], user, password)


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname or ''}"
