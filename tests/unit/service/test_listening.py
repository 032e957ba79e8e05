"""Addresses that a program listens on: which are accepted, and where others reach them."""

import pytest

from controlplane.settings import ControlPlaneSettings
from service.listening import host_port, is_loopback, is_unspecified, local_host, parse_host


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "10.1.2.3", "fd00::7", "localhost", "pod-0.example", "fe80::1%eth0"])
def test_addresses_and_names_are_taken_as_they_are(text: str) -> None:
    assert parse_host(text) == text


def test_brackets_of_an_ipv6_address_are_dropped() -> None:
    assert parse_host("[::]") == "::"


@pytest.mark.parametrize("text", ["10.1.2.3:8081", "[::]:8081", ":8081", "http://x", "a b", "*", "fd00::x", "[::"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither an address nor a host name"):
        parse_host(text)


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("::1", "::1"),
        ("10.1.2.3", "10.1.2.3"),
        ("localhost", "localhost"),
    ],
)
def test_a_listener_is_reached_from_its_own_machine(host: str, reached_at: str) -> None:
    assert local_host(host) == reached_at
    assert is_unspecified(host) == (host in ("", "0.0.0.0", "::"))


def test_an_ipv6_address_is_written_in_brackets_before_a_port() -> None:
    assert [host_port(host, 1) for host in ("a", "10.0.0.1", "::1")] == ["a:1", "10.0.0.1:1", "[::1]:1"]


@pytest.mark.parametrize(
    ("host", "pod_ip", "advertised"),
    [
        ("", "", ""),
        ("127.0.0.1", "10.0.0.7", "127.0.0.1:50051"),
        ("", "fd00::7", "[fd00::7]:50051"),
        ("::", "10.0.0.7", "10.0.0.7:50051"),
        ("10.0.0.8", "10.0.0.7", "10.0.0.8:50051"),
        ("cp-0.example", "", "cp-0.example:50051"),
        ("cp-0.example", "10.0.0.7", "10.0.0.7:50051"),
    ],
)
def test_a_replica_advertises_where_others_reach_it(host: str, pod_ip: str, advertised: str) -> None:
    given = {"grpc_host": host, "pod_ip": pod_ip, "grpc_insecure": True}
    assert ControlPlaneSettings.model_validate(given).reached_at == advertised


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        *[(each, True) for each in ("127.0.0.1", "127.8.8.8", "::1", "localhost")],
        *[(each, False) for each in ("", "::", "0.0.0.0", "10.0.0.7", "localhost.example", "controller")],
    ],
)
def test_loopback_is_what_no_other_machine_reaches(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


@pytest.mark.parametrize(
    ("host", "token", "listens_on"),
    [
        ("", "", "localhost"),
        ("::", "", "localhost"),
        ("0.0.0.0", "", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("::1", "", "::1"),
        ("10.0.0.7", "", None),
        ("controller", "", None),
        *[(each, "t", each) for each in ("", "0.0.0.0", "10.0.0.7", "controller", "127.0.0.1")],
    ],
)
def test_without_a_token_reports_come_from_this_machine_alone(host: str, token: str, listens_on: str | None) -> None:
    settings = ControlPlaneSettings.model_validate({"status_host": host, "report_token": token})
    assert settings.report_host == listens_on
    complaints = [line for line in settings.complaints() if "REPORT_TOKEN" in line]
    assert bool(complaints) is (listens_on is None)
