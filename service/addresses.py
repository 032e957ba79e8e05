"""Which addresses a base may have, so that nobody can make us call what is not a base.

Only IP literals count: no name is ever resolved for a base. An IPv4 address that is written as IPv6 is judged as the
IPv4 address that it is.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


KEPT = 16_384
"""Addresses that passed, which need not be judged again: those that were asked for last."""


class AddressRefused(ValueError):
    """The address may not be called; the message says why, for people."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas; raises ValueError, which says what is expected."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"{error}; give networks such as 10.0.0.0/8,fc00::/7") from None


DEFAULT_NETWORKS = parse_networks("10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7")
"""Private networks, and the range of carrier-grade NAT, which clusters use for Pods."""

_SPECIAL: Mapping[str, tuple[Network, ...]] = {
    "an unspecified": parse_networks("0.0.0.0/8, ::/128"),
    "a loopback": parse_networks("127.0.0.0/8, ::1/128"),
    "a link-local": parse_networks("169.254.0.0/16, fe80::/10"),
    "a multicast": parse_networks("224.0.0.0/4, ff00::/8"),
    "a reserved": parse_networks("240.0.0.0/4"),
    "a cloud metadata": parse_networks(
        "169.254.169.254/32, 169.254.170.2/32, 168.63.129.16/32, 100.100.100.200/32, 192.0.0.192/32, "
        "fd00:ec2::254/128, fd20:ce::254/128"
    ),
}


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from first to last."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """Return the ports of a list with commas; raises ValueError, which says what is expected."""
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        first, dash, last = part.partition("-")
        try:
            ports = PortRange(int(first), int(last if dash else first))
        except ValueError:
            raise ValueError(f"{part!r} is not a port or a range of ports; give such as 443,8000-8099") from None
        if not 0 < ports.first <= ports.last < 65536:
            raise ValueError(f"{part!r} is not within 1-65535, or ends before it begins; give such as 443,8000-8099")
        found.append(ports)
    return tuple(found)


_NO_PORTS_OF_BASES: Mapping[str, tuple[PortRange, ...]] = {
    "below 1024": parse_ports("1-1023"),
    "a port of the Kubernetes API server": parse_ports("6443"),
    "a port of kubelets or kube-proxy": parse_ports("10250,10255,10256"),
    "a port of etcd": parse_ports("2379,2380"),
}


class AddressPolicy:
    """The networks and ports that bases may have; without listed ports every port is one.

    An address in a special range (loopback, link-local, metadata, ...) must lie in a listed network that is itself
    inside that range: 0.0.0.0/0 does not list loopback.
    """

    def __init__(self, allowed: Iterable[Network], ports: Iterable[PortRange] | None = None) -> None:
        self._allowed = tuple(allowed)
        self._ports = None if ports is None else tuple(ports)
        self._passed = lru_cache(KEPT)(self._judged)

    def check(self, ip: str, port: int) -> str:
        """Return the address in its plain form. Raises AddressRefused."""
        return self._passed(ip, port)

    def _judged(self, ip: str, port: int) -> str:
        if not 0 < port < 65536:
            raise AddressRefused(f"port {port} is not in 1 to 65535")
        if self._ports is not None and not any(port in listed for listed in self._ports):
            for name, ranges in _NO_PORTS_OF_BASES.items():
                if any(port in each for each in ranges):
                    raise AddressRefused(f"port {port} is {name}, which HTTP_TUNNEL_ALLOWED_PORTS does not list")
        address = parse(ip)
        inside = [network for network in self._allowed if address in network]
        for name, networks in _SPECIAL.items():
            for special in networks:
                # Of two networks that have the address in common the one with the longer prefix lies in the other.
                if address in special and all(network.prefixlen < special.prefixlen for network in inside):
                    raise AddressRefused(f"{address} is {name} address, which HTTP_TUNNEL_ALLOWED_CIDRS does not list")
        if not inside:
            raise AddressRefused(f"{address} is in no network of HTTP_TUNNEL_ALLOWED_CIDRS")
        return str(address)


def parse(ip: str) -> IpAddress:
    """Return the address that a literal names. Raises AddressRefused."""
    if not ip:
        raise AddressRefused("the IP address is missing")
    if len(ip) > 64 or "%" in ip:
        raise AddressRefused("not an IP address")
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise AddressRefused(f"{ip!r} is not an IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
