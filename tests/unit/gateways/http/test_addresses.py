"""Addresses, identities, environments, endpoints and settings are accepted or refused."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.arklet.names import InvalidName, parse_env, parse_identity
from gateways.http.settings import HttpGatewaySettings
from gateways.session.endpoints import parse
from service.addresses import DEFAULT_NETWORKS, AddressPolicy, AddressRefused, parse_ports
from service.listening import host_port
from service.settings import ConfigurationError, read

DEFAULT = AddressPolicy(DEFAULT_NETWORKS)


def policy(*networks: str) -> AddressPolicy:
    return AddressPolicy(ipaddress.ip_network(network) for network in networks)


@pytest.mark.parametrize("ip", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "FD00:0::1"])
def test_private_addresses_are_allowed(ip: str) -> None:
    assert DEFAULT.check(ip, 1238) == str(ipaddress.ip_address(ip))


def test_an_ipv4_address_in_ipv6_form_is_that_ipv4_address() -> None:
    assert DEFAULT.check("::ffff:10.0.0.1", 1238) == "10.0.0.1"
    with pytest.raises(AddressRefused, match="loopback"):
        DEFAULT.check("::ffff:127.0.0.1", 1238)
    with pytest.raises(AddressRefused, match="link-local"):
        policy("0.0.0.0/0", "::/0").check("::ffff:169.254.169.254", 80)


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", "::1", "169.254.1.1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::",
     "255.255.255.255", "100.100.100.200", "fd00:ec2::254", "168.63.129.16", "8.8.8.8", "2001:db8::1"],
)  # fmt: skip
def test_special_and_foreign_addresses_are_refused(ip: str) -> None:
    with pytest.raises(AddressRefused):
        DEFAULT.check(ip, 1238)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "169.254.1.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"])
def test_a_network_of_everything_lists_no_special_address(ip: str) -> None:
    with pytest.raises(AddressRefused, match="does not list"):
        policy("0.0.0.0/0", "::/0").check(ip, 1238)


def test_special_addresses_can_be_listed_explicitly() -> None:
    assert policy("127.0.0.1/32").check("127.0.0.1", 1) == "127.0.0.1"
    assert policy("127.0.0.0/8").check("127.9.9.9", 1) == "127.9.9.9"
    assert policy("::1/128").check("::1", 1) == "::1"
    with pytest.raises(AddressRefused, match="metadata"):
        policy("169.254.0.0/16").check("169.254.169.254", 80)


@pytest.mark.parametrize(
    "ip", ["", "localhost", "10.0.0.1/8", "10.0.0", "0x7f.1", "010.0.0.1", "fe80::1%eth0", "1" * 99]
)
def test_only_plain_literals_are_addresses(ip: str) -> None:
    with pytest.raises(AddressRefused):
        DEFAULT.check(ip, 1238)


@pytest.mark.parametrize("port", [-1, 0, 65536, 70000])
def test_ports_outside_the_range_are_refused(port: int) -> None:
    with pytest.raises(AddressRefused, match="port"):
        DEFAULT.check("10.0.0.1", port)


PORTS_OF_OTHERS = {*range(1, 1024), 6443, 10250, 10255, 10256, 2379, 2380}


@given(st.integers(1, 65535) | st.sampled_from(sorted(PORTS_OF_OTHERS)))
def test_ports_of_others_are_refused_unless_listed(port: int) -> None:
    listed = AddressPolicy(DEFAULT_NETWORKS, parse_ports(f"{port}"))
    assert listed.check("10.0.0.1", port) == DEFAULT.check("10.0.0.1", port) == "10.0.0.1"
    closed = AddressPolicy(DEFAULT_NETWORKS, ())
    if port in PORTS_OF_OTHERS:
        with pytest.raises(AddressRefused, match="HTTP_TUNNEL_ALLOWED_PORTS does not list"):
            closed.check("10.0.0.1", port)
    else:
        assert closed.check("10.0.0.1", port) == "10.0.0.1"


@given(st.ip_addresses())
def test_addresses_that_are_allowed_by_default_are_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        DEFAULT.check(str(address), 1)
    except AddressRefused:
        return
    assert not address.is_loopback
    assert not address.is_link_local
    assert not address.is_multicast
    assert not address.is_unspecified
    assert not address.is_global


@pytest.mark.parametrize("identity", ["10.0.0.7", "base-1", "a", "a.b-c.d", "0"])
def test_valid_identities_are_accepted(identity: str) -> None:
    assert parse_identity(identity, "dev") == identity


@pytest.mark.parametrize(
    "identity", ["", "A", "a/b", "a+", "#", "-a", "a-", "a..b", ".a", "a.", "a b", "ä", "a\n", "x" * 64]
)
def test_invalid_identities_are_refused(identity: str) -> None:
    with pytest.raises(InvalidName):
        parse_identity(identity, "dev")


def test_the_node_name_bounds_the_identity() -> None:
    fits = ".".join(["a" * 60] * 4)
    assert len(f"vnode.{fits}.dev") == 253
    assert parse_identity(fits, "dev") == fits
    with pytest.raises(InvalidName, match="253"):
        parse_identity(fits, "prod")


def test_an_environment_is_one_dns_label() -> None:
    assert parse_env("Prod-1") == "prod-1"
    for bad in ("", "a.b", "-", "a_b"):
        with pytest.raises(InvalidName):
            parse_env(bad)


def test_an_endpoint_is_a_host_and_a_port() -> None:
    assert parse("host:1") == ("host", 1)
    assert parse("[::1]:50051") == ("::1", 50051)
    assert host_port("::1", 5) == "[::1]:5"
    for bad in ("", "host", ":1", "host:", "host:0", "host:65536", "::1:5", "host:x", "host:²"):
        with pytest.raises(ValueError, match=r"host:port|in brackets"):
            parse(bad)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_TUNNEL_LISTEN_PORT", "70000"),
        ("HTTP_TUNNEL_LISTEN_PORT", "http"),
        ("HTTP_TUNNEL_ALLOWED_CIDRS", "10.0.0.1/8"),
        ("HTTP_TUNNEL_ALLOWED_CIDRS", "everything"),
        ("HTTP_TUNNEL_ALLOWED_PORTS", "http"),
        ("HTTP_TUNNEL_ALLOWED_PORTS", "0"),
        ("HTTP_TUNNEL_ALLOWED_PORTS", "90-80"),
        ("HTTP_TUNNEL_ALLOWED_PORTS", "1-65536"),
        ("HTTP_TUNNEL_PEER_CHECK", "maybe"),
        ("CONTROL_PLANE", "host"),
        ("CONTROL_PLANE", ","),
        ("ENV", "a.b"),
        ("LOG_LEVEL", "loud"),
        ("HTTP_TUNNEL_QUERY_TIMEOUT", "0"),
        ("HTTP_TUNNEL_POLL_CONCURRENCY", "many"),
    ],
)
def test_wrong_settings_name_the_variable_and_the_value(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        read(HttpGatewaySettings)
    assert f"{variable}={value}" in str(refused.value)


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "Prod")
    monkeypatch.setenv("CONTROL_PLANE", "localhost:1, 127.0.0.1:2")
    monkeypatch.setenv("HTTP_TUNNEL_ALLOWED_CIDRS", "10.0.0.0/8,::1/128")
    settings = read(HttpGatewaySettings)
    assert settings.env == "prod"
    assert settings.control_plane == ("localhost:1", "127.0.0.1:2")
    assert [str(network) for network in settings.allowed_cidrs] == ["10.0.0.0/8", "::1/128"]
